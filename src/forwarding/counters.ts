import type { ForwardedCounters } from "../contracts/forwarding.ts";
import type { MetricSample } from "../contracts/metrics.ts";
import { readHostU32 } from "../linux/nftables/expressions.ts";
import { KernelError } from "../linux/native.ts";
import type { NftFamily, NftSet, NftTable } from "../linux/nftables/model.ts";
import type { NftablesService } from "../linux/nftables/service.ts";
import type { ElementRead } from "../linux/nftables/wire-objects.ts";
import { backendKey } from "./machine.ts";
import { LAST_SERVICE } from "./marks.ts";
import { TABLE, type TableInput, forwarded } from "./policy.ts";

type Kind = "connections" | "packetsIn" | "bytesIn" | "packetsOut" | "bytesOut";
interface Count {
  /** What elements that are gone had counted. */
  base: number;
  last: number;
}

type Reader = Pick<NftablesService, "elements">;
/** ENOENT. */
const MISSING = 2;

/** Nothing of a set that went meanwhile. */
async function elementsOf(nftables: Reader, family: NftFamily, set: string): Promise<ElementRead[]> {
  try {
    return await nftables.elements({ family, table: TABLE }, set);
  } catch (error) {
    if (error instanceof KernelError && error.errno === MISSING) return [];
    throw error;
  }
}

/**
 * Counters that go on when an element of the kernel's is made anew: what it had counted when it was last read
 * is kept.
 */
export class Counters {
  readonly #counts = new Map<string, Count>();
  readonly #rows = new Map<string, { readonly service: string; readonly backend: string }>();

  /** Reads all counting sets, and forgets what is not in the site any more. */
  async collect(nftables: Reader, tables: ReadonlyMap<string, NftTable>, input: TableInput): Promise<void> {
    const names = new Map([...input.serviceIds].map(([name, id]) => [id, name]));
    for (const { family, sets } of tables.values()) {
      if (family === "netdev") {
        await this.#collectDirect(nftables, sets);
        continue;
      }
      for (const { name } of sets) {
        const traffic = name === "traffic" || name === "traffic-ranges";
        if (name !== "connections" && !traffic) continue;
        for (const element of await elementsOf(nftables, family, name)) {
          const backend = element.comment ?? "";
          const service = names.get(readHostU32(element.key) & LAST_SERVICE);
          if (service === undefined) continue;
          const [packets, bytes] = [Number(element.packets ?? 0n), Number(element.bytes ?? 0n)];
          const at = `${service}\n${backend}`;
          this.#rows.set(at, { service, backend });
          const from = `${family} ${name} ${element.key.join(".")}`;
          if (traffic) {
            const out = element.key[4] === 1;
            this.#set(at, out ? "packetsOut" : "packetsIn", from, packets);
            this.#set(at, out ? "bytesOut" : "bytesIn", from, bytes);
          } else this.#set(at, "connections", from, packets);
        }
      }
    }
    this.#forget(input);
  }

  #forget(input: TableInput): void {
    const here = new Set(
      forwarded(input.site).flatMap(([service, { forward }]) =>
        (input.pools.get(forward.pool)?.backends ?? []).map(
          ({ name }) => `${service}\n${backendKey(forward.pool, name)}`,
        ),
      ),
    );
    for (const at of this.#rows.keys()) if (!here.has(at)) this.#rows.delete(at);
    for (const key of this.#counts.keys()) {
      const [service, backend] = key.split("\n");
      if (!here.has(`${service}\n${backend}`)) this.#counts.delete(key);
    }
  }

  /** Of direct services only the first packets of connections are told apart by backend: those that were hashed. */
  async #collectDirect(nftables: Reader, sets: readonly NftSet[]): Promise<void> {
    for (const { name } of sets) {
      const service = /^slots-([^.]+)/.exec(name)?.[1];
      if (service === undefined) continue;
      for (const element of await elementsOf(nftables, "netdev", name)) {
        const backend = element.comment ?? "";
        const at = `${service}\n${backend}`;
        this.#rows.set(at, { service, backend });
        const from = `${name} ${element.key.join(".")}`;
        this.#set(at, "connections", from, Number(element.packets ?? 0n));
      }
    }
  }

  list(): ForwardedCounters[] {
    const sums = new Map<string, Record<Kind, number>>();
    for (const [key, { base, last }] of this.#counts) {
      const [service = "", backend = "", kind = ""] = key.split("\n");
      const at = `${service}\n${backend}`;
      const row = sums.get(at) ?? { connections: 0, packetsIn: 0, bytesIn: 0, packetsOut: 0, bytesOut: 0 };
      row[kind as Kind] += base + last;
      sums.set(at, row);
    }
    return [...this.#rows].map(([at, { service, backend }]) => ({
      service,
      backend,
      ...(sums.get(at) ?? { connections: 0, packetsIn: 0, bytesIn: 0, packetsOut: 0, bytesOut: 0 }),
    }));
  }

  #set(at: string, kind: Kind, from: string, value: number): void {
    const key = `${at}\n${kind}\n${from}`;
    const count = this.#counts.get(key) ?? { base: 0, last: 0 };
    if (value < count.last) count.base += count.last;
    count.last = value;
    this.#counts.set(key, count);
  }
}

export function counterSamples(rows: readonly ForwardedCounters[]): MetricSample[] {
  const metrics: readonly (readonly [string, string, Kind, Record<string, string>])[] = [
    ["nines_forwarding_connections_total", "New connections sent to a backend.", "connections", {}],
    ["nines_forwarding_packets_total", "Packets forwarded.", "packetsIn", { direction: "in" }],
    ["nines_forwarding_packets_total", "Packets forwarded.", "packetsOut", { direction: "out" }],
    ["nines_forwarding_bytes_total", "Bytes forwarded, IP headers included.", "bytesIn", { direction: "in" }],
    [
      "nines_forwarding_bytes_total",
      "Bytes forwarded, IP headers included.",
      "bytesOut",
      { direction: "out" },
    ],
  ];
  return metrics.flatMap(([name, help, kind, more]) =>
    rows.map((row): MetricSample => {
      const [pool = "", backend = ""] = row.backend.split("/");
      const labels = { service: row.service, pool, backend, ...more };
      return { name, help, kind: "counter", labels, value: row[kind] };
    }),
  );
}
