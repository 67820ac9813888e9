import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AttributeWriter, Attributes } from "./wire-attributes.ts";
import { readExpression, writeExpression } from "./wire-expressions.ts";
import {
  elementBodies,
  readChain,
  readElements,
  readRule,
  readSet,
  readTable,
  ruleBody,
  setBody,
} from "./wire-objects.ts";
import { type Expression, type NftSet, elementKey } from "./model.ts";
import { concat, elementMap, hostU32, u16Bytes } from "./expressions.ts";

const register = fc.integer({ min: 0, max: 15 });
const value = fc.uint8Array({ minLength: 1, maxLength: 16 });
const count = fc.integer({ min: 1, max: 0x7fffffff });
const expression: fc.Arbitrary<Expression> = fc.oneof(
  fc.record({ kind: fc.constant("immediate" as const), register, value }),
  fc.constantFrom<Expression>(
    { kind: "verdict", verdict: { code: "drop" } },
    { kind: "verdict", verdict: { code: "accept" } },
    { kind: "verdict", verdict: { code: "return" } },
    { kind: "verdict", verdict: { code: "goto", chain: "service-web" } },
    { kind: "verdict", verdict: { code: "jump", chain: "x" } },
    { kind: "counter" },
    { kind: "notrack" },
    { kind: "reject", type: "tcp-reset", code: 0 },
    { kind: "reject", type: "icmp", code: 3 },
    { kind: "masquerade" },
    { kind: "masquerade", ports: [1, 2], flags: ["random", "fully-random"] },
    { kind: "meta", key: "l4proto", register: 3 },
    { kind: "meta-set", key: "mark", register: 3 },
    { kind: "ct", key: "src-ip", register: 1, direction: "reply" },
    { kind: "ct", key: "mark", register: 1 },
    { kind: "ct-set", key: "eventmask", register: 1 },
    { kind: "lookup", set: "services", register: 0, into: "verdict" },
    { kind: "lookup", set: "s", register: 1, negate: true },
    { kind: "nat", type: "dnat", family: 4, address: 3, ports: [4, 4] },
    { kind: "nat", type: "snat", family: 6, address: 3, flags: ["persistent"] },
    { kind: "fib", of: "saddr", register: 2 },
    { kind: "fwd", device: 1, address: 2, family: 6 },
  ),
  fc.record({ kind: fc.constant("bitwise" as const), from: register, to: register, mask: value, xor: value }),
  fc.record({ kind: fc.constant("lookup" as const), set: fc.constant("buckets"), register, into: register }),
  fc.record({
    kind: fc.constant("jhash" as const),
    from: register,
    length: count,
    to: register,
    modulus: count,
    seed: fc.nat(0xffffffff),
  }),
  fc.record({
    kind: fc.constant("numgen" as const),
    to: register,
    modulus: count,
    type: fc.constantFrom("incremental" as const, "random" as const),
  }),
  fc.record({
    kind: fc.constant("limit" as const),
    rate: count,
    unit: count,
    burst: count,
    over: fc.boolean(),
  }),
  fc.record({ kind: fc.constant("connlimit" as const), count, over: fc.boolean() }),
  fc.record({
    kind: fc.constant("cmp" as const),
    register,
    op: fc.constantFrom("eq" as const, "neq" as const, "gte" as const),
    value,
  }),
);
const nested: fc.Arbitrary<Expression> = fc.record({
  kind: fc.constant("dynset" as const),
  op: fc.constantFrom("add" as const, "update" as const, "delete" as const),
  set: fc.constant("affinity"),
  key: register,
  data: register,
  timeout: count,
  expressions: fc.array(expression, { minLength: 1, maxLength: 2 }),
});

function roundTrip(one: Expression): Expression {
  const writer = new AttributeWriter(2);
  writer.nest(1, (w) => writeExpression(w, one));
  const bytes = new Attributes(writer.finish(), 4).get(1);
  return readExpression(bytes ?? new Uint8Array());
}

describe("wire", () => {
  it("reads every expression that it writes", () => {
    fc.assert(
      fc.property(fc.oneof(expression, nested), (one) => {
        expect(roundTrip(one)).toEqual(one);
      }),
    );
  });

  it("reads rules with comments", () => {
    fc.assert(
      fc.property(fc.array(expression, { minLength: 1, maxLength: 8 }), (expressions) => {
        const body = ruleBody({ family: "ip", table: "t" }, "c", { expressions, comment: "why" });
        expect(readRule(body)).toEqual({ chain: "c", rule: { expressions, comment: "why", handle: 0n } });
      }),
    );
  });

  it("never throws on arbitrary bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        for (const read of [readExpression, readRule, readSet, readElements, readTable]) read(bytes);
        readChain(bytes, "ip");
      }),
    );
  });

  it("writes attributes as linux/netfilter/nf_tables.h has them", () => {
    const writer = new AttributeWriter(2);
    writeExpression(writer, { kind: "jhash", from: 1, length: 8, to: 0, modulus: 1021, seed: 0xdeadbeef });
    expect(Array.from(writer.finish().subarray(4), (b) => b.toString(16).padStart(2, "0")).join(" ")).toBe(
      [
        "09 00 01 00 68 61 73 68 00 00 00 00", // name "hash"
        "34 00 02 80", // data, nested
        "08 00 01 00 00 00 00 09", // source register: the second word
        "08 00 02 00 00 00 00 08", // destination register: the first
        "08 00 03 00 00 00 00 08",
        "08 00 04 00 00 00 03 fd",
        "08 00 05 00 de ad be ef",
        "08 00 07 00 00 00 00 00",
      ].join(" "),
    );
  });

  const map: NftSet = {
    name: "buckets",
    key: ["mark", "port"],
    data: ["ipv4", "port"],
    interval: true,
    counter: true,
    limits: true,
    size: 99,
    elements: new Map(),
  };
  it("reads the definition of a set", () => {
    expect(readSet(setBody({ family: "ip", table: "t" }, map, 1))).toEqual(map);
  });
  it("splits elements over messages that the kernel takes", () => {
    const elements = Array.from({ length: 3000 }, (_, i) => ({
      key: concat(hostU32(i), u16Bytes(80)),
      keyEnd: concat(hostU32(i), u16Bytes(90)),
      data: concat(Uint8Array.of(10, 0, 0, 1), u16Bytes(i & 0xffff)),
      comment: `apps/app${i}`,
      timeout: 5000 + i,
      ...(i % 2 === 0 ? { connlimit: i + 1 } : {}),
    }));
    const bodies = elementBodies({ family: "ip", table: "t" }, map, elements, true);
    expect(bodies.length).toBeGreaterThan(1);
    expect(Math.max(...bodies.map((body) => body.length))).toBeLessThan(0xffff);
    const read = bodies.flatMap((body) => readElements(body));
    expect(read).toEqual(elements.map((one) => ({ ...one, packets: 0n, bytes: 0n })));
    expect(elementMap(read).size).toBe(3000);
    expect(elementKey(read[0] ?? { key: new Uint8Array() })).toContain("-");
  });
});
