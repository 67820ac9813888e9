import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  compareIp,
  formatIpPort,
  ip,
  ipBytes,
  ipFromBytes,
  isLinkLocal6,
  isMulticast,
  macBytes,
  macFromBytes,
  parseIp,
  parseIpPort,
  parseMac,
  parsePrefix,
  prefixContains,
} from "./addresses.ts";
import { ByteReader, ByteWriter, bytesEqual, checksumAdd, checksumFinish, fromHex, hex } from "./bytes.ts";
import { ConfigError, OPERATIONAL_CODES, OperationalError, formatConfigIssue, messageOf } from "./errors.ts";
import { chance, randomInt, seededRandom, systemRandom } from "./random.ts";
import { fail, ok, unreachable } from "./result.ts";
import { SystemClock } from "./system-clock.ts";
import { NEVER, addTime, earliest, instant, ms, seconds, timeSince } from "./time.ts";
import { formatDuration, parseDuration, parseSize } from "./units.ts";
import { VirtualClock } from "./virtual-clock.ts";

describe("addresses", () => {
  it("is canonical after RFC 5952", () => {
    expect(parseIp("2001:DB8:0:0:1:0:0:1")).toEqual(ok("2001:db8::1:0:0:1"));
    expect(parseIp("::ffff:1.2.3.4")).toEqual(ok("::ffff:102:304"));
    expect(parseIp("::")).toEqual(ok("::"));
    expect(parseIp("1:0:0:2:0:0:0:3")).toEqual(ok("1:0:0:2::3"));
    expect(parseIp("1:2:3:4:5:6:0:8")).toEqual(ok("1:2:3:4:5:6:0:8"));
  });
  it("refuses what is ambiguous or malformed", () => {
    for (const text of [
      "010.0.0.1",
      "1.2.3",
      "256.1.1.1",
      "1::2::3",
      "1:2:3:4:5:6:7:8:9",
      ":1",
      "g::",
      "",
      "1:2:3:4:5:6:7::8",
    ]) {
      const parsed = parseIp(text);
      expect(parsed.ok && text !== "1:2:3:4:5:6:7::8", text).toBe(false);
    }
  });
  it("round-trips bytes", () => {
    const lengths = fc.constantFrom(4, 16).chain((n) => fc.uint8Array({ minLength: n, maxLength: n }));
    fc.assert(
      fc.property(lengths, (bytes) => {
        const address = ipFromBytes(bytes);
        expect(ipBytes(address)).toEqual(bytes);
        expect(parseIp(address)).toEqual(ok(address));
      }),
    );
  });
  it("compares unsigned", () => {
    expect(compareIp(ip("10.0.0.200"), ip("10.0.0.3"))).toBeGreaterThan(0);
    expect(compareIp(ip("200.0.0.1"), ip("3.0.0.1"))).toBeGreaterThan(0);
    expect(compareIp(ip("fe80::1"), ip("fe80::1"))).toBe(0);
    expect(compareIp(ip("255.0.0.1"), ip("::1"))).toBeLessThan(0);
  });
  it("knows link-local and multicast", () => {
    expect(isLinkLocal6(ip("fe80::1"))).toBe(true);
    expect(isLinkLocal6(ip("2001:db8::1"))).toBe(false);
    expect(isLinkLocal6(ip("169.254.0.1"))).toBe(false);
    expect(isMulticast(ip("224.0.0.18"))).toBe(true);
    expect(isMulticast(ip("ff02::12"))).toBe(true);
    expect(isMulticast(ip("10.0.0.1"))).toBe(false);
  });
  it("parses ports, prefixes and MAC addresses", () => {
    expect(parseIpPort("[2001:db8::1]:80")).toEqual(ok({ address: "2001:db8::1", port: 80 }));
    expect(formatIpPort({ address: ip("2001:db8::1"), port: 80 })).toBe("[2001:db8::1]:80");
    expect(parseIpPort("10.0.0.1:0").ok).toBe(false);
    expect(parseIpPort("[10.0.0.1]:80").ok).toBe(false);
    const prefix = parsePrefix("10.1.0.0/17");
    expect(prefix.ok && prefixContains(prefix.value, ip("10.1.127.255"))).toBe(true);
    expect(prefix.ok && prefixContains(prefix.value, ip("10.1.128.0"))).toBe(false);
    expect(parsePrefix("10.1.0.1/17").ok).toBe(false);
    expect(parseMac("02:00:00:00:00:0A")).toEqual(ok("02:00:00:00:00:0a"));
    expect(hex(macBytes(macFromBytes(fromHex("00005e000133"))))).toBe("00005e000133");
  });
});

