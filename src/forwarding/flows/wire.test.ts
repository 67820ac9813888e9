import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Entry,
  type Frame,
  FrameReader,
  MAX_FRAME,
  PROTOCOL_VERSION,
  decodeFrame,
  encodeFrame,
} from "./wire.ts";

const services = ["web", "dns", "größe"];
const dictionary = new Map(services.map((name, i) => [name, i]));
const port = fc.integer({ min: 0, max: 65535 });
const entry = fc.constantFrom(4, 16).chain((width) => {
  const address = fc.uint8Array({ minLength: width, maxLength: width });
  const tuple = fc.record({ source: address, destination: address, sourcePort: port, destinationPort: port });
  return fc
    .record({
      ended: fc.boolean(),
      service: fc.constantFrom(...services),
      protocol: fc.constantFrom(6, 17),
      original: tuple,
      reply: tuple,
      masqueraded: fc.boolean(),
      tcpState: fc.integer({ min: 0, max: 9 }),
      windowScales: fc.option(fc.tuple(fc.integer({ min: 0, max: 14 }), fc.integer({ min: 0, max: 14 })), {
        nil: undefined,
      }),
      timeout: fc.integer({ min: 0, max: 0xffffffff }),
    })
    .map(({ ended, masqueraded, reply, ...rest }): Entry => {
      const family = width === 4 ? 4 : 6;
      const { protocol, original, service } = rest;
      if (ended) return { ended: true, flow: { family, protocol, original, service } };
      const towards = masqueraded
        ? reply
        : { destination: original.source, destinationPort: original.sourcePort };
      return {
        ended: false,
        flow: {
          ...rest,
          family,
          reply: { ...reply, destination: towards.destination, destinationPort: towards.destinationPort },
        },
      };
    });
});
const number = fc.integer({ min: 0, max: 2 ** 48 - 1 });
const frame: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({
    type: fc.constant("hello" as const),
    version: fc.constant(PROTOCOL_VERSION),
    site: fc.string(),
    node: fc.string(),
    instance: fc.string(),
    knows: fc.record({ instance: fc.string(), applied: number }),
  }),
  fc.record({ type: fc.constant("services" as const), names: fc.array(fc.string(), { maxLength: 5 }) }),
  fc.record({
    type: fc.constant("batch" as const),
    seq: number,
    first: fc.boolean(),
    last: fc.boolean(),
    entries: fc.array(entry, { maxLength: 6 }),
  }),
  fc.record({ type: fc.constant("ack" as const), seq: number }),
  fc.record({ type: fc.constant("alive" as const) }),
);

describe("the replication channel", () => {
  it("round trip, however the stream is cut", () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 4 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
        (frames, sizes) => {
          const stream = Uint8Array.from(frames.flatMap((one) => [...encodeFrame(one, dictionary)]));
          const reader = new FrameReader();
          const read: unknown[] = [];
          for (let at = 0, i = 0; at < stream.length; i++) {
            const size = sizes[i % sizes.length] ?? 1;
            const cut = reader.receive(stream.subarray(at, at + size));
            at += size;
            if (!cut.ok) throw new Error(cut.error);
            for (const bytes of cut.value) read.push(decodeFrame(bytes, services));
          }
          expect(read).toEqual(frames.map((value) => ({ ok: true, value })));
        },
      ),
    );
  });
  it("a TCP flow over IPv4 takes 27 bytes, its end 15", () => {
    const original = {
      source: new Uint8Array(4),
      destination: new Uint8Array(4),
      sourcePort: 1,
      destinationPort: 2,
    };
    const flow = { family: 4 as const, protocol: 6, original, service: "web" };
    const reply = { ...original, destinationPort: 1 };
    const size = (one: Entry) =>
      encodeFrame({ type: "batch", seq: 1, first: false, last: false, entries: [one] }, dictionary).length -
      14;
    expect(
      size({ ended: false, flow: { ...flow, reply, tcpState: 3, windowScales: [7, 7], timeout: 9 } }),
    ).toBe(27);
    expect(size({ ended: true, flow })).toBe(15);
  });
  it("what was read stays as it was when its bytes are used again", () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 6 }), (entries) => {
        const batch = { type: "batch" as const, seq: 1, first: false, last: true, entries };
        const bytes = encodeFrame(batch, dictionary).slice(4);
        const read = decodeFrame(bytes, services);
        bytes.fill(0xa5);
        expect(read).toEqual({ ok: true, value: batch });
      }),
    );
  });
  it("a long frame in small pieces is whole in the end, and what follows it as well", () => {
    const names = Array.from({ length: 3000 }, (_, i) => `service ${i}`);
    const frames: Frame[] = [{ type: "services", names }, { type: "alive" }, { type: "ack", seq: 7 }];
    const stream = Uint8Array.from(frames.flatMap((one) => [...encodeFrame(one, dictionary)]));
    const reader = new FrameReader();
    const read: unknown[] = [];
    for (let at = 0; at < stream.length; at += 7) {
      const cut = reader.receive(stream.slice(at, at + 7));
      if (!cut.ok) throw new Error(cut.error);
      for (const bytes of cut.value) read.push(decodeFrame(bytes, services));
    }
    expect(read).toEqual(frames.map((value) => ({ ok: true, value })));
  });
  it("refuses by name", () => {
    const reason = (bytes: number[]) => decodeFrame(Uint8Array.from(bytes), ["web"]);
    expect(reason([])).toEqual({ ok: false, error: "frame_type" });
    expect(reason([9])).toEqual({ ok: false, error: "frame_type" });
    expect(reason([4, 0, 0])).toEqual({ ok: false, error: "frame_short" });
    expect(reason([5, 0])).toEqual({ ok: false, error: "frame_rest" });
    expect(reason([3, 0, 0, 0, 0, 0, 1, 0, 0, 1, 128, 0, 0])).toEqual({ ok: false, error: "entry_flags" });
    expect(reason([3, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 9])).toEqual({ ok: false, error: "entry_service" });
    expect(reason([3, 0, 0, 0, 0, 0, 1, 0, 255, 255])).toEqual({ ok: false, error: "batch_too_long" });
    // Another version may say more of itself, or less.
    expect(reason([1, 0, PROTOCOL_VERSION + 1, 0])).toEqual({ ok: false, error: "version_unknown" });
    const long = new Uint8Array(4);
    new DataView(long.buffer).setUint32(0, MAX_FRAME + 1);
    expect(new FrameReader().receive(long)).toEqual({ ok: false, error: "frame_too_long" });
  });
  it("arbitrary bytes never throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 0, max: 6 }), (bytes, type) => {
        new FrameReader().receive(bytes);
        decodeFrame(bytes, services);
        decodeFrame(Uint8Array.from([type, ...bytes]), services);
      }),
      { numRuns: 1000 },
    );
  });
});
