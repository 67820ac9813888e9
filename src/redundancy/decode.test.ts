import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ok } from "../base/result.ts";
import { siteSchema } from "../config/schema/site.ts";
import { decodeFromNode, decodePlan } from "./decode.ts";
import { planFor } from "./plan.ts";

const site = siteSchema.parse({
  site: "shop",
  nodes: { lb1: { address: "10.1.0.2" }, lb2: { address: "10.1.0.3" } },
  virtualRouters: {
    edge: {
      priorities: { lb1: 110, lb2: 100 },
      transport: "unicast",
      members: [
        {
          interface: "eth0",
          vrid: 51,
          addresses: ["10.0.0.1", "2001:db8::1"],
          peers: { lb1: ["10.0.0.2"], lb2: ["10.0.0.3", "fe80::3"] },
        },
      ],
      track: [
        { interface: "eth1" },
        { gateway: ["10.0.0.254"], lower: 5 },
        { process: "x" },
        { pool: "apps" },
      ],
      hooks: { active: ["/bin/true"] },
    },
  },
  pools: { apps: { backends: {} } },
});
const plan = planFor(site, "lb1", "d1");
const travelled = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
const maintained = { ...plan, maintenance: "an operator has drained this node" };
const error = (value: unknown): string => {
  const decoded = decodeFromNode(value);
  return decoded.ok ? "accepted" : decoded.error;
};

describe("messages from the brain", () => {
  it("come through as they were sent", () => {
    const message = { type: "plan", plan } as const;
    expect(decodeFromNode(travelled(message))).toEqual(ok(travelled(message)));
    expect(decodePlan(travelled(plan))).toEqual(ok(travelled(plan)));
    expect(decodePlan(travelled(maintained))).toEqual(ok(travelled(maintained)));
    expect(decodeFromNode({ type: "stop", keep: true })).toEqual(ok({ type: "stop", keep: true }));
    expect(decodeFromNode({ type: "switchover", id: 1, router: "edge", to: "lb2" }).ok).toBe(true);
    const facts = [{ name: "pool apps at least 1", good: false, reason: "0 of 3" }];
    expect(decodeFromNode({ type: "facts", facts, more: 1 })).toEqual(ok({ type: "facts", facts }));
  });
  it("are refused with the place and what is expected", () => {
    const changed = (change: (router: Record<string, unknown>) => void): unknown => {
      const copy = travelled({ type: "plan", plan }) as { plan: { routers: Record<string, unknown>[] } };
      for (const router of copy.plan.routers) change(router);
      return copy;
    };
    expect(error(null)).toBe("message: expected an object");
    expect(error({ type: "x" })).toBe("type: expected one of plan, facts, switchover, stop");
    expect(error(changed((r) => (r["priority"] = 0)))).toBe(
      "plan.routers[0].priority: expected a whole number from 1 to 255",
    );
    expect(error(changed((r) => (r["tracks"] = [{ kind: "moon" }])))).toBe(
      "plan.routers[0].tracks[0].kind: expected one of interface, gateway, process, reported",
    );
    expect(error(changed((r) => (r["instances"] = [{ ...plan.routers[0]?.instances[0], family: 6 }])))).toBe(
      "plan.routers[0].instances[0]: expected addresses of IPv6 only, found 10.0.0.1",
    );
    expect(error({ type: "facts", facts: Array(20_000).fill(0) })).toContain("a list of at most");
  });
  it("never throw, whatever they are", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        decodeFromNode(value);
        decodePlan(value);
        decodeFromNode({ type: "plan", plan: value });
        decodeFromNode({ type: "plan", plan: { ...plan, routers: [value] } });
      }),
    );
  });
});
