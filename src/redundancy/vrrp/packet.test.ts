/**
 * Conformance: RFC 9568, sections 5 and 7.1, and RFC 3768, section 5; cases 1 to 12.
 * The golden frames were captured from keepalived 2.2.7 (Debian 12) on a veth pair with tshark.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ip, ipFromBytes } from "../../base/addresses.ts";
import { checksumAdd, checksumFinish, fromHex, hex } from "../../base/bytes.ts";
import { fail, ok } from "../../base/result.ts";
import { ms, seconds } from "../../base/time.ts";
import {
  type Advertisement,
  DROP_REASONS,
  VRRP_GROUPS,
  type DecodeOptions,
  decodeAdvertisement,
  encodeAdvertisement,
  openIpv4,
  virtualMacBytes,
} from "./packet.ts";

const V3_IPV4 =
  "01005e000012020000000010080045c0002400010000ff70d08c0a00000ae000001231336e02000a62190a0000010a000009";
const V3_IPV6 =
  "33330000001202000000001086dd6c01eb29002870fffe80000000000000000000fffe000010ff020000000000000000000000000012" +
  "31346e02001936e5fe80000000000000000000000000005220010db8000000000000000000000001";
const V2_TEXT =
  "01005e000012020000000010080045c0002800010000ff70d0880a00000ae000001221356e010101e3920a0000026e696e6573313233";
const V2_NONE =
  "01005e000012020000000010080045c0002800010000ff70d0880a00000ae000001221365a0100017ac40a0000030000000000000000";

const frame = (text: string): Uint8Array => fromHex(text).subarray(14);
const text8 = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));

function open(packet: Uint8Array) {
  const opened = openIpv4(packet);
  if (!opened.ok) throw new Error(opened.error);
  return opened.value;
}
const keepalived6 = {
  source: ip("fe80::ff:fe00:10"),
  destination: ip("ff02::12"),
  hopLimit: 255,
  payload: frame(V3_IPV6).subarray(40),
};

const base = {
  source: ip("10.0.0.10"),
  destination: VRRP_GROUPS[4],
  hopLimit: 255,
  version: 3,
  checksum: "auto",
} as const;
const sample: Advertisement = {
  version: 3,
  vrid: 51,
  priority: 110,
  interval: ms(100),
  addresses: [ip("10.0.0.1"), ip("10.0.0.9")],
};
const sampleBytes = (): Uint8Array => encodeAdvertisement(sample, { ...base, checksum: "rfc" }).slice();
/** The sample with some bytes changed and, unless told otherwise, the checksum made right again. */
function changed(change: (bytes: Uint8Array) => void, resum = true): Uint8Array {
  const bytes = sampleBytes();
  change(bytes);
  if (resum) {
    bytes.set([0, 0], 6);
    const sum = checksumFinish(checksumAdd(bytes));
    bytes.set([sum >> 8, sum & 255], 6);
  }
  return bytes;
}
const reason = (bytes: Uint8Array, options: Partial<DecodeOptions> = {}) => {
  const decoded = decodeAdvertisement(bytes, { ...base, ...options });
  return decoded.ok ? "accepted" : decoded.error;
};

