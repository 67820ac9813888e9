import { describe, expect, it } from "vitest";
import { addTime, instant, ms } from "../../base/time.ts";
import { type Flow, TCP_STATE, flowKey } from "../../linux/wire-conntrack.ts";
import { LONGEST } from "./machine-flow.ts";
import { FlowStore } from "./machine-store.ts";
import type { RouterTerm } from "./machine-terms.ts";
import { MASK, flow, marks } from "./testing/stores.ts";
import type { Entry, FlowRecord } from "./wire.ts";

const EDGE = new Set(["edge"]);
const now = instant(0);
const store = (name: "lb1" | "lb2"): FlowStore => {
  const made = new FlowStore(MASK, name);
  made.configure([{ name: "web", router: "edge", mark: marks[name] ?? 0 }]);
  return made;
};
const halfOpen = (n: number): Flow => ({
  ...flow(n, 11, marks["lb1"] ?? 0),
  status: 0x2 | 0x8,
  tcpState: TCP_STATE.SYN_RECV,
  timeout: 60,
});
const record = (one: Flow): FlowRecord => ({ ...one, service: "web" });
const batch = (flows: readonly FlowRecord[], active: boolean, seq = 1) => ({
  seq,
  first: false,
  last: false,
  entries: flows.map((one): Entry => ({ ended: false, flow: one })),
  terms: new Map<string, RouterTerm>([["edge", { router: "edge", term: 1, seen: 1, active }]]),
});

describe("connections in their handshake", () => {
  it("are told while their router is handed over, and are not among what the node holds", () => {
    const lb1 = store("lb1");
    lb1.setActive(EDGE, now);
    const { tell } = lb1.handshakes([halfOpen(1), { ...halfOpen(2), mark: 0x4e000077 }], EDGE);
    expect(tell).toEqual([
      { key: flowKey(halfOpen(1)), halfOpen: expect.objectContaining({ service: "web" }) },
    ]);
    expect(lb1.counts).toEqual({ own: 0, others: 0 });
    expect(lb1.handshakes([halfOpen(1)], new Set(["other"])).tell).toEqual([]);
    // Meanwhile it was assured: it has been told already.
    lb1.kernelFlow({ ...halfOpen(1), tcpState: TCP_STATE.ESTABLISHED }, now);
    expect(lb1.handshakes([halfOpen(1)], EDGE).tell).toEqual([]);
  });

  it("go into the next Active's kernel, are its own once it is Active, and run out where it never is", () => {
    const lb2 = store("lb2");
    expect(lb2.remote("lb1", batch([record(halfOpen(1))], true), now).create).toHaveLength(1);
    // Nobody would tell of its end.
    expect(lb2.upkeep(addTime(now, ms(LONGEST * 1000))).prolong).toEqual([]);
    expect(lb2.setActive(EDGE, now).tell).toEqual([{ key: flowKey(halfOpen(1)) }]);
    expect(lb2.own.get(flowKey(halfOpen(1)))?.tcpState).toBe(TCP_STATE.SYN_RECV);

    const third = store("lb2");
    third.remote("lb1", batch([record(halfOpen(1))], true), now);
    third.kernelEnd(halfOpen(1), now);
    expect(third.counts).toEqual({ own: 0, others: 0 });
  });

  it("that are told after the hand-over are the next Active's at once", () => {
    const lb2 = store("lb2");
    lb2.setActive(EDGE, now);
    const effects = lb2.remote("lb1", batch([record(halfOpen(1))], false), now);
    expect(effects.create).toHaveLength(1);
    expect(lb2.counts).toEqual({ own: 1, others: 0 });
  });

  it("never set back what is known to be further, and give way to another connection with the same addresses", () => {
    const lb2 = store("lb2");
    const established = record({ ...halfOpen(1), tcpState: TCP_STATE.ESTABLISHED });
    lb2.remote("lb1", batch([established], true), now);
    const again = lb2.remote("lb1", batch([record(halfOpen(1))], true, 2), now);
    expect([again.create, again.update, again.delete]).toEqual([[], [], []]);
    const other = { ...halfOpen(1), reply: flow(1, 12, 0).reply };
    const changed = lb2.remote("lb1", batch([record(other)], true, 3), now);
    expect([changed.delete.length, changed.create.length]).toEqual([1, 1]);
  });
});
