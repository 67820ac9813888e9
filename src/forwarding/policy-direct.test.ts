import { describe, expect, it } from "vitest";
import { ip } from "../base/addresses.ts";
import { siteSchema } from "../config/schema/site.ts";
import type { Site, SiteInput } from "../contracts/site.ts";
import { diffTables } from "../linux/nftables/diff.ts";
import { keepersText } from "./affinity.ts";
import { explainServices } from "./explain.ts";
import { replicatedServices, takesPart } from "./flows/plan.ts";
import { type BackendFacts, NO_MEMORY, decide } from "./machine.ts";
import { type TableInput, buildTables, directDevices } from "./policy.ts";
import { recover } from "./recover.ts";

function siteWith(change: Partial<SiteInput> = {}): Site {
  const forward = { pool: "apps", mode: "direct" } as const;
  return siteSchema.parse({
    site: "shop",
    nodes: { lb1: { address: "10.0.0.2" }, lb2: { address: "10.0.0.3" } },
    flows: { keys: "keys" },
    virtualRouters: {
      edge: {
        priorities: { lb1: 110, lb2: 100 },
        members: [{ interface: { lb1: "eth0", lb2: "ens3" }, vrid: 51, addresses: ["10.0.0.1"] }],
      },
    },
    pools: { apps: { backends: { b1: "10.0.0.11:80", b2: "10.0.0.12:80", far: "10.7.0.13:80" } } },
    services: { web: { on: "edge", listen: ["10.0.0.1:80/tcp", "10.0.0.1:80/udp"], forward } },
    ...change,
  });
}
const links = [
  { name: "lo", index: 1, parent: undefined },
  { name: "eth0", index: 2, parent: undefined },
  { name: "eth1", index: 3, parent: undefined },
  { name: "v4-51-2", index: 9, parent: 2 },
  { name: "other", index: 10, parent: 2 },
];
const prefixes = [
  { address: ip("10.0.0.0"), length: 24, device: "eth0" },
  { address: ip("10.7.0.0"), length: 24, device: "eth1" },
];
function input(site = siteWith(), facts: Record<string, BackendFacts> = {}): TableInput {
  const { pools } = decide(site.pools, new Map(Object.entries(facts)), NO_MEMORY, new Set());
  const serviceIds = new Map(Object.keys(site.services).map((name, i) => [name, i + 1]));
  return {
    site,
    node: "lb1",
    pools: new Map(pools.map((one) => [one.pool, one])),
    serviceIds,
    prefixes,
    links,
    owned: true,
  };
}
const table = (given = input()) => {
  const [only, ...more] = buildTables(given);
  if (only === undefined || more.length > 0) throw new Error("not one table");
  return only;
};
const DOWN: BackendFacts = { health: "down", admin: "enabled" };
const DRAIN: BackendFacts = { health: "up", admin: "drain" };

describe("direct server return", () => {
  it("is a table of frames alone, where those to the address come in: no translation, no routing", () => {
    const built = table();
    expect(built).toMatchObject({ family: "netdev", owner: true, persist: true });
    // By the virtual MAC address too, but not on others' links.
    expect(built.chains.find((one) => one.hook)?.hook?.devices).toEqual(["eth0", "v4-51-2"]);
    expect(directDevices({ ...input(), node: "lb2" })).toEqual([]);
    const kinds = new Set(
      built.chains.flatMap((one) => one.rules.flatMap((rule) => rule.expressions.map((e) => e.kind))),
    );
    for (const kind of ["nat", "ct", "ct-set", "meta-set", "notrack"] as const)
      expect(kinds).not.toContain(kind);
  });
  it("sends by both protocols to the backends that are on one link with the node", () => {
    const chains = table().chains.map((one) => one.name);
    expect(chains).toEqual(expect.arrayContaining(["direct-web.tcp4", "direct-web.udp4", "errors-web.tcp4"]));
    const slots = table().sets.find((one) => one.name === "slots-web.tcp4");
    const led = new Set([...(slots?.elements.values() ?? [])].map((one) => one.comment));
    expect(led).toEqual(new Set(["apps/b1", "apps/b2"]));
    expect(slots?.elements.size).toBe(1021);
    const [explained] = explainServices(input());
    expect(explained?.notes).toEqual([
      "far gets no packets: 10.7.0.13:80 is not on eth0, where the others are",
      "each backend needs 10.0.0.1 on its loopback and must not answer ARP for it; its answers do not pass this node",
      "no connection is replicated: all nodes choose alike by hash",
    ]);
    expect(explained?.backends.map((one) => one.share > 0.4)).toEqual([true, true, false]);
  });
  it("chooses alike on all nodes, whatever the numbers of their links", () => {
    const other = {
      ...input(),
      node: "lb2",
      links: [
        { name: "ens3", index: 7, parent: undefined },
        { name: "eth0", index: 5, parent: undefined },
      ],
    };
    const slots = (given: TableInput) =>
      table(given).sets.find((one) => one.name === "slots-web.tcp4")?.elements;
    expect(slots(other)).toEqual(slots(input()));
  });
  it("leaves packets to the node's own kernel where nobody takes them: it answers with a RST", () => {
    const built = table(input(siteWith(), { "apps/b1": DOWN, "apps/b2": DOWN }));
    expect(
      built.chains.find((one) => one.name === "direct-web.tcp4")?.rules.map((one) => one.comment),
    ).toEqual(["a known connection lives on", "a known connection to its backend"]);
  });
  it("keeps connections of a drained backend, and not those of a dead one", () => {
    const kept = (facts: Record<string, BackendFacts>) =>
      keepersText(input(siteWith(), facts)).split("\n")[0];
    expect(kept({ "apps/b1": DRAIN })).toBe("connections-web.tcp4 10.0.0.11 10.0.0.12");
    expect(kept({ "apps/b1": DOWN })).toBe("connections-web.tcp4 10.0.0.12");
  });
  it("tells the next process which backends there are, and which took connections", () => {
    const { taking, known } = recover([table(input(siteWith(), { "apps/b1": DOWN }))]);
    expect([taking, known]).toEqual([new Set(["apps/b2"]), new Set(["apps/b1", "apps/b2", "apps/far"])]);
  });
  it("changes only slots when a backend dies", () => {
    const given = input();
    const before = table(given);
    const read = {
      ...before,
      chains: before.chains.map((one) => ({
        ...one,
        rules: one.rules.map((rule, i) => ({ ...rule, handle: BigInt(i + 1) })),
      })),
    };
    const after = table(input(given.site, { "apps/b1": DOWN }));
    expect(new Set(diffTables(read, after).map((one) => one.op))).toEqual(
      new Set(["delete-elements", "add-elements"]),
    );
  });
  it("needs no flows process", () => {
    const site = siteWith();
    expect([takesPart(site, "lb1"), replicatedServices(site, new Map([["web", 1]]))]).toEqual([false, []]);
  });
});
