import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fromUtf8, utf8 } from "../base/utf8.ts";
import {
  NLM_F,
  NLMSG,
  NetlinkWriter,
  attrString,
  attrU16,
  attrU16Be,
  attrU32,
  attrU32Be,
  attrU64Be,
  attrU8,
  decodeAnswer,
  decodeMessages,
  encodeMessage,
  forEachAttribute,
  readAttributes,
} from "./wire-netlink.ts";
import { fromHex, hex } from "../base/bytes.ts";

describe("netlink messages", () => {
  it("are laid out as linux/netlink.h says, in host byte order, padded to four bytes", () => {
    const writer = new NetlinkWriter(4).begin(0x12, 0x305, 7, 0x1234).u32(0xaa);
    writer.attrString(3, "eth0").attrU32Be(5, 0x0102_0304).attrU8(6, 9).end();
    expect(hex(writer.finish())).toBe(
      "30000000120005030700000034120000" +
        "aa000000" +
        "0900030065746830" +
        "00000000" +
        "0800050001020304" +
        "0500060009000000",
    );
  });

  it("are found in a datagram one after another, and what is cut off is left", () => {
    const one = encodeMessage(20, NLM_F.MULTI, 9, 1, Uint8Array.of(1, 2, 3));
    const two = encodeMessage(NLMSG.DONE, NLM_F.MULTI, 9, 1, Uint8Array.of(0, 0, 0, 0));
    const both = new Uint8Array([...one, ...two, 1, 2]);
    const { messages, rest } = decodeMessages(both);
    expect(messages.map(({ type, payload }) => [type, hex(payload)])).toEqual([
      [20, "010203"],
      [3, "00000000"],
    ]);
    expect(rest).toBe(2);
    expect(decodeMessages(both.subarray(0, one.length - 2)).messages).toEqual([]);
  });

  it("survive a round trip of nested attributes", () => {
    const value = fc.uint8Array({ maxLength: 40 });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 0x3fff }), value), { maxLength: 8 }),
        (list) => {
          const writer = new NetlinkWriter(1);
          const mark = writer.nest(77);
          for (const [type, bytes] of list) writer.attr(type, bytes);
          writer.endNest(mark);
          const nest = readAttributes(writer.finish()).get(77);
          const found: [number, Uint8Array][] = [];
          expect(
            forEachAttribute(nest ?? new Uint8Array(1), 0, (type, bytes) =>
              found.push([type, bytes.slice()]),
            ),
          ).toBe(true);
          expect(found).toEqual(list);
        },
      ),
    );
  });

  it("give numbers in both byte orders, and nothing for what is too short", () => {
    const bytes = fromHex("0102030405060708");
    expect([attrU8(bytes), attrU16(bytes), attrU16Be(bytes)]).toEqual([1, 0x0201, 0x0102]);
    expect([attrU32(bytes), attrU32Be(bytes), attrU64Be(bytes)]).toEqual([
      0x04030201,
      0x01020304,
      0x0102030405060708n,
    ]);
    const short = new Uint8Array(1);
    expect([
      attrU16(short),
      attrU32(short),
      attrU64Be(short),
      attrU8(undefined),
      attrString(undefined),
    ]).toEqual(Array(5).fill(undefined));
  });
});

describe("the kernel's answer", () => {
  it("carries its extended text, whether the request is repeated in it or not", () => {
    const text = new NetlinkWriter().attrString(1, "Device does not exist").attrU32(2, 16).finish();
    const header = new Uint8Array(16);
    header[0] = 20; // the original was 20 bytes long
    const capped = new Uint8Array([0xed, 0xff, 0xff, 0xff, ...header, ...text]);
    const whole = new Uint8Array([0xed, 0xff, 0xff, 0xff, ...header, 9, 9, 9, 9, ...text]);
    const message = { type: NLMSG.ERROR, seq: 1, portid: 1 };
    const expected = { errno: 19, text: "Device does not exist", offset: 16 };
    const { ACK_TLVS, CAPPED } = NLM_F;
    expect(decodeAnswer({ ...message, flags: ACK_TLVS | CAPPED, payload: capped })).toEqual(expected);
    expect(decodeAnswer({ ...message, flags: ACK_TLVS, payload: whole })).toEqual(expected);
    expect(decodeAnswer({ ...message, flags: 0, payload: new Uint8Array(3) })).toBeUndefined();
  });
});

it("arbitrary bytes never throw", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 0, max: 0xffff }), (bytes, flags) => {
      for (const message of decodeMessages(bytes).messages) decodeAnswer(message);
      readAttributes(bytes);
      decodeAnswer({ type: NLMSG.ERROR, flags, seq: 0, portid: 0, payload: bytes });
      decodeAnswer({ type: NLMSG.DONE, flags, seq: 0, portid: 0, payload: bytes });
      attrString(bytes);
    }),
  );
});

it("UTF-8 is that of the standard encoder", () => {
  const characters = fc.integer({ min: 0, max: 0x10f7ff }).map((n) => (n < 0xd800 ? n : n + 0x800));
  fc.assert(
    fc.property(fc.array(characters, { maxLength: 20 }), (codes) => {
      const text = String.fromCodePoint(...codes);
      expect(utf8(text)).toEqual(new TextEncoder().encode(text));
      expect(fromUtf8(utf8(text))).toBe(text);
    }),
  );
  expect(fromUtf8(Uint8Array.of(0x65, 0xff))).toBe("eÿ");
});
