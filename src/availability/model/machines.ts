/** Nodes and backends as machines, with the zones, power feeds and switches that they share. */
import { type Literal, TRUE } from "../engine/tree.ts";
import type { Part } from "./site-model.ts";
import type { Workbook } from "./workbook.ts";

export interface Machine {
  readonly name: string;
  readonly gate: Literal;
  readonly naive: Literal;
  /** Failures per hour that take it away alone, zones and single feeds included; and those of its own parts. */
  readonly rate: number;
  readonly ownRate: number;
  readonly ownUnavailability: number;
  readonly down: boolean;
}

interface Shared {
  readonly literal: Literal;
  readonly rate: number;
}

export class Machines {
  readonly #book: Workbook;
  /** Told apart by address: a backend in two pools, or on a node of the site, is one. */
  readonly #known = new Map<string, Machine>();
  readonly #shared = new Map<string, Shared>();

  constructor(book: Workbook) {
    this.#book = book;
  }

  node(name: string): Machine {
    const node = this.#book.site.nodes[name]!;
    return this.#machine(name, node.address, node.zone, false);
  }

  backend(name: string, address: string, zone: string | undefined): Machine {
    return this.#machine(name, address, zone, true);
  }

  /** A proxy without a virtual router: each node serves at its own address. */
  anyNode(): Part {
    const { site, tree } = this.#book;
    const machines = Object.keys(site.nodes).map((name) => this.node(name));
    return {
      honest: [tree.and("every node is down", ...machines.map((machine) => machine.gate))],
      naive: tree.and("every node is down (alone)", ...machines.map((machine) => machine.naive)),
    };
  }

  #machine(name: string, address: string, zone: string | undefined, isBackend: boolean): Machine {
    const known = this.#known.get(address);
    if (known !== undefined) return known;
    const book = this.#book;
    const { site, tree } = book;
    const nodeHere = Object.entries(site.nodes).find(([, node]) => node.address === address);
    const own = site.availability.machines[name];
    const label = nodeHere?.[0] ?? name;
    const parts = [
      book.component(label, "hardware", `${label} hardware`, own?.hardware),
      book.component(label, "system", `${label} system`, own?.system),
    ];
    if (isBackend && nodeHere === undefined)
      parts.push(book.component(label, "application", `${label} application`, own?.application));
    for (const [part, rates] of Object.entries(own?.parts ?? {}))
      parts.push(book.component(label, "hardware", `${label} ${part}`, rates));
    const ownRate = parts.reduce((sum, part) => sum + part.rate, 0);
    const ownUnavailability = parts.reduce((sum, part) => sum + part.unavailability, 0);
    const naive = tree.or(`${label} (alone)`, ...parts.map((part) => part.literal));
    const surroundings = this.#surroundings([name, label], label, nodeHere?.[1].zone ?? zone);
    const down = book.isDown(name) || book.isDown(label);
    const machine: Machine = {
      name: label,
      gate: down ? TRUE : tree.or(`${label} is down`, naive, ...surroundings.map(({ literal }) => literal)),
      naive: down ? TRUE : naive,
      rate: surroundings.reduce((sum, { rate }) => sum + rate, ownRate),
      ownRate,
      ownUnavailability,
      down,
    };
    this.#known.set(address, machine);
    return machine;
  }

  /** What takes a machine with it: its zone, its only feed or switch, or all of several at once. */
  #surroundings(names: readonly string[], label: string, zone: string | undefined): Shared[] {
    const { site, tree } = this.#book;
    const result: Shared[] = [];
    if (zone !== undefined) result.push(this.#sharedEvent("zone", zone));
    for (const kind of ["power", "network"] as const) {
      const domains = Object.entries(site.availability[kind])
        .filter(([, domain]) => names.some((name) => domain.members.includes(name)))
        .map(([domain]) => this.#sharedEvent(kind, domain));
      if (domains.length === 1) result.push(domains[0]!);
      else if (domains.length > 1) {
        const literals = domains.map((domain) => domain.literal);
        result.push({ literal: tree.and(`${label}: no ${kind} left`, ...literals), rate: 0 });
      }
    }
    return result;
  }

  /** Made once, shared by its members. */
  #sharedEvent(kind: "zone" | "power" | "network", name: string): Shared {
    const key = `${kind} ${name}`;
    const known = this.#shared.get(key);
    if (known !== undefined) return known;
    const book = this.#book;
    const { availability } = book.site;
    const own = kind === "zone" ? availability.zones[name] : availability[kind][name];
    const rates =
      own?.mtbf !== undefined && own.mttr !== undefined ? { mtbf: own.mtbf, mttr: own.mttr } : undefined;
    const made = book.isDown(name) ? { literal: TRUE, rate: 0 } : book.component(name, kind, key, rates);
    this.#shared.set(key, made);
    return made;
  }
}
