import { describe, expect, it } from "vitest";
import { siteSchema } from "../config/schema/site.ts";
import type { Site, SiteInput } from "../contracts/site.ts";
import { planLab } from "./topology.ts";

function twoTier(change: Partial<SiteInput> = {}): Site {
  return siteSchema.parse({
    site: "shop",
    nodes: { lb1: { address: "10.1.0.2" }, lb2: { address: "10.1.0.3" } },
    virtualRouters: {
      edge: {
        priorities: { lb1: 110, lb2: 100 },
        members: [
          { interface: "eth0", vrid: 51, addresses: ["10.0.0.1", "fd00:a::1"] },
          { interface: { lb1: "eth1", lb2: "enp2s0" }, vrid: 52, addresses: ["10.1.0.1"] },
        ],
      },
    },
    pools: {
      apps: { backends: { app1: "10.1.0.11:8080" }, check: { tcp: true, port: 9000 } },
      resolvers: { backends: { app1: "10.1.0.11:53" } },
    },
    services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } } },
    lab: { networks: { front: ["10.0.0.0/24", "fd00:a::/64"], back: "10.1.0.0/24" } },
    ...change,
  } satisfies SiteInput);
}

function plan(site: Site) {
  const planned = planLab(site);
  if (!planned.ok) throw new Error(planned.error.join("\n"));
  return planned.value;
}

const addresses = (site: Site, host: string) =>
  plan(site)
    .hosts.find(({ name }) => name === host)
    ?.interfaces.map((one) => [
      one.name,
      one.network,
      ...one.addresses.map((a) => `${a.address}/${a.length}`),
    ]);

describe("the lab's topology", () => {
  it("derives a node's interfaces from its virtual routers and counts free addresses", () => {
    expect(addresses(twoTier(), "lb1")).toEqual([
      ["eth0", "front", "10.0.0.2/24", "fd00:a::2/64"],
      ["eth1", "back", "10.1.0.2/24"],
    ]);
    expect(addresses(twoTier(), "lb2")).toEqual([
      ["eth0", "front", "10.0.0.3/24", "fd00:a::3/64"],
      ["enp2s0", "back", "10.1.0.3/24"],
    ]);
  });

  it("knows a node that another one forwards to: it is no host twice, and who answers is behind it", () => {
    const site = twoTier({
      nodes: {
        lb1: { address: "10.1.0.2" },
        lb2: { address: "10.1.0.3" },
        px1: { address: "10.1.0.21" },
      },
      pools: {
        apps: { backends: { app1: "10.1.0.11:8080" } },
        proxies: { backends: { px1: "10.1.0.21:80" } },
      },
      services: {
        front: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "proxies" } },
        web: { listen: "10.1.0.21:80/tcp", proxy: { pool: "apps" } },
      },
    });
    const { hosts, targets, proxies } = plan(site);
    expect(hosts.map(({ name, kind, gateways }) => [name, kind, ...gateways])).toEqual([
      ["lb1", "node"],
      ["lb2", "node"],
      ["px1", "node", "10.1.0.1"],
      ["app1", "backend", "10.1.0.1"],
      ["client", "client", "10.0.0.1", "fd00:a::1"],
    ]);
    expect(targets).toEqual([
      { service: "front", address: "10.0.0.1", port: 80, protocol: "tcp", http: true, backends: ["app1"] },
    ]);
    expect(proxies).toEqual(["px1"]);
  });

  it("makes one host of a backend that two pools name, which also answers its checks", () => {
    const backend = plan(twoTier()).hosts.find(({ name }) => name === "app1");
    expect(backend?.listens.map(({ port, check }) => [port, check?.kind])).toEqual([
      [8080, undefined],
      [9000, "tcp"],
      [53, undefined],
    ]);
    expect(backend?.gateways).toEqual(["10.1.0.1"]);
  });

  it("refuses checks that its backends cannot answer, and names them", () => {
    const site = twoTier({
      pools: { apps: { backends: { app1: "10.1.0.11:8080" }, check: { http: "/", tls: true } } },
    });
    expect(planLab(site)).toEqual({
      ok: false,
      error: ["pools.apps.check: the lab's backends speak no TLS: drills need a check without it"],
    });
  });

  it("puts the client on the network of the first service", () => {
    expect(addresses(twoTier(), "client")).toEqual([["eth0", "front", "10.0.0.100/24", "fd00:a::64/64"]]);
  });

  it("plugs a node into a network of its own address where no router has an interface there", () => {
    const site = twoTier({
      lab: { networks: { front: ["10.0.0.0/24", "fd00:a::/64"], back: "10.1.0.0/24", mgmt: "10.9.0.0/24" } },
    });
    const moved: Site = {
      ...site,
      nodes: twoTier({ nodes: { lb1: { address: "10.9.0.2" }, lb2: { address: "10.1.0.3" } } }).nodes,
    };
    expect(addresses(moved, "lb1")).toEqual([
      ["eth0", "front", "10.0.0.2/24", "fd00:a::2/64"],
      ["eth1", "back", "10.1.0.2/24"],
      ["eth2", "mgmt", "10.9.0.2/24"],
    ]);
  });

  it("keeps port names within the kernel's 15 characters and apart", () => {
    const { hosts, crowd } = plan(
      twoTier({
        lab: {
          networks: { front: ["10.0.0.0/24", "fd00:a::/64"], back: "10.1.0.0/24" },
          clients: { "a-client-with-a-long-name": {} },
        },
      }),
    );
    const ports = [...hosts, crowd].flatMap((host) => host.interfaces.map(({ port }) => port));
    expect(Math.max(...ports.map(({ length }) => length))).toBeLessThanOrEqual(15);
    expect(new Set(ports).size).toBe(ports.length);
  });

  it("names every address that has no place, at once", () => {
    const planned = planLab(twoTier({ lab: { networks: { front: "10.0.0.0/24" } } }));
    expect(planned).toEqual({
      ok: false,
      error: [
        "virtualRouters.edge: 10.1.0.1 is in no prefix of lab.networks",
        "nodes.lb1: 10.1.0.2 is in no prefix of lab.networks",
        "nodes.lb2: 10.1.0.3 is in no prefix of lab.networks",
        "backend app1: 10.1.0.11 is in no prefix of lab.networks",
      ],
    });
  });

  it("says when a prefix is full, and when there is no lab section", () => {
    const full = planLab(
      twoTier({ lab: { networks: { front: ["10.0.0.0/30", "fd00:a::/64"], back: "10.1.0.0/24" } } }),
    );
    expect(full.ok ? [] : full.error[0]).toBe("client.eth0: no free address is left in 10.0.0.0/30");
    const none = planLab(siteSchema.parse({ site: "x", nodes: {} }));
    expect(none.ok ? "" : none.error[0]).toMatch(/no `lab:` section/);
  });
});
