import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fromHex, hex } from "../../base/bytes.ts";
import { fail, ok } from "../../base/result.ts";
import {
  type Datagram,
  HANDOVER_DROP_REASONS,
  HANDOVER_MAX_BYTES,
  decodeDatagram,
  encodeDatagram,
  hellosOf,
  routerKey,
} from "./wire.ts";

const head = { boot: 1_790_000_000_123, sequence: 7, site: "shop", node: "lb1", digest: "d1" };

describe("messages between nodes", () => {
  it("reads back what it writes", () => {
    const text = fc.string({ maxLength: 60, unit: "binary-ascii" });
    const id = fc.integer({ min: 0, max: 0xffffffff });
    const router = text;
    const body = fc.oneof(
      fc.record({ type: fc.constantFrom("offer" as const, "cancel" as const), id, router }),
      fc.record({ type: fc.constant("refuse" as const), id, router, reason: text }),
      fc.record({ type: fc.constant("ask" as const), id, router, to: text }),
      fc.record({ type: fc.constant("answer" as const), id, router, error: text }),
      fc.record({
        type: fc.constant("hello" as const),
        routers: fc.array(
          fc.record({
            key: id,
            state: fc.constantFrom(
              "initialize" as const,
              "backup" as const,
              "active" as const,
              "fault" as const,
            ),
            priority: fc.integer({ min: 0, max: 255 }),
            eligible: fc.boolean(),
            life: id,
            claims: fc.integer({ min: 0, max: 0xffff }),
          }),
          { maxLength: 20 },
        ),
      }),
    );
    fc.assert(
      fc.property(body, (body) => {
        const datagram: Datagram = { ...head, body };
        expect(decodeDatagram(encodeDatagram(datagram))).toEqual(ok(datagram));
      }),
    );
  });
  it("has stable bytes", () => {
    const bytes = encodeDatagram({ ...head, body: { type: "offer", id: 9, router: "edge" } });
    expect(hex(bytes)).toBe("4e494e450101000001a0c4506c7b000000070473686f70036c6231026431000000090465646765");
    expect(routerKey("edge")).toBe(0x56f6d83c);
  });
  it("says hello of any number of routers, in datagrams that fit", () => {
    const routers = Array.from({ length: 150 }, (_, key) => ({
      key,
      state: "active" as const,
      priority: 100,
      eligible: true,
      life: 1,
      claims: 1,
    }));
    const hellos = hellosOf(routers);
    expect(hellos.flatMap((hello) => hello.routers)).toEqual(routers);
    const long = { ...head, site: "s".repeat(63), node: "n".repeat(63), digest: "d".repeat(64) };
    for (const body of hellos)
      expect(encodeDatagram({ ...long, body }).length).toBeLessThanOrEqual(HANDOVER_MAX_BYTES);
    // The digest is told by a node without routers, too.
    expect(hellosOf([])).toEqual([{ type: "hello", routers: [] }]);
  });
  it("names why it drops, and never throws", () => {
    const good = encodeDatagram({ ...head, body: { type: "offer", id: 9, router: "edge" } });
    const changed = (at: number, value: number): Uint8Array => {
      const copy = good.slice();
      copy[at] = value;
      return copy;
    };
    expect(decodeDatagram(changed(0, 0))).toEqual(fail("magic"));
    expect(decodeDatagram(changed(4, 9))).toEqual(fail("version"));
    expect(decodeDatagram(changed(5, 9))).toEqual(fail("type"));
    expect(decodeDatagram(changed(6, 0xff))).toEqual(fail("field"));
    for (let length = 0; length < good.length; length++)
      expect(decodeDatagram(good.subarray(0, length)).ok).toBe(false);
    expect(decodeDatagram(fromHex("4e494e4501"))).toEqual(fail("truncated"));
    fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => void decodeDatagram(bytes)));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (rest) => {
        const bytes = new Uint8Array(22 + rest.length);
        bytes.set(good.subarray(0, 22));
        bytes.set(rest, 22);
        const decoded = decodeDatagram(bytes);
        if (!decoded.ok) expect(decoded.error in HANDOVER_DROP_REASONS).toBe(true);
      }),
    );
  });
});
