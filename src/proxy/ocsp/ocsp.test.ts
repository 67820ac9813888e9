import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { SystemClock } from "../../base/system-clock.ts";
import { Authority } from "../testing/authority.ts";
import { cleanUp, makeCertificate, openssl } from "../testing/harness.ts";
import { checkAnswer, issuedOf, requestFor, responderOf } from "./answers.ts";
import { askAt, holds } from "./policy-staple.ts";
import { DerReader, TAG, der, oidText, timeValue } from "./wire-der.ts";
import { certificateParts, decodeResponse } from "./wire-ocsp.ts";

const HOUR = 3_600_000;
const now = (): number => new SystemClock().wall();

afterEach(cleanUp);

describe("DER", () => {
  it("is read as it is written, whatever the length", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 5 }), (parts) => {
        const bytes = der(TAG.sequence, ...parts.map((part) => der(TAG.octetString, part)));
        const outer = new DerReader(bytes);
        const reader = outer.enter(TAG.sequence);
        for (const part of parts) expect(reader.content(TAG.octetString)).toEqual(part);
        expect([reader.done, outer.done, reader.bad]).toEqual([true, true, false]);
      }),
    );
    expect(der(TAG.octetString, new Uint8Array(70_000)).subarray(0, 5)).toEqual(
      Uint8Array.of(4, 0x83, 0x01, 0x11, 0x70),
    );
  });

  it("has one form of a length (X.690 10.1)", () => {
    for (const bytes of [
      [0x04, 0x80, 0, 0],
      [0x04, 0x81, 0x01, 0x00],
      [0x04, 0x82, 0x00, 0x81, ...Array.from({ length: 0x81 }, () => 0)],
      [0x04, 0x85, 0, 0, 0, 0, 1, 0],
      [0x04, 0x02, 0x00],
      [0x04, 0xff],
      [0x04],
    ]) {
      const reader = new DerReader(Uint8Array.from(bytes));
      expect(reader.content(TAG.octetString)).toHaveLength(0);
      expect([reader.bad, reader.done]).toEqual([true, true]);
    }
  });

  it("names and times", () => {
    expect(oidText(Uint8Array.of(0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1))).toBe("1.3.6.1.5.5.7.48.1.1");
    expect(oidText(Uint8Array.of(0x2a, 0x86, 0x48, 0xce, 0x3d))).toBe("1.2.840.10045");
    const text = (value: string): number => timeValue(Uint8Array.from(value, (one) => one.charCodeAt(0)));
    expect(text("20251231235959Z")).toBe(Date.UTC(2025, 11, 31, 23, 59, 59));
    expect(text("251231235959Z")).toBeNaN();
    expect(text("20251231235959.5Z")).toBeNaN();
  });
});

describe("when an answer is stapled and asked for again", () => {
  const kept = { thisUpdate: 0, nextUpdate: 100 * HOUR };
  it("holds until it ends, and from a little before it begins", () => {
    expect(holds(kept, 100 * HOUR - 1)).toBe(true);
    expect(holds(kept, 100 * HOUR)).toBe(false);
    expect(holds(kept, -300_000)).toBe(true);
    expect(holds(kept, -300_001)).toBe(false);
  });
  it("at half of its life, spread, and later after each failure, at most an hour", () => {
    expect(askAt(undefined, undefined, undefined, 0.5)).toBe(0);
    expect(askAt(kept, undefined, undefined, 0)).toBe(50 * HOUR);
    expect(askAt(kept, undefined, undefined, 1)).toBe(60 * HOUR);
    expect(askAt(undefined, undefined, { failures: 1, at: 1000 }, 0)).toBe(61_000);
    expect(askAt(undefined, undefined, { failures: 3, at: 0 }, 0)).toBe(240_000);
    expect(askAt(undefined, undefined, { failures: 90, at: 0 }, 0)).toBe(HOUR);
  });

  it("is asked for again a quarter of what is left later, an hour at least, where half of its life had passed", () => {
    expect(askAt(kept, 1 * HOUR, undefined, 0)).toBe(50 * HOUR);
    expect(askAt(kept, 60 * HOUR, undefined, 0)).toBe(70 * HOUR);
    expect(askAt(kept, 97 * HOUR, undefined, 0)).toBe(98 * HOUR);
    expect(askAt(kept, 60 * HOUR, { failures: 1, at: 70 * HOUR }, 0)).toBe(70 * HOUR + 60_000);
  });

  it("is asked for again before it ends, and never more than once a minute", () => {
    expect(askAt(kept, 99 * HOUR, undefined, 0)).toBe(99.5 * HOUR);
    expect(askAt(kept, 100 * HOUR - 30_000, undefined, 0)).toBe(100 * HOUR + 30_000);
  });
});

