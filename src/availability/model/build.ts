/**
 * The site as a fault tree. Every service has two tops: the naive one, that multiplies the availabilities of
 * machines, and the honest one, that also counts takeovers, takeovers that fail, shared zones, power and
 * network, common causes and dead backends that the checks have not noticed yet. Hours inside.
 */
import { poolReferences } from "../../config/checks/services.ts";
import type { Pool, Site, VirtualRouter } from "../../contracts/site.ts";
import { effectiveCoverage } from "../engine/switchover.ts";
import { FaultTree, type Literal, TRUE } from "../engine/tree.ts";
import { CLOUD_PROMISES } from "./clouds.ts";
import { DEFAULT_BETA, DEFAULT_COVERAGE, DEFAULT_RATES, type RatedKind } from "./defaults.ts";
import type { Measured } from "./measured.ts";
import { checkTimes, routerTimes } from "./times.ts";

export const HOUR = 3_600_000;

/** Where a number comes from, in order of trust. */
export type Origin = "drilled" | "configured" | "computed" | "default";

/** component: a thing that breaks. The rest are what the naive product forgets. */
export type EventClass =
  "component" | "takeover" | "failed takeover" | "common cause" | "undetected" | "repair";

export interface EventInfo {
  readonly node: number;
  readonly name: string;
  readonly class: EventClass;
  /** What it belongs to: a machine, a zone, a router, a pool. */
  readonly owner: string;
  readonly kind: string;
  /** Begins this often per hour. */
  readonly rate: number;
  /** Lasts this long, in hours. */
  readonly duration: number;
  readonly origin: Origin;
}

/** A number that went into the model, for the table of inputs. */
export interface ModelInput {
  readonly what: string;
  readonly value: string;
  readonly origin: Origin;
  readonly source: string;
}

export interface ServiceTops {
  readonly service: string;
  readonly honest: Literal;
  readonly naive: Literal;
  readonly router: string | undefined;
  readonly pools: readonly string[];
}

export interface SiteModel {
  readonly site: Site;
  readonly tree: FaultTree;
  readonly services: readonly ServiceTops[];
  readonly events: ReadonlyMap<number, EventInfo>;
  readonly inputs: readonly ModelInput[];
}

export interface BuildOptions {
  readonly measured?: Measured | undefined;
  /** Names of machines, zones, feeds, switches or dependencies that are taken to be down. */
  readonly without?: readonly string[] | undefined;
}

interface Machine {
  readonly name: string;
  readonly gate: Literal;
  readonly naive: Literal;
  /** Failures per hour that take it away alone, zones and single feeds included; and those of its own parts. */
  readonly rate: number;
  readonly ownRate: number;
  readonly ownUnavailability: number;
  readonly down: boolean;
}

export const buildSiteModel = (site: Site, options: BuildOptions = {}): SiteModel =>
  new ModelBuilder(site, options).build();

class ModelBuilder {
  readonly #site: Site;
  readonly #options: BuildOptions;
  readonly #tree = new FaultTree();
  readonly #events = new Map<number, EventInfo>();
  readonly #inputs = new Map<string, ModelInput>();
  readonly #machines = new Map<string, Machine>();
  readonly #shared = new Map<string, { literal: Literal; rate: number }>();
  readonly #routers = new Map<string, { honest: Literal[]; naive: Literal }>();
  readonly #pools = new Map<string, { honest: Literal[]; naive: Literal }>();
  readonly #without: ReadonlySet<string>;

  constructor(site: Site, options: BuildOptions) {
    this.#site = site;
    this.#options = options;
    this.#without = new Set(options.without);
  }

  build(): SiteModel {
    const tree = this.#tree;
    const services = Object.entries(this.#site.services).map(([service, definition]): ServiceTops => {
      const pools = [...new Set(poolReferences(service, definition).map(({ pool }) => pool))];
      const honest: Literal[] = [];
      const naive: Literal[] = [];
      const entry = definition.on === undefined ? this.#anyNode() : this.#router(definition.on);
      honest.push(...entry.honest);
      naive.push(entry.naive);
      for (const name of pools) {
        const pool = this.#site.pools[name];
        if (pool === undefined) continue;
        const part = this.#pool(name, pool);
        honest.push(...part.honest);
        naive.push(part.naive);
      }
      for (const part of this.#dependencies(service)) {
        honest.push(...part.honest);
        naive.push(part.naive);
      }
      return {
        service,
        honest: tree.or(`${service} is down`, ...honest),
        naive: tree.or(`${service} is down (naive)`, ...naive),
        router: definition.on,
        pools,
      };
    });
    return {
      site: this.#site,
      tree,
      services,
      events: this.#events,
      inputs: [...this.#inputs.values()],
    };
  }

