/** What a process that starts learns from the tables that the one before left in the kernel. */
import { readHostU32 } from "../linux/nftables/expressions.ts";
import type { NftTable } from "../linux/nftables/model.ts";
import { LAST_SERVICE, MARK_MASK } from "./marks.ts";

export interface Recovered {
  readonly serviceIds: ReadonlyMap<string, number>;
  /** Backends that took connections, by `pool/backend`. */
  readonly taking: ReadonlySet<string>;
  /** Backends that the tables knew, whether they took connections or not. */
  readonly known: ReadonlySet<string>;
}

/** Reads only what this program wrote; anything else is skipped. */
export function recover(tables: readonly NftTable[]): Recovered {
  const serviceIds = new Map<string, number>();
  const taking = new Set<string>();
  const known = new Set<string>();
  for (const table of tables) {
    if (table.family === "netdev") {
      for (const { name, elements } of table.sets)
        for (const { comment } of elements.values()) {
          if (comment === undefined || !/^(?:slots-|members\.)/.test(name)) continue;
          known.add(comment);
          if (name.startsWith("slots-")) taking.add(comment);
        }
      continue;
    }
    for (const chain of table.chains) {
      // The part after a dot tells the chains of a service's port ranges apart.
      const name = /^service-([^.]+)/.exec(chain.name)?.[1];
      // Limits may come before the rule that sets the mark.
      const marking = chain.rules
        .flatMap((rule) => rule.expressions)
        .find((one) => one.kind === "bitwise" && readHostU32(one.mask) === ~MARK_MASK >>> 0);
      if (name === undefined || marking?.kind !== "bitwise") continue;
      const id = readHostU32(marking.xor) & LAST_SERVICE;
      if (id > 0) serviceIds.set(name, id);
    }
    // `connections` names every backend of every service; the service's slots say who takes connections.
    const targets = new Map<string, Set<string>>();
    for (const { name, elements } of table.sets) {
      const service = /^(?:slots|keep|rest)-([^.]+)/.exec(name)?.[1];
      if (service === undefined) continue;
      const own = targets.get(service) ?? new Set();
      targets.set(service, own);
      for (const { data } of elements.values()) if (data instanceof Uint8Array) own.add(data.join("."));
    }
    const names = new Map([...serviceIds].map(([name, id]) => [id, name]));
    const width = table.family === "ip" ? 4 : 16;
    const connections = table.sets.find((one) => one.name === "connections");
    for (const { key, comment } of connections?.elements.values() ?? []) {
      if (comment === undefined) continue;
      known.add(comment);
      const own = targets.get(names.get(readHostU32(key) & LAST_SERVICE) ?? "");
      const at = key.subarray(4);
      if (own?.has(at.join(".")) || own?.has(at.subarray(0, width).join("."))) taking.add(comment);
    }
  }
  return { serviceIds, taking, known };
}