describe.skipIf(!openssl)("a responder's answer", () => {
  const reasonOf = (bytes: Uint8Array, pem: string, wall = now()): string => {
    const issued = issuedOf(readFileSync(pem, "utf8"));
    if (!issued.ok) return issued.error;
    const checked = checkAnswer(bytes, issued.value, wall);
    return checked.ok ? "good" : checked.error;
  };

  it.each([false, true])(
    "is good where the issuer or its delegate (%s) signed it for this certificate",
    (delegated) => {
      const authority = new Authority(9, delegated);
      const shop = authority.issue("shop.example");
      const other = authority.issue("other.example");
      const answer = authority.respond(shop.certificate);
      expect(reasonOf(answer, shop.certificate)).toBe("good");
      expect(reasonOf(answer, other.certificate)).toBe("for-another-certificate");
      expect(reasonOf(answer, shop.certificate, now() + 25 * HOUR)).toBe("expired");
      expect(reasonOf(answer, shop.certificate, now() - 2 * HOUR)).toBe("not-yet-valid");
      authority.revoke(shop.certificate);
      expect(reasonOf(authority.respond(shop.certificate), shop.certificate)).toBe("revoked");
    },
  );

  it("is refused where somebody else signed it, though the names are right", () => {
    const [one, two] = [new Authority(9), new Authority(9)];
    const mine = one.issue("shop.example");
    const theirs = two.issue("shop.example");
    const answer = two.respond(theirs.certificate);
    // The same names and number, another key: the hash of the key tells.
    expect(reasonOf(answer, mine.certificate)).toBe("for-another-certificate");
    const good = one.respond(mine.certificate);
    const decoded = decodeResponse(good);
    if (!decoded.ok) throw new Error(decoded.error);
    const at = Buffer.from(good).indexOf(Buffer.from(decoded.value.signature));
    const forged = Buffer.from(good);
    forged.writeUInt8(forged.readUInt8(at + 12) ^ 1, at + 12);
    expect(reasonOf(forged, mine.certificate)).toBe("signature-wrong");
  });

  it("is refused where its signer is no responder: a certificate of the same authority may not vouch for others", () => {
    const authority = new Authority(9, true);
    const shop = authority.issue("shop.example");
    const good = authority.respond(shop.certificate);
    expect(reasonOf(good, shop.certificate)).toBe("good");
    const plain = new Authority(9);
    const victim = plain.issue("shop.example");
    const servant = plain.issue("servant.example");
    expect(reasonOf(plain.respond(victim.certificate, 24, servant), victim.certificate)).toBe(
      "signature-wrong",
    );
  });

  it("needs the issuer in the chain, and names of responders are read from the certificate", () => {
    const authority = new Authority(8765);
    const { certificate } = authority.issue("shop.example");
    const leaf = readFileSync(certificate.replace(/pem$/, "leaf"), "utf8");
    expect(issuedOf(leaf)).toEqual({ ok: false, error: "no-issuer" });
    expect(issuedOf("nothing")).toEqual({ ok: false, error: "no-certificate" });
    expect(responderOf(new X509Certificate(leaf))).toBe("http://127.0.0.1:8765/");
    expect(responderOf(new X509Certificate(readFileSync(makeCertificate("a.example").certificate)))).toBe(
      undefined,
    );
    const parts = certificateParts(new X509Certificate(leaf).raw);
    expect(parts.ok && Buffer.from(parts.value.serial).toString("hex")).toBe("1000");
    const issued = issuedOf(readFileSync(certificate, "utf8"));
    expect(issued.ok && requestFor(issued.value).ok).toBe(true);
  });

  it("never throws and is never taken for good when a byte of it changes, whatever comes", () => {
    const authority = new Authority(9);
    const { certificate } = authority.issue("shop.example");
    const answer = authority.respond(certificate);
    const issued = issuedOf(readFileSync(certificate, "utf8"));
    if (!issued.ok) throw new Error(issued.error);
    const decoded = decodeResponse(answer);
    if (!decoded.ok) throw new Error(decoded.error);
    const from = answer.indexOf(Buffer.from(decoded.value.signed));
    const to = from + decoded.value.signed.length;
    const wall = now();
    fc.assert(
      fc.property(fc.nat(answer.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const broken = Buffer.from(answer);
        broken.writeUInt8(broken.readUInt8(at) ^ change, at);
        const checked = checkAnswer(broken, issued.value, wall);
        if (at >= from && at < to) expect(checked.ok).toBe(false);
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        expect(decodeResponse(bytes).ok).toBe(false);
        certificateParts(bytes);
      }),
    );
    for (let length = 0; length < answer.length; length++)
      expect(decodeResponse(answer.subarray(0, length)).ok).toBe(false);
    expect(decodeResponse(Uint8Array.of(0x30, 3, 0x0a, 1, 3))).toEqual({ ok: false, error: "try-later" });
  });
});