  #event(info: Omit<EventInfo, "node">): Literal {
    const { rate, duration } = info;
    const failing = info.class === "component";
    // A component alternates between up and down; the others are shares of time.
    const probability = failing ? (rate * duration) / (1 + rate * duration) : Math.min(1, rate * duration);
    const literal = this.#tree.event(info.name, probability);
    this.#events.set(literal >> 1, { ...info, node: literal >> 1 });
    return literal;
  }

  #input(key: string, what: string, value: string, origin: Origin, source: string): void {
    if (!this.#inputs.has(key)) this.#inputs.set(key, { what, value, origin, source });
  }

  #rates(
    kind: RatedKind,
    own?: { mtbf: number; mttr: number },
  ): { rate: number; duration: number; origin: Origin } {
    const configured = own ?? this.#site.availability.rates[kind];
    if (configured !== undefined) {
      if (own === undefined)
        this.#input(
          kind,
          kind,
          rateWords(configured.mtbf / HOUR, configured.mttr / HOUR),
          "configured",
          "site file",
        );
      return { rate: HOUR / configured.mtbf, duration: configured.mttr / HOUR, origin: "configured" };
    }
    const { mtbf, mttr, source } = DEFAULT_RATES[kind];
    this.#input(kind, kind, rateWords(mtbf, mttr), "default", source);
    return { rate: 1 / mtbf, duration: mttr, origin: "default" };
  }

  #component(owner: string, kind: RatedKind, name: string, own?: { mtbf: number; mttr: number }) {
    const { rate, duration, origin } = this.#rates(kind, own);
    const literal = this.#event({ name, class: "component", owner, kind, rate, duration, origin });
    return { literal, rate, unavailability: rate * duration };
  }

  /** A zone, a feed, a switch: made once, shared by its members. */
  #sharedEvent(kind: "zone" | "power" | "network", name: string) {
    const key = `${kind} ${name}`;
    let found = this.#shared.get(key);
    if (found === undefined) {
      if (this.#without.has(name)) found = { literal: TRUE, rate: 0 };
      else {
        const { zones } = this.#site.availability;
        const own = kind === "zone" ? zones[name] : this.#site.availability[kind][name];
        const rates =
          own?.mtbf !== undefined && own.mttr !== undefined ? { mtbf: own.mtbf, mttr: own.mttr } : undefined;
        const made = this.#component(name, kind, `${kind} ${name}`, rates);
        found = { literal: made.literal, rate: made.rate };
      }
      this.#shared.set(key, found);
    }
    return found;
  }

  /** Machines are told apart by address: a backend in two pools, or on a node of the site, is one. */
  #machine(name: string, address: string, zone: string | undefined, isBackend: boolean): Machine {
    const nodeHere = Object.entries(this.#site.nodes).find(([, node]) => node.address === address);
    const key = address;
    const known = this.#machines.get(key);
    if (known !== undefined) return known;
    const own = this.#site.availability.machines[name];
    const label = nodeHere?.[0] ?? name;
    const parts = [
      this.#component(label, "hardware", `${label} hardware`, own?.hardware),
      this.#component(label, "system", `${label} system`, own?.system),
    ];
    if (isBackend && nodeHere === undefined)
      parts.push(this.#component(label, "application", `${label} application`, own?.application));
    for (const [part, rates] of Object.entries(own?.parts ?? {}))
      parts.push(this.#component(label, "hardware", `${label} ${part}`, rates));
    const ownRate = parts.reduce((sum, part) => sum + part.rate, 0);
    const ownUnavailability = parts.reduce((sum, part) => sum + part.unavailability, 0);
    const tree = this.#tree;
    const naive = tree.or(`${label} (alone)`, ...parts.map((part) => part.literal));
    const inputs: Literal[] = [naive];
    let rate = ownRate;
    const where = nodeHere?.[1].zone ?? zone;
    if (where !== undefined) {
      const event = this.#sharedEvent("zone", where);
      inputs.push(event.literal);
      rate += event.rate;
    }
    for (const kind of ["power", "network"] as const) {
      const domains = Object.entries(this.#site.availability[kind])
        .filter(([, domain]) => domain.members.includes(name) || domain.members.includes(label))
        .map(([domain]) => this.#sharedEvent(kind, domain));
      if (domains.length === 1) {
        inputs.push(domains[0]!.literal);
        rate += domains[0]!.rate;
      } else if (domains.length > 1)
        inputs.push(tree.and(`${label}: no ${kind} left`, ...domains.map((domain) => domain.literal)));
    }
    const down = this.#without.has(name) || this.#without.has(label);
    const gate = down ? TRUE : tree.or(`${label} is down`, ...inputs);
    const machine: Machine = {
      name: label,
      gate,
      naive: down ? TRUE : naive,
      rate,
      ownRate,
      ownUnavailability,
      down,
    };
    this.#machines.set(key, machine);
    return machine;
  }

  #node(name: string): Machine {
    const node = this.#site.nodes[name]!;
    return this.#machine(name, node.address, node.zone, false);
  }

  /** A proxy without a virtual router: each node serves at its own address. */
  #anyNode(): { honest: Literal[]; naive: Literal } {
    const machines = Object.keys(this.#site.nodes).map((name) => this.#node(name));
    const tree = this.#tree;
    return {
      honest: [tree.and("every node is down", ...machines.map((machine) => machine.gate))],
      naive: tree.and("every node is down (alone)", ...machines.map((machine) => machine.naive)),
    };
  }

  #router(name: string): { honest: Literal[]; naive: Literal } {
    let found = this.#routers.get(name);
    if (found === undefined) {
      found = this.#makeRouter(name, this.#site.virtualRouters[name]!);
      this.#routers.set(name, found);
    }
    return found;
  }

  #makeRouter(name: string, router: VirtualRouter): { honest: Literal[]; naive: Literal } {
    const tree = this.#tree;
    const all = Object.entries(router.priorities)
      .sort(([, a], [, b]) => b - a)
      .filter(([node]) => this.#site.nodes[node] !== undefined)
      .map(([node]) => this.#node(node));
    const honest = [tree.and(`${name} has no node left`, ...all.map((machine) => machine.gate))];
    const naive = tree.and(`${name} has no node left (alone)`, ...all.map((machine) => machine.naive));
    const standing = all.filter((machine) => !machine.down);
    if (standing.length < 2) return { honest, naive };
    const active = standing[0]!;
    const { time, coverage } = this.#takeover(name, router);
    const manual = this.#site.availability.failover.manual / HOUR;
    const origin = time.origin;
    honest.push(
      this.#event({
        name: `takeover of ${name}`,
        class: "takeover",
        owner: name,
        kind: "takeover",
        rate: active.rate * coverage.value,
        duration: time.hours,
        origin,
      }),
      this.#event({
        name: `takeover of ${name} that fails`,
        class: "failed takeover",
        owner: name,
        kind: "takeover",
        rate: active.rate * (1 - coverage.value),
        duration: time.hours + manual,
        origin: coverage.origin,
      }),
    );
    honest.push(...this.#common(`nodes of ${name}`, name, standing));
    return { honest, naive };
  }

  /** Common causes, and the wait for the one repair crew when two are broken. */
  #common(what: string, owner: string, machines: readonly Machine[]): Literal[] {
    const { failover } = this.#site.availability;
    const beta = failover.beta ?? DEFAULT_BETA.value;
    const origin: Origin = failover.beta === undefined ? "default" : "configured";
    this.#input(
      "beta",
      "common causes (beta)",
      `${(beta * 100).toPrecision(2)} %`,
      origin,
      failover.beta === undefined ? DEFAULT_BETA.source : "site file",
    );
    const count = machines.length;
    const rate = machines.reduce((sum, machine) => sum + machine.ownRate, 0) / count;
    const unavailability = machines.reduce((sum, machine) => sum + machine.ownUnavailability, 0) / count;
    if (rate === 0) return [];
    const result = [
      this.#event({
        name: `all ${what} at once`,
        class: "common cause",
        owner,
        kind: "common cause",
        rate: beta * rate,
        duration: unavailability / rate,
        origin,
      }),
    ];
    if (failover.oneCrew && count === 2)
      result.push(
        this.#event({
          name: `second repair waits (${what})`,
          class: "repair",
          owner,
          kind: "repair",
          rate: rate * unavailability,
          duration: unavailability / rate,
          origin: "computed",
        }),
      );
    return result;
  }

  #takeover(name: string, router: VirtualRouter) {
    const { failover } = this.#site.availability;
    const { measured } = this.#options;
    const computed = routerTimes(router);
    const clients = failover.clients;
    let time: { hours: number; origin: Origin };
    if (measured?.takeover === undefined) {
      const total = computed.detect + failover.move + clients;
      time = { hours: total / HOUR, origin: "computed" };
      this.#input(
        `takeover ${name}`,
        `takeover of ${name}`,
        milliseconds(total),
        "computed",
        `detect ${milliseconds(computed.detect)} (${computed.words}), move ${milliseconds(failover.move)}, clients ${milliseconds(clients)}`,
      );
    } else {
      const total = measured.takeover.gap + clients;
      time = { hours: total / HOUR, origin: "drilled" };
      this.#input(
        `takeover ${name}`,
        `takeover of ${name}`,
        milliseconds(total),
        "drilled",
        `median of ${measured.takeover.runs} power cuts, drills of ${measured.date}; the configuration says ${milliseconds(computed.detect + failover.move)}`,
      );
    }
    let coverage: { value: number; origin: Origin };
    if (measured?.coverage !== undefined) {
      const { value, good, runs } = measured.coverage;
      coverage = { value, origin: "drilled" };
      this.#input(
        "coverage",
        "takeovers that work",
        percent(value),
        "drilled",
        `${good} of ${runs} drilled takeovers were within budget`,
      );
    } else if (failover.coverage === undefined) {
      coverage = { value: DEFAULT_COVERAGE.value, origin: "default" };
      this.#input(
        "coverage",
        "takeovers that work",
        percent(coverage.value),
        "default",
        DEFAULT_COVERAGE.source,
      );
    } else {
      coverage = { value: failover.coverage, origin: "configured" };
      this.#input("coverage", "takeovers that work", percent(coverage.value), "configured", "site file");
    }
    const latent = { rate: HOUR / failover.latentMtbf, drillEvery: failover.drillEvery / HOUR };
    const value = effectiveCoverage(coverage.value, latent);
    this.#input(
      "latent",
      "the same, latent faults counted",
      percent(value),
      "computed",
      `a standby breaks unnoticed every ${days(failover.latentMtbf)}, a drill every ${days(failover.drillEvery)} finds it`,
    );
    return { time, coverage: { value, origin: coverage.origin } };
  }

  #pool(name: string, pool: Pool): { honest: Literal[]; naive: Literal } {
    let found = this.#pools.get(name);
    if (found === undefined) {
      found = this.#makePool(name, pool);
      this.#pools.set(name, found);
    }
    return found;
  }

  #makePool(name: string, pool: Pool): { honest: Literal[]; naive: Literal } {
    const tree = this.#tree;
    const members = Object.entries(pool.backends)
      .filter(([, backend]) => backend.weight > 0 && !backend.maintenance)
      .map(([backend, { at, zone }]) => ({
        backend,
        machine: this.#machine(backend, at.address, zone, true),
      }));
    const capacity = this.#site.availability.capacity[name];
    const carries = members.map(({ backend }) => capacity?.backends[backend] ?? capacity?.each ?? 1);
    const peak = capacity?.peak ?? Math.min(...carries);
    const short = capacity === undefined ? `${name} has no backend left` : `${name} cannot carry its peak`;
    const gateOf = (literals: Literal[], suffix: string): Literal =>
      tooLittle(tree, `${short}${suffix}`, literals, carries, peak);
    const honest = [
      gateOf(
        members.map(({ machine }) => machine.gate),
        "",
      ),
    ];
    const naive = gateOf(
      members.map(({ machine }) => machine.naive),
      " (alone)",
    );
    const standing = members.map(({ machine }) => machine).filter((machine) => !machine.down);
    if (standing.length < 2) return { honest, naive };
    honest.push(...this.#common(`backends of ${name}`, name, standing));
    const rate = standing.reduce((sum, machine) => sum + machine.rate, 0);
    const times = checkTimes(pool);
    const mean = standing.reduce((sum, machine) => sum + machine.ownUnavailability, 0) / standing.length;
    const detect = times === undefined ? (mean / (rate / standing.length)) * HOUR : times.detect;
    const origin: Origin = "computed";
    this.#input(
      `checks ${name}`,
      `dead backend of ${name} noticed`,
      milliseconds(detect),
      origin,
      times === undefined ? "never: the pool has no check, so until it is repaired" : times.words,
    );
    // Until then its share of new connections fails: a share of an outage for the whole pool.
    honest.push(
      this.#event({
        name: `dead backend of ${name} not noticed yet`,
        class: "undetected",
        owner: name,
        kind: "check",
        rate,
        duration: detect / HOUR / standing.length,
        origin,
      }),
    );
    return { honest, naive };
  }

  #dependencies(service: string): { honest: Literal[]; naive: Literal }[] {
    const result: { honest: Literal[]; naive: Literal }[] = [];
    for (const [name, one] of Object.entries(this.#site.availability.dependencies)) {
      if (one.services !== undefined && !one.services.includes(service)) continue;
      const key = `dependency ${name}`;
      let found = this.#pools.get(key);
      if (found === undefined) {
        found = this.#makeDependency(name, one);
        this.#pools.set(key, found);
      }
      result.push(found);
    }
    return result;
  }

  #makeDependency(
    name: string,
    one: Site["availability"]["dependencies"][string],
  ): { honest: Literal[]; naive: Literal } {
    const tree = this.#tree;
    if (this.#without.has(name)) return { honest: [TRUE], naive: TRUE };
    const promise = one.sla === undefined ? undefined : CLOUD_PROMISES[one.sla];
    const promised = one.availability ?? promise?.percent;
    let rates: { mtbf: number; mttr: number };
    if (promised === undefined) rates = { mtbf: one.mtbf ?? HOUR * 8760, mttr: one.mttr ?? HOUR };
    else {
      // Only the share of time is promised; an outage is taken to last an hour.
      const share = 1 - promised / 100;
      rates = { mtbf: share === 0 ? Number.MAX_VALUE : (HOUR * (1 - share)) / share, mttr: HOUR };
      const source = promise === undefined ? "site file" : `${promise.source} (${promise.date})`;
      this.#input(name, name, `${promised} % each`, "configured", `${source}: a promise, not a measurement`);
    }
    const members = Array.from({ length: one.copies }, (_, i) =>
      this.#component(name, "system", one.copies === 1 ? name : `${name} ${i + 1}`, rates),
    );
    const failed = members.length - one.needed + 1;
    const gate = tree.gate(
      `${name} is down`,
      "atleast",
      members.map((member) => member.literal),
      failed,
    );
    const honest = [gate];
    if (members.length > 1) {
      if (one.failover > 0)
        honest.push(
          this.#event({
            name: `failover of ${name}`,
            class: "takeover",
            owner: name,
            kind: "takeover",
            rate: members[0]!.rate,
            duration: one.failover / HOUR,
            origin: "configured",
          }),
        );
      const beta = this.#site.availability.failover.beta ?? DEFAULT_BETA.value;
      honest.push(
        this.#event({
          name: `all copies of ${name} at once`,
          class: "common cause",
          owner: name,
          kind: "common cause",
          rate: beta * members[0]!.rate,
          duration: members[0]!.unavailability / members[0]!.rate,
          origin: "default",
        }),
      );
    }
    return { honest, naive: gate };
  }
}

