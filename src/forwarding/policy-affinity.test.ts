import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ip, ipBytes, parsePrefix, prefixContains } from "../base/addresses.ts";
import { siteSchema } from "../config/schema/site.ts";
import type { ForwardService, Site } from "../contracts/site.ts";
import { diffTables } from "../linux/nftables/diff.ts";
import { entriesOf, keepersText } from "./affinity.ts";
import { type BackendFacts, NO_MEMORY, decide } from "./machine.ts";
import { clientKey } from "./policy-affinity.ts";
import { type TableInput, buildTables } from "./policy.ts";
import { recover } from "./recover.ts";

function siteWith(forward: object = {}, listen: string | string[] = "10.0.0.1:80/tcp"): Site {
  return siteSchema.parse({
    site: "shop",
    nodes: { lb1: { address: "10.2.0.2" }, lb2: { address: "10.2.0.3" } },
    virtualRouters: {
      edge: {
        priorities: { lb1: 110, lb2: 100 },
        members: [{ interface: "eth0", vrid: 1, addresses: ["10.0.0.1"] }],
      },
    },
    pools: {
      apps: {
        backends: {
          b1: "10.2.0.11:80",
          b2: "10.2.0.12:80",
          spare: { address: "10.2.0.13:80", backup: true },
        },
      },
    },
    services: {
      web: { on: "edge", listen, forward: { pool: "apps", affinity: { timeout: "30m" }, ...forward } },
    },
  });
}
function input(site: Site, facts: Record<string, BackendFacts> = {}): TableInput {
  const { pools } = decide(site.pools, new Map(Object.entries(facts)), NO_MEMORY, new Set());
  return {
    site,
    node: "lb1",
    pools: new Map(pools.map((one) => [one.pool, one])),
    serviceIds: new Map([["web", 7]]),
    prefixes: [],
    owned: true,
  };
}
const table = (site: Site, facts?: Record<string, BackendFacts>) => {
  const [only] = buildTables(input(site, facts));
  if (!only) throw new Error("no table");
  return only;
};
const comments = (built: ReturnType<typeof table>, chain: string) =>
  built.chains.find((one) => one.name === chain)?.rules.map((one) => one.comment);

describe("affinity in the tables", () => {
  it("is looked for before the scheduler, and remembered once the backend is known", () => {
    const built = table(siteWith());
    expect(comments(built, "service-web")).toEqual([
      "service web",
      "the backend that this client had last",
      "choose a backend",
    ]);
    expect(comments(built, "postrouting")?.slice(0, 2)).toEqual([
      "new connections",
      "remember clients of web",
    ]);
    expect(built.sets.find((one) => one.name === "affinity-web")).toMatchObject({
      key: ["ipv4"],
      data: ["ipv4", "port"],
      dynamic: true,
      size: 65_536,
    });
  });
  it("is there for clients of backends in drain, also where nobody takes new connections", () => {
    const drain: BackendFacts = { health: "up", admin: "drain" };
    const built = table(siteWith(), { "apps/b1": drain, "apps/b2": drain, "apps/spare": drain });
    expect(comments(built, "service-web")?.slice(1, 3)).toEqual([
      "the backend that this client had last",
      "no backend takes connections",
    ]);
  });
  it("another timeout changes two rules and keeps the memory; another size does not", () => {
    const read = (site: Site) => {
      const built = table(site);
      // As the kernel answers: rules have handles, and a dynamic map is not read.
      return {
        ...built,
        chains: built.chains.map((one) => ({
          ...one,
          rules: one.rules.map((rule, i) => ({ ...rule, handle: BigInt(i + 1) })),
        })),
      };
    };
    const changes = diffTables(read(siteWith()), table(siteWith({ affinity: { timeout: "10m" } })));
    expect(changes.map((one) => one.op)).toEqual(["delete-rule", "add-rule"]);
    const remade = diffTables(read(siteWith()), table(siteWith({ affinity: { timeout: "30m", size: 5 } })));
    expect(remade.map((one) => one.op)).toContain("delete-set");
  });
  it("does not count as taking connections for the next process", () => {
    const built = table(siteWith(), { "apps/b1": { health: "up", admin: "drain" } });
    expect(recover([built])).toMatchObject({
      serviceIds: new Map([["web", 7]]),
      taking: new Set(["apps/b2"]),
    });
  });
  it("names addresses alone where the ports of a range are kept", () => {
    const built = table(siteWith({}, ["10.0.0.1:80-90/tcp"]));
    expect(built.sets.find((one) => one.name === "affinity-web")?.data).toEqual(["ipv4"]);
  });
});

describe("who may keep clients", () => {
  const keepers = (facts: Record<string, BackendFacts>) =>
    keepersText(input(siteWith(), facts))
      .split(" ")
      .slice(2)
      .map((one) => one.split(".")[3]);
  it("backends in drain and backups that wait, but none that is down or in maintenance", () => {
    expect(keepers({})).toEqual(["11", "12", "13"]);
    expect(keepers({ "apps/b1": { health: "up", admin: "drain" } })).toEqual(["11", "12", "13"]);
    expect(keepers({ "apps/b1": { health: "down", admin: "enabled" } })).toEqual(["12", "13"]);
    expect(keepers({ "apps/b1": { health: "up", admin: "maintenance" } })).toEqual(["12", "13"]);
    expect(keepers({ "apps/b1": { health: "down", admin: "drain" } })).toEqual(["12", "13"]);
  });
});

describe("clients as keys", () => {
  const web = siteWith({ affinity: { timeout: "30m", ipv4Prefix: 24, ipv6Prefix: 56 } }).services[
    "web"
  ] as ForwardService;
  it("are their networks", () => {
    const network = parsePrefix("10.0.7.0/24");
    fc.assert(
      fc.property(fc.nat(255), fc.nat(255), (third, last) => {
        const client = ip(`10.0.${third}.${last}`);
        const key = clientKey(web, client);
        expect([...key]).toEqual([10, 0, third, 0]);
        expect(network.ok && prefixContains(network.value, client)).toBe(third === 7);
      }),
    );
    expect([...clientKey(web, ip("2001:db8:1:2fff::9"))]).toEqual([...ipBytes(ip("2001:db8:1:2f00::"))]);
  });
  it("are read back from the kernel's elements", () => {
    const element = {
      key: Uint8Array.of(10, 0, 0, 9),
      data: Uint8Array.of(10, 2, 0, 11, 0x1f, 0x90, 0, 0),
      expires: 5000,
    };
    expect(entriesOf("web", [element, { key: element.key, data: element.data }], 4)).toEqual([
      { service: "web", source: "10.0.0.9", backend: "10.2.0.11", port: 8080, expires: 5000 },
    ]);
    expect(entriesOf("web", [{ ...element, data: Uint8Array.of(10, 2, 0, 11) }], 4)[0]?.port).toBe(0);
  });
});
