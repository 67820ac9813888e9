import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fail } from "../../base/result.ts";
import { MessageGuard } from "./guard.ts";
import { type Datagram, encodeDatagram } from "./wire.ts";

const secret = new TextEncoder().encode("a secret of sixteen bytes, or more");
const from = { site: "shop", node: "lb1" };
const message = (change: Partial<Datagram> = {}): Uint8Array =>
  encodeDatagram({
    boot: 1_790_000_000_123,
    sequence: 7,
    ...from,
    digest: "d1",
    body: { type: "offer", id: 9, router: "edge" },
    ...change,
  });

describe("messages that are believed", () => {
  const sender = new MessageGuard(secret);
  it("carry the HMAC of the secret: changed, without one or with another secret's, they are dropped", () => {
    const sealed = sender.seal(message());
    expect(new MessageGuard(secret).open(sealed, from)).toMatchObject({
      ok: true,
      value: { restarted: false },
    });
    for (let at = 0; at < sealed.length; at++) {
      const changed = sealed.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(new MessageGuard(secret).open(changed, from)).toEqual(fail("authentication"));
    }
    expect(new MessageGuard(secret).open(message(), from)).toEqual(fail("authentication"));
    expect(new MessageGuard(secret).open(new Uint8Array(), from)).toEqual(fail("authentication"));
    const other = new MessageGuard(new TextEncoder().encode("another secret, sixteen bytes"));
    expect(new MessageGuard(secret).open(other.seal(message()), from)).toEqual(fail("authentication"));
    // Where this node has none, the other's tag is not part of any message.
    expect(new MessageGuard(undefined).open(sealed, from).ok).toBe(false);
  });
  it("say of themselves what their address says of them", () => {
    for (const wrong of [{ site: "other" }, { node: "lb2" }])
      expect(new MessageGuard(secret).open(sender.seal(message(wrong)), from)).toEqual(fail("name"));
  });
  it("are newer than the last: a copy is a replay, out of order as well", () => {
    const guard = new MessageGuard(secret);
    const sequence = (value: number) => guard.open(sender.seal(message({ sequence: value })), from);
    expect(sequence(7).ok).toBe(true);
    expect(sequence(7)).toEqual(fail("replay"));
    expect(sequence(9).ok).toBe(true);
    expect(sequence(8)).toEqual(fail("replay"));
    expect(sequence(10).ok).toBe(true);
  });
  it("may come from an older clock after a restart only where there is no secret to protect", () => {
    const earlier = message({ boot: 1_700_000_000_000, sequence: 1 });
    const authenticated = new MessageGuard(secret);
    authenticated.open(sender.seal(message()), from);
    expect(authenticated.open(sender.seal(earlier), from)).toEqual(fail("replay"));
    const plain = new MessageGuard(undefined);
    plain.open(message(), from);
    expect(plain.open(earlier, from)).toMatchObject({ ok: true, value: { restarted: true } });
    expect(plain.open(earlier, from)).toEqual(fail("replay"));
  });
  it("are never arbitrary bytes, and those never throw", () => {
    const guard = new MessageGuard(secret);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(guard.open(bytes, from).ok).toBe(false);
      }),
    );
  });
});
