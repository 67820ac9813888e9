/** Inputs and tables for tests. */
import { siteSchema } from "../../config/schema/site.ts";
import type { Site, SiteInput } from "../../contracts/site.ts";
import type { NftTable } from "../../linux/nftables/model.ts";
import { allocateIds, numbersOf } from "../ids.ts";
import { type BackendFacts, NO_MEMORY, backendKey, decide } from "../machine.ts";
import { type TableInput, buildTables, forwarded } from "../policy.ts";

export const backends = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`b${i + 1}`, `10.2.0.${11 + i}:8080`]));
export function makeSite(change: Partial<SiteInput> = {}): Site {
  return siteSchema.parse({
    site: "shop",
    nodes: { lb1: { address: "10.2.0.2" }, lb2: { address: "10.2.0.3" } },
    virtualRouters: {
      edge: {
        priorities: { lb1: 110, lb2: 100 },
        members: [{ interface: "eth0", vrid: 1, addresses: ["10.0.0.1", "10.2.0.1"] }],
      },
    },
    pools: { apps: { backends: backends(4) } },
    services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } } },
    ...change,
  });
}
export function input(
  site: Site,
  down: readonly string[] = [],
  previous = new Map<string, number>(),
): TableInput {
  const facts = new Map<string, BackendFacts>(
    down.map((one) => [backendKey("apps", one), { health: "down", admin: "enabled" }]),
  );
  const { pools } = decide(site.pools, facts, NO_MEMORY, new Set());
  return {
    site,
    node: "lb1",
    pools: new Map(pools.map((one) => [one.pool, one])),
    serviceIds: allocateIds(
      numbersOf(previous),
      forwarded(site).map(([name]) => name),
      4095,
    ).ids,
    prefixes: [],
    owned: true,
  };
}
export const tables = (site: Site, down: readonly string[] = []) => buildTables(input(site, down));
export const only = (list: readonly NftTable[]): NftTable => {
  const [table] = list;
  if (!table) throw new Error("no table");
  return table;
};
export const setNamed = (table: NftTable, name: string) => table.sets.find((one) => one.name === name);
export const comments = (table: NftTable, chain: string) =>
  table.chains.find((one) => one.name === chain)?.rules.map((one) => one.comment);
