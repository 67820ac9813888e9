/** Bytes of whoever is at the other end: nothing throws, nothing grows, and each refusal has a name. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ip, ipBytes } from "../../base/addresses.ts";
import { type MonotonicMs, instant, ms } from "../../base/time.ts";
import { PeerMachine } from "./machine-peer.ts";
import { type FlowRecord, type Frame, MAX_FRAME, PROTOCOL_VERSION, encodeFrame } from "./wire.ts";

const now: MonotonicMs = instant(1000);
const flow: FlowRecord = {
  service: "web",
  family: 4,
  protocol: 6,
  original: {
    source: ipBytes(ip("10.0.0.9")),
    destination: ipBytes(ip("10.0.0.1")),
    sourcePort: 4711,
    destinationPort: 80,
  },
  reply: {
    source: ipBytes(ip("10.1.0.11")),
    destination: ipBytes(ip("10.0.0.9")),
    sourcePort: 8080,
    destinationPort: 4711,
  },
  tcpState: 3,
  windowScales: [7, 7],
  timeout: 600,
};
const dictionary = new Map([["web", 0]]);
const bytes = (frame: Frame): Uint8Array => encodeFrame(frame, dictionary);
const hello = (change: Partial<Extract<Frame, { type: "hello" }>> = {}): Uint8Array =>
  bytes({
    type: "hello",
    version: PROTOCOL_VERSION,
    site: "shop",
    node: "lb2",
    instance: "other",
    knows: { instance: "", applied: 0 },
    ...change,
  });
const batch = (seq: number): Uint8Array =>
  bytes({ type: "batch", seq, first: false, last: false, entries: [{ ended: false, flow }] });
const services = bytes({ type: "services", names: ["web"] });

function machine(): PeerMachine {
  const config = {
    site: "shop",
    node: "lb1",
    peer: "lb2",
    instance: "own",
    delay: ms(5),
    batch: 8,
    window: 3,
    alive: ms(1000),
  };
  const made = new PeerMachine(config, { get: () => undefined, keys: () => [] });
  made.connected(now);
  return made;
}
function greeted(): PeerMachine {
  const made = machine();
  made.receive(hello(), now);
  made.receive(services, now);
  expect(made.refusal).toBeUndefined();
  return made;
}

describe("a hostile peer", () => {
  it("never makes it throw, whatever bytes it sends in whatever pieces", () => {
    const garbage = fc.uint8Array({ maxLength: 300 });
    const damaged = fc
      .record({ at: fc.nat(200), value: fc.integer({ min: 0, max: 255 }), cut: fc.nat(200) })
      .map(({ at, value, cut }) => {
        const whole = Uint8Array.from([...services, ...batch(1), ...batch(2)]);
        if (at < whole.length) whole[at] = value;
        return whole.subarray(0, Math.max(1, whole.length - cut));
      });
    fc.assert(
      fc.property(fc.boolean(), fc.array(fc.oneof(garbage, damaged), { maxLength: 20 }), (first, chunks) => {
        const one = first ? greeted() : machine();
        for (const chunk of chunks) {
          one.receive(chunk, now);
          one.handleTimeout(now);
          one.takeOutput();
          for (const delivery of one.takeDeliveries()) {
            expect(delivery.entries.length).toBeLessThanOrEqual(MAX_FRAME);
            one.applied(delivery, now);
          }
        }
        one.disconnected();
        expect(one.refusal).toBeUndefined();
      }),
      { numRuns: 500 },
    );
  });
  it("is refused at the length of a frame that is too long, before its bytes are kept", () => {
    const one = greeted();
    one.receive(Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0), now);
    expect(one.refusal).toBeDefined();
    const before = one.status.bytesReceived;
    one.receive(new Uint8Array(1 << 20), now);
    expect(one.status.bytesReceived).toBe(before);
  });
  it.each([
    ["another site", hello({ site: "other" }), "site_other"],
    ["another node", hello({ node: "lb3" }), "node_other"],
    ["another version", hello({ version: 99 }), "version_unknown"],
    ["no greeting", bytes({ type: "alive" }), "hello_expected"],
  ])("is refused for %s", (_, sent, reason) => {
    const one = machine();
    one.receive(sent, now);
    expect(one.refusal).toBe(reason);
    expect(one.takeDeliveries()).toEqual([]);
  });
  it("cannot replay an old sequence, nor leave one out, nor acknowledge what was never sent", () => {
    const replayed = greeted();
    replayed.receive(batch(1), now);
    replayed.receive(batch(1), now);
    expect(replayed.refusal).toBe("sequence");
    expect(replayed.takeDeliveries()).toHaveLength(1);
    const skipping = greeted();
    skipping.receive(batch(2), now);
    expect(skipping.refusal).toBe("sequence");
    const acknowledging = greeted();
    acknowledging.receive(bytes({ type: "ack", seq: 99 }), now);
    expect(acknowledging.refusal).toBe("ack_unknown");
    const greeting = greeted();
    greeting.receive(hello(), now);
    expect(greeting.refusal).toBe("hello_again");
  });
  it("hears once of all that was carried out, and of nothing that a broken connection brought", () => {
    const one = greeted();
    one.takeOutput();
    for (const seq of [1, 2, 3]) one.receive(batch(seq), now);
    const [first, second, third] = one.takeDeliveries();
    if (first === undefined || second === undefined || third === undefined) throw new Error("three batches");
    one.applied(first, now);
    one.applied(second, now);
    expect(one.takeOutput()).toEqual([bytes({ type: "ack", seq: 2 })]);
    expect(one.takeOutput()).toEqual([]);
    one.applied(third, now);
    one.disconnected();
    one.connected(now);
    // Only the greeting, which says how far we got.
    const [greeting, ...more] = one.takeOutput();
    expect(more).toEqual([]);
    expect(greeting?.slice(-4)).toEqual(Uint8Array.of(0, 0, 0, 3));
  });
  it("is heard no more after a refusal until it connects anew", () => {
    const one = greeted();
    one.receive(batch(7), now);
    one.receive(batch(1), now);
    expect(one.takeDeliveries()).toEqual([]);
    one.disconnected();
    one.connected(now);
    one.receive(hello(), now);
    one.receive(services, now);
    one.receive(batch(1), now);
    expect(one.refusal).toBeUndefined();
    expect(one.takeDeliveries()).toHaveLength(1);
  });
});