/** What is left carries less than `needed`. Equal members are a vote; others a chain of decisions. */
function tooLittle(
  tree: FaultTree,
  name: string,
  failed: readonly Literal[],
  carries: readonly number[],
  needed: number,
): Literal {
  const each = carries[0] ?? 1;
  if (carries.every((one) => one === each)) {
    const atLeast = failed.length - Math.ceil(needed / each - 1e-9) + 1;
    if (atLeast <= 0) return TRUE;
    return tree.gate(name, "atleast", failed, atLeast);
  }
  const known = new Map<string, Literal>();
  const after: number[] = Array<number>(carries.length + 1).fill(0);
  for (let i = carries.length - 1; i >= 0; i--) after[i] = after[i + 1]! + carries[i]!;
  const decide = (i: number, missing: number): Literal => {
    if (missing <= 1e-9) return TRUE ^ 1;
    if (after[i]! < missing - 1e-9) return TRUE;
    const key = `${i} ${missing.toFixed(6)}`;
    let gate = known.get(key);
    if (gate === undefined) {
      const ifUp = decide(i + 1, missing - carries[i]!);
      const ifDown = decide(i + 1, missing);
      gate = tree.or(
        i === 0 ? name : `${name} (${i})`,
        ifUp,
        tree.and(`${name} (${i} down)`, failed[i]!, ifDown),
      );
      known.set(key, gate);
    }
    return gate;
  };
  return decide(0, needed);
}

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
const days = (ms: number): string => `${Number((ms / HOUR / 24).toPrecision(3))} d`;
export const milliseconds = (ms: number): string =>
  ms < 1000
    ? `${Math.round(ms)} ms`
    : ms < 120_000
      ? `${(ms / 1000).toFixed(2)} s`
      : `${(ms / 60_000).toFixed(1)} min`;
const rateWords = (mtbf: number, mttr: number): string =>
  `every ${Number((mtbf / 24).toPrecision(3))} d, for ${mttr < 1 ? `${Number((mttr * 60).toPrecision(3))} min` : `${Number(mttr.toPrecision(3))} h`}`;
