import { describe, expect, it } from "vitest";
import type { FlowsPeer, FlowsReport } from "../../contracts/flows.ts";
import type { RouterState } from "../../contracts/redundancy.ts";
import { pairInput, router, site } from "../testing/fakes.ts";
import { movers } from "./policy-maintenance.ts";

const active = (others: { node: string; state: RouterState; priority?: number }[]) => [
  router({ state: "active", others }),
];
const peer = (more: Partial<FlowsPeer> = {}): FlowsPeer => ({
  node: "b",
  connected: true,
  sentAll: true,
  receivedAll: true,
  unacknowledged: 0,
  lag: 0,
  snapshots: 0,
  resumes: 0,
  entriesSent: 0,
  entriesReceived: 0,
  bytesSent: 0,
  bytesReceived: 0,
  ...more,
});
const report = (one?: FlowsPeer): FlowsReport => ({
  peers: one === undefined ? [] : [one],
  own: 0,
  others: 0,
  counters: {},
});
const fit = { node: "b", state: "backup", priority: 100 } as const;
const replicating = site({ ...pairInput, flows: { keys: "keys" } });

describe("who takes a drained node's routers", () => {
  it("is the best node that is heard as a Backup; a router that is Active elsewhere needs nobody", () => {
    expect(movers(site(), "a", active([fit]), undefined)).toEqual([{ router: "edge", to: "b", reason: "" }]);
    expect(movers(site(), "a", [router({ state: "backup" })], undefined)).toEqual([]);
    const three = site({
      ...pairInput,
      nodes: { ...pairInput.nodes, c: { address: "10.0.0.4" } },
      virtualRouters: {
        edge: {
          priorities: { a: 110, b: 90, c: 100 },
          members: [{ interface: "eth0", vrid: 51, addresses: ["10.0.0.1"] }],
        },
      },
    });
    const heard = active([
      { ...fit, priority: 90 },
      { node: "c", state: "backup", priority: 100 },
    ]);
    expect(movers(three, "a", heard, undefined)[0]?.to).toBe("c");
    expect(movers(three, "a", active([{ ...fit, priority: 90 }]), undefined)[0]?.to).toBe("b");
  });

  it.each([
    ["nobody is heard", site(), [], undefined, /^b is not heard$/],
    ["it is in fault", site(), [{ ...fit, state: "fault" as const }], undefined, /b is in state fault/],
    [
      "it is out itself",
      site(),
      [{ ...fit, priority: 1 }],
      undefined,
      /priority 1 of 100: it is in maintenance/,
    ],
    ["no flows process speaks", replicating, [fit], undefined, /nothing is known/],
    ["it does not replicate", replicating, [fit], report(), /nothing is known/],
    ["it is not connected", replicating, [fit], report(peer({ connected: false })), /not connected/],
    [
      "it has not got everything",
      replicating,
      [fit],
      report(peer({ sentAll: false, unacknowledged: 3 })),
      /3 not acknowledged/,
    ],
  ])("is nobody where %s, with the reason", (_, of, others, flows, reason) => {
    expect(movers(of, "a", active(others), flows)).toEqual([
      { router: "edge", to: undefined, reason: expect.stringMatching(reason) as string },
    ]);
  });

  it("needs no connections where none are replicated, and all of them where they are", () => {
    expect(movers(replicating, "a", active([fit]), report(peer()))[0]?.to).toBe("b");
    const off = site({ ...pairInput, flows: { keys: "keys" }, services: {} });
    expect(movers(off, "a", active([fit]), undefined)[0]?.to).toBe("b");
  });
});
