import { describe, expect, it } from "vitest";
import { ip } from "../base/addresses.ts";
import { type SiteInput, siteSchema } from "../config/schema/site.ts";
import { planFor, trackName, virtualLinkLocal } from "./plan.ts";

type RouterInput = NonNullable<SiteInput["virtualRouters"]>[string];
const edge: RouterInput = {
  priorities: { lb1: 110, lb2: 100 },
  interval: "100ms",
  members: [{ interface: "eth0", vrid: 51, addresses: ["10.0.0.1"] }],
};
const site = (router: Partial<RouterInput> = {}): SiteInput => ({
  site: "shop",
  nodes: { lb1: { address: "10.1.0.2" }, lb2: { address: "10.1.0.3" }, lb3: { address: "10.1.0.4" } },
  virtualRouters: { edge: { ...edge, ...router } },
});
const plan = (router: Partial<RouterInput> = {}, node = "lb1") =>
  planFor(siteSchema.parse(site(router)), node, "d1");
const issues = (router: Partial<RouterInput>): string[] =>
  siteSchema.safeParse(site(router)).error?.issues.map((issue) => issue.message) ?? [];

describe("planFor", () => {
  it("gives a node its own part of each virtual router", () => {
    const [router] = plan().routers;
    expect(router).toMatchObject({
      router: "edge",
      priority: 110,
      interval: 100,
      preempt: false,
      preemptDelay: 0,
    });
    expect(router?.instances).toEqual([
      {
        interface: "eth0",
        vrid: 51,
        family: 4,
        unicast: false,
        addresses: [{ address: "10.0.0.1", interface: "eth0", advertise: true }],
        peers: [],
      },
    ]);
    expect(router?.nodes.map(({ node }) => node)).toEqual(["lb1", "lb2"]);
    expect(plan({}, "lb3").routers).toEqual([]);
    expect(() => plan({}, "lb9")).toThrow("no node lb9; it has lb1, lb2, lb3");
  });
  it("lets the addresses settle at which another node would not take a connection up by itself", () => {
    const backends = { app1: "10.1.0.11:80" };
    type Forward = NonNullable<NonNullable<SiteInput["services"]>[string]["forward"]>;
    const settle = (forward: Omit<Forward, "pool">) => {
      const back = { interface: "eth1", vrid: 52, addresses: ["10.1.0.1"] };
      const input: SiteInput = {
        ...site({ members: [...edge.members, back] }),
        pools: { apps: { backends } },
        services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { ...forward, pool: "apps" } } },
        flows: { keys: "keys" },
      };
      return planFor(siteSchema.parse(input), "lb1", "d1").routers[0]?.flows?.settle;
    };
    expect(settle({})).toEqual([]);
    expect(settle({ scheduler: "source" })).toEqual([]);
    expect(settle({ scheduler: "smooth" })).toEqual(["10.0.0.1"]);
    expect(settle({ affinity: { timeout: "30m" } })).toEqual(["10.0.0.1"]);
    expect(settle({ masquerade: "10.1.0.1" })).toEqual(["10.0.0.1", "10.1.0.1"]);
    expect(settle({ flows: "off" })).toBeUndefined();
  });
  it("makes the lease outlive a restart and ActiveDownInterval", () => {
    expect(plan().routers[0]?.lease).toBe(2000);
    expect(plan({ interval: "1s" }).routers[0]?.lease).toBe(5000);
    expect(plan({ lease: "7s" }).routers[0]?.lease).toBe(7000);
  });
  it("runs an instance per family, over IPv6 with a link-local address first", () => {
    const addresses = ["2001:db8::1", "10.0.0.1", "10.0.0.9"];
    const both = plan({ members: [{ interface: { lb1: "a", lb2: "b" }, vrid: 7, addresses }] });
    expect(
      both.routers[0]?.instances.map((i) => [i.family, i.interface, i.addresses.map((a) => a.address)]),
    ).toEqual([
      [4, "a", ["10.0.0.1", "10.0.0.9"]],
      [6, "a", ["fe80::200:5eff:fe00:207", "2001:db8::1"]],
    ]);
    const named = plan({ members: [{ interface: "a", vrid: 7, addresses: ["2001:db8::1", "fe80::7"] }] });
    expect(named.routers[0]?.instances[0]?.addresses.map((a) => a.address)).toEqual([
      "fe80::7",
      "2001:db8::1",
    ]);
    expect(virtualLinkLocal(255)).toBe(ip("fe80::200:5eff:fe00:2ff"));
    expect(() => plan({ members: [{ interface: { lb2: "b" }, vrid: 7, addresses }] })).toThrow(
      "no interface named for node lb1",
    );
  });
  it("names the unicast peers on each link", () => {
    const member = { interface: "eth0", vrid: 51, addresses: ["10.0.0.1", "fe80::1"] };
    const plain = plan({ transport: "unicast", members: [member] }).routers[0]?.instances;
    expect(plain?.map((i) => i.peers)).toEqual([[{ node: "lb2", address: "10.1.0.3" }], []]);
    const peers = { lb1: ["10.0.0.2"], lb2: ["10.0.0.3", "fe80::3"] };
    const named = plan({ transport: "unicast", members: [{ ...member, peers }] }).routers[0]?.instances;
    expect([plain, named].map((p) => p?.map((i) => i.source))).toEqual([
      ["10.1.0.2", undefined],
      ["10.0.0.2", undefined],
    ]);
    expect(named?.map((i) => i.peers.map((p) => p.address))).toEqual([["10.0.0.3"], ["fe80::3"]]);
  });
  it("names what is tracked as the brain reports it", () => {
    const router = plan({
      preempt: { delay: "30s" },
      track: [
        { interface: "eth1" },
        { gateway: ["10.0.0.254"], lower: 20 },
        { pool: "apps", atLeast: 2 },
        { process: "haproxy" },
        { script: ["/bin/true", "x"], lower: 5 },
      ],
    }).routers[0];
    expect(router?.tracks.map((t) => [t.name, t.kind, t.lower])).toEqual([
      ["interface eth1", "interface", undefined],
      ["gateway 10.0.0.254", "gateway", 20],
      ["pool apps at least 2", "reported", undefined],
      ["process haproxy", "process", undefined],
      ["script /bin/true x", "reported", 5],
    ]);
    expect(router).toMatchObject({ preempt: true, preemptDelay: 30_000 });
    expect(trackName({ interface: "x", lower: undefined })).toBe("interface x");
  });
});

describe("what a site may not ask of VRRP", () => {
  it("says why, and what instead", () => {
    expect(issues({ version: 2 })).toEqual([
      "version 2 counts in whole seconds, 1s to 255s: use 1s or more, or version 3",
    ]);
    expect(
      issues({ version: 2, interval: "1s", members: [{ interface: "a", vrid: 1, addresses: ["fe80::1"] }] }),
    ).toEqual(["version 2 knows IPv4 only, found fe80::1: use version 3"]);
    expect(issues({ interval: "15ms" })).toEqual([
      "version 3 counts in whole centiseconds: use a multiple of 10ms",
    ]);
    expect(issues({ password: "nines123" })).toEqual([
      "version 3 has no password (RFC 9568, 9); remove it or use version 2",
    ]);
    expect(issues({ version: 2, interval: "1s", password: "nines123" })).toEqual([]);
  });
});