describe("golden packets (cases 1-3)", () => {
  it("reads and writes keepalived's version 3 over IPv4, which sums the pseudo-header", () => {
    const { payload, ...envelope } = open(frame(V3_IPV4));
    expect(decodeAdvertisement(payload, { ...envelope, version: 3, checksum: "auto" })).toEqual(
      ok({ advertisement: sample, checksum: "pseudo-header", oddities: [] }),
    );
    expect(hex(encodeAdvertisement(sample, { ...envelope, checksum: "pseudo-header" }))).toBe(hex(payload));
  });
  it("writes version 3 over IPv4 per RFC 9568, 5.2.8: the sum over the message alone", () => {
    // By hand: 3133+6e02+000a+0a00+0001+0a00+0009 = b349; inverted 4cb6.
    expect(hex(sampleBytes())).toBe("31336e02000a4cb60a0000010a000009");
  });
  it("reads and writes version 3 over IPv6", () => {
    const { payload, ...envelope } = keepalived6;
    const advertisement: Advertisement = {
      version: 3,
      vrid: 52,
      priority: 110,
      interval: ms(250),
      addresses: [ip("fe80::52"), ip("2001:db8::1")],
    };
    expect(decodeAdvertisement(payload, { ...envelope, version: 3, checksum: "auto" })).toEqual(
      ok({ advertisement, checksum: "pseudo-header", oddities: [] }),
    );
    expect(hex(encodeAdvertisement(advertisement, { ...envelope, checksum: "rfc" }))).toBe(hex(payload));
  });
  it.each([
    { name: "with a text password", bytes: V2_TEXT, vrid: 53, address: "10.0.0.2", password: "nines123" },
    { name: "without authentication", bytes: V2_NONE, vrid: 54, address: "10.0.0.3", password: undefined },
  ])("reads and writes version 2 $name", ({ bytes, vrid, address, password: text }) => {
    const password = text === undefined ? undefined : text8(text);
    const { payload, ...envelope } = open(frame(bytes));
    const decoded = decodeAdvertisement(payload, { ...envelope, version: 2, checksum: "auto", password });
    expect(decoded).toMatchObject(
      ok({ advertisement: { version: 2, vrid, interval: seconds(1), addresses: [ip(address)] } }),
    );
    const advertisement = decoded.ok ? decoded.value.advertisement : sample;
    expect(hex(encodeAdvertisement(advertisement, { ...envelope, checksum: "rfc", password }))).toBe(
      hex(payload),
    );
  });
});

describe("what is dropped, and under which name (cases 4-10)", () => {
  it("drops a hop limit of 254 in both families (RFC 9568, 7.1)", () => {
    expect(reason(sampleBytes(), { hopLimit: 254 })).toBe("hop-limit");
    expect(reason(keepalived6.payload, { ...keepalived6, hopLimit: 254 })).toBe("hop-limit");
    // Unicast between links, where the site says so.
    expect(reason(sampleBytes(), { hopLimit: 64, minHopLimit: 64 })).toBe("accepted");
    expect(reason(sampleBytes(), { hopLimit: 63, minHopLimit: 64 })).toBe("hop-limit");
  });
  it("drops another version or type", () => {
    expect(reason(changed((b) => b.set([0x21], 0)))).toBe("version");
    expect(reason(sampleBytes(), { version: 2 })).toBe("version");
    expect(reason(changed((b) => b.set([0x32], 0)))).toBe("type");
  });
  it("drops a list that the Ethernet padding completes, and accepts padding after a whole one", () => {
    const short = frame(V3_IPV4).slice();
    short.set([0, 32], 2); // the IP length ends before the second address
    expect(reason(open(short).payload)).toBe("truncated");
    const padded = new Uint8Array(60);
    padded.set(frame(V3_IPV4));
    expect(reason(open(padded).payload)).toBe("accepted");
    expect(reason(sampleBytes().subarray(0, 7))).toBe("truncated");
    expect(reason(new Uint8Array(0))).toBe("truncated");
    expect(openIpv4(short.subarray(0, 30))).toEqual(fail("truncated"));
    expect(openIpv4(fromHex("60"))).toEqual(fail("truncated"));
  });
  it("judges the checksum by the configured form", () => {
    const pseudo = encodeAdvertisement(sample, { ...base, checksum: "pseudo-header" });
    expect([reason(sampleBytes()), reason(pseudo)]).toEqual(["accepted", "accepted"]);
    expect(reason(sampleBytes(), { checksum: "pseudo-header" })).toBe("checksum");
    expect(reason(pseudo, { checksum: "rfc" })).toBe("checksum");
    expect(reason(changed((b) => b.set([120], 2), false))).toBe("checksum");
    // Erratum-free IPv6 has one form only: without the pseudo-header it is wrong.
    expect(reason(keepalived6.payload, { ...keepalived6, destination: ip("ff02::13") })).toBe("checksum");
  });
  it("drops a count of 0 (erratum 8299), an interval of 0 (erratum 8301) and the VRID 0", () => {
    expect(reason(changed((b) => b.set([0], 3)))).toBe("count");
    expect(reason(changed((b) => b.set([0, 0], 4)))).toBe("interval");
    expect(reason(changed((b) => b.set([0], 1)))).toBe("vrid");
  });
  it("drops version 2 with another password, or with none", () => {
    const { payload, ...envelope } = open(frame(V2_TEXT));
    const v2 = { ...envelope, version: 2 } as const;
    expect(reason(payload, v2)).toBe("authentication");
    expect(reason(payload, { ...v2, password: text8("nines124") })).toBe("authentication");
    expect(reason(payload.subarray(0, 16), v2)).toBe("truncated");
  });
  it("has a sentence for every reason", () => {
    for (const [name, sentence] of Object.entries(DROP_REASONS)) {
      expect(name).toMatch(/^[a-z-]+$/);
      expect(sentence.length).toBeGreaterThan(10);
    }
  });
});