describe("bytes", () => {
  it("reads what was written and never past the end", () => {
    const bytes = new ByteWriter(1)
      .u8(1)
      .u16(0x0203)
      .u32(0x04050607)
      .u64(8n)
      .zeros(2)
      .bytes(fromHex("ff"))
      .patchU16(1, 9)
      .finish();
    const reader = new ByteReader(bytes);
    expect([
      reader.u8(),
      reader.u16(),
      reader.u32(),
      reader.bytes(8)?.[7],
      reader.u16(),
      reader.offset,
    ]).toEqual([1, 9, 0x04050607, 8, 0, 17]);
    expect([reader.u16(), reader.u32(), reader.bytes(2), reader.remaining, reader.u8(), reader.u8()]).toEqual(
      [undefined, undefined, undefined, 1, 255, undefined],
    );
  });
  it("sums as RFC 1071 in its own example", () => {
    expect(checksumAdd(fromHex("0001f203f4f5f6f7"))).toBe(0xddf2);
    expect(checksumFinish(0xddf2)).toBe(0x220d);
    expect(checksumAdd(fromHex("f6f7"), checksumAdd(fromHex("0001f203f4f5")))).toBe(0xddf2);
    expect(bytesEqual(fromHex("00ff"), fromHex("00fe"))).toBe(false);
  });
});

describe("time", () => {
  it("fires virtual timers in order, those set on the way included", () => {
    const clock = new VirtualClock();
    const seen: string[] = [];
    clock.setTimer(instant(20), () => seen.push("b"));
    clock.setTimer(instant(10), () => {
      seen.push("a");
      clock.setTimer(instant(15), () => seen.push(`c${clock.monotonic()}`));
    });
    clock.setTimer(instant(12), () => seen.push("never")).cancel();
    expect(clock.nextTimer()).toBe(10);
    clock.advance(ms(30));
    expect(seen).toEqual(["a", "c15", "b"]);
    expect(timeSince(clock.monotonic(), instant(10))).toBe(20);
    expect(clock.wall()).toBe(30);
    expect(earliest(NEVER, addTime(instant(1), seconds(1)))).toBe(1001);
  });
  it("waits with the host's clock", async () => {
    const clock = new SystemClock();
    const before = clock.monotonic();
    await new Promise<void>((resolve) => clock.setTimer(addTime(before, ms(5)), resolve));
    expect(clock.monotonic()).toBeGreaterThanOrEqual(before + 4);
    expect(clock.wall()).toBeGreaterThan(1.6e12);
  });
  it("parses and formats durations and sizes", () => {
    expect(parseDuration("1.5s")).toEqual(ok(1500));
    expect(parseDuration("1 s").ok).toBe(false);
    expect(parseDuration("10").ok).toBe(false);
    expect([ms(0), ms(1500), seconds(60), seconds(90), ms(0.5)].map(formatDuration)).toEqual([
      "0s",
      "1500ms",
      "1m",
      "90s",
      "0.5ms",
    ]);
    expect(parseSize("16KiB")).toEqual(ok(16384));
    expect(parseSize("16KB").ok).toBe(false);
  });
});

describe("random", () => {
  it("is the same for the same seed", () => {
    const draw = (seed: number): number[] => {
      const random = seededRandom(seed);
      return Array.from({ length: 5 }, () => randomInt(random, 1, 6));
    };
    expect(draw(7)).toEqual(draw(7));
    expect(draw(7)).not.toEqual(draw(8));
    expect(chance(seededRandom(1), 0)).toBe(false);
    expect(chance(systemRandom, 1)).toBe(true);
  });
});

describe("errors", () => {
  it("says where and what instead", () => {
    const issue = {
      file: "site.yaml",
      line: 3,
      column: 7,
      path: "nodes.lb1",
      message: "unknown key",
      hint: "did you mean address?",
    };
    expect(formatConfigIssue(issue)).toBe("site.yaml:3:7: nodes.lb1: unknown key (did you mean address?)");
    expect(new ConfigError([issue]).message).toContain("unknown key");
    const error = new OperationalError("TIMEOUT", "no answer", { retryable: true, cause: new Error("x") });
    expect([
      error.code in OPERATIONAL_CODES,
      error.retryable,
      messageOf(error),
      messageOf("x"),
      fail("x").ok,
    ]).toEqual([true, true, "no answer", "x", false]);
    expect(() => unreachable("x" as never)).toThrow("unreachable");
  });
});
