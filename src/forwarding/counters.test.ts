import { describe, expect, it } from "vitest";
import { siteSchema } from "../config/schema/site.ts";
import { KernelError } from "../linux/native.ts";
import type { NftFamily, NftTable } from "../linux/nftables/model.ts";
import type { ElementRead } from "../linux/nftables/wire-objects.ts";
import { Counters } from "./counters.ts";
import { NO_MEMORY, decide } from "./machine.ts";
import { type TableInput, buildTables } from "./policy.ts";

function given(backends: Record<string, string>): TableInput {
  const site = siteSchema.parse({
    site: "shop",
    nodes: { lb1: { address: "10.2.0.2" } },
    virtualRouters: {
      edge: {
        priorities: { lb1: 110 },
        members: [{ interface: "eth0", vrid: 1, addresses: ["10.0.0.1"] }],
      },
    },
    pools: { apps: { backends } },
    services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } } },
  });
  const { pools } = decide(site.pools, new Map(), NO_MEMORY, new Set());
  return {
    site,
    node: "lb1",
    pools: new Map(pools.map((one) => [one.pool, one])),
    serviceIds: new Map([["web", 1]]),
    prefixes: [],
    owned: true,
  };
}
const tablesOf = (input: TableInput) =>
  new Map<NftFamily, NftTable>(buildTables(input).map((one) => [one.family, one]));
/** Three connections to each backend. */
const kernel = (input: TableInput, missing: string) => ({
  elements: (_place: unknown, name: string): Promise<ElementRead[]> => {
    if (name === missing) return Promise.reject(new KernelError("read set", 2));
    const [table] = tablesOf(input).values();
    const held = table?.sets.find((one) => one.name === name)?.elements.values() ?? [];
    return Promise.resolve([...held].map((one) => ({ ...one, packets: 3n, bytes: 300n })));
  },
});

describe("counts of backends", () => {
  const two = given({ b1: "10.2.0.11:80", b2: "10.2.0.12:80" });
  const rows = (counters: Counters) => counters.list().map((one) => [one.backend, one.connections]);
  it("are told though one of the sets went meanwhile", async () => {
    const counters = new Counters();
    await counters.collect(kernel(two, "traffic"), tablesOf(two), two);
    expect(rows(counters)).toEqual([
      ["apps/b1", 3],
      ["apps/b2", 3],
    ]);
  });
  it("end with the backend", async () => {
    const counters = new Counters();
    await counters.collect(kernel(two, ""), tablesOf(two), two);
    const one = given({ b2: "10.2.0.12:80" });
    await counters.collect(kernel(one, ""), tablesOf(one), one);
    expect(rows(counters)).toEqual([["apps/b2", 3]]);
  });
});
