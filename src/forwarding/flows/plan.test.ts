import { expect, it } from "vitest";
import { type SiteInput, siteSchema } from "../../config/schema/site.ts";
import { serviceMark } from "../marks.ts";
import { peersOf, replicatedServices, takesPart } from "./plan.ts";

const input: SiteInput = {
  site: "shop",
  nodes: { lb1: { address: "10.1.0.2" }, lb2: { address: "10.1.0.3" }, web1: { address: "10.1.0.4" } },
  virtualRouters: {
    edge: {
      priorities: { lb2: 100, lb1: 110 },
      members: [{ interface: "eth0", vrid: 51, addresses: ["10.0.0.1", "10.1.0.1"] }],
    },
  },
  pools: { apps: { backends: { app1: "10.1.0.11:80" } } },
  services: {
    web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } },
    api: { on: "edge", listen: "10.0.0.1:81/tcp", forward: { pool: "apps", masquerade: "10.1.0.1" } },
    old: { on: "edge", listen: "10.0.0.1:82/tcp", forward: { pool: "apps", flows: "off" } },
  },
  flows: { keys: "keys", port: 7411 },
};
const site = siteSchema.parse(input);

it("nodes that share a router with replicated connections are peers", () => {
  expect(peersOf(site, "lb1")).toEqual([{ node: "lb2", address: "10.1.0.3", port: 7411 }]);
  expect([takesPart(site, "lb2"), takesPart(site, "web1")]).toEqual([true, false]);
  expect(takesPart(siteSchema.parse({ ...input, flows: undefined }), "lb1")).toBe(false);
});

it("services are told by name, router and mark, masqueraded ones with each node's ports", () => {
  const ids = new Map([
    ["web", 1],
    ["api", 2],
    ["old", 3],
  ]);
  expect(replicatedServices(site, ids)).toEqual([
    { name: "web", router: "edge", mark: serviceMark(1) },
    {
      name: "api",
      router: "edge",
      mark: serviceMark(2),
      shares: [
        { node: "lb2", ports: [33280, 65535] },
        { node: "lb1", ports: [1024, 33279] },
      ],
    },
  ]);
  expect(replicatedServices(site, new Map([["web", 1]])).map(({ name }) => name)).toEqual(["web"]);
});