describe("what is accepted all the same (cases 11, 12)", () => {
  it("masks the reserved nibble (RFC 9568, 5.2.6)", () => {
    const decoded = decodeAdvertisement(
      changed((b) => b.set([0xf0], 4)),
      base,
    );
    expect(decoded).toMatchObject(ok({ advertisement: { interval: 100 } }));
  });
  it("names an IPv6 list that does not begin link-local (erratum 8300), since dropping makes two Actives", () => {
    const envelope = { source: ip("fe80::1"), destination: ip("ff02::12"), hopLimit: 255 };
    const bytes = encodeAdvertisement(
      { ...sample, addresses: [ip("2001:db8::1")] },
      { ...envelope, checksum: "rfc" },
    );
    const decoded = decodeAdvertisement(bytes, { ...envelope, version: 3, checksum: "auto" });
    expect(decoded).toMatchObject(ok({ oddities: ["first-not-link-local"] }));
  });
  it("gives the virtual MAC of RFC 9568, 7.3", () => {
    expect([hex(virtualMacBytes(4, 51)), hex(virtualMacBytes(6, 51))]).toEqual([
      "00005e000133",
      "00005e000233",
    ]);
  });
});

describe("properties", () => {
  const bytesOf = (n: number) => fc.uint8Array({ minLength: n, maxLength: n });
  it("reads back whatever it writes, in every form", () => {
    const width = fc.constantFrom(4, 16);
    const any = width.chain((w) =>
      fc.record({
        version: fc.constantFrom(3 as const, ...(w === 4 ? [2 as const] : [])),
        vrid: fc.integer({ min: 1, max: 255 }),
        priority: fc.integer({ min: 0, max: 255 }),
        ticks: fc.integer({ min: 1, max: 255 }),
        addresses: fc.array(bytesOf(w).map(ipFromBytes), { minLength: 1, maxLength: 20 }),
        source: bytesOf(w).map(ipFromBytes),
        destination: bytesOf(w).map(ipFromBytes),
        form: fc.constantFrom("rfc" as const, "pseudo-header" as const),
      }),
    );
    fc.assert(
      fc.property(any, ({ ticks, source, destination, form, ...rest }) => {
        const interval = ms(ticks * (rest.version === 2 ? 1000 : 10));
        const envelope = { source, destination };
        const bytes = encodeAdvertisement({ ...rest, interval }, { ...envelope, checksum: form });
        const decoded = decodeAdvertisement(bytes, {
          ...envelope,
          hopLimit: 255,
          version: rest.version,
          checksum: "auto",
        });
        expect(decoded).toMatchObject(ok({ advertisement: { ...rest, interval } }));
      }),
    );
  });
  it("never throws on arbitrary bytes", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 100 }),
        fc.constantFrom(2 as const, 3 as const),
        (bytes, version) => {
          decodeAdvertisement(bytes, { ...base, version });
          decodeAdvertisement(bytes, { ...base, ...keepalived6, version: 3 });
          openIpv4(bytes);
        },
      ),
    );
  });
});
