/** Expressions to attributes and back (linux/netfilter/nf_tables.h). */
import { Attributes, type AttributeWriter } from "./wire-attributes.ts";
import type { CmpOp, CtKey, Expression, MetaKey, NatFlag, Verdict } from "./model.ts";

const DATA_VALUE = 1;
const DATA_VERDICT = 2;

const VERDICTS = { drop: 0, accept: 1, continue: -1, break: -2, jump: -3, goto: -4, return: -5 } as const;
const META: Readonly<Record<MetaKey, number>> = {
  protocol: 1,
  mark: 3,
  iif: 4,
  oif: 5,
  iifname: 6,
  oifname: 7,
  nfproto: 15,
  l4proto: 16,
  pkttype: 19,
};
const CT: Readonly<Record<CtKey, number>> = {
  state: 0,
  direction: 1,
  status: 2,
  mark: 3,
  protocol: 10,
  "proto-src": 11,
  "proto-dst": 12,
  eventmask: 18,
  "src-ip": 19,
  "dst-ip": 20,
  "src-ip6": 21,
  "dst-ip6": 22,
};
const CMP: readonly CmpOp[] = ["eq", "neq", "lt", "lte", "gt", "gte"];
const BASES = ["link", "network", "transport"] as const;
const REJECTS = ["icmp", "tcp-reset", "icmpx"] as const;
const DYNSET = ["add", "update", "delete"] as const;
const NAT_FLAGS: readonly (readonly [NatFlag, number])[] = [
  ["random", 4],
  ["persistent", 8],
  ["fully-random", 16],
];

const keyOf = <K extends string>(table: Readonly<Record<K, number>>, value: number | undefined) =>
  (Object.keys(table) as K[]).find((key) => table[key] === value);

/** Words 0..15 are NFT_REG32_00.. on the wire; the kernel answers 0, 4, 8, 12 as NFT_REG_1..4. */
const toWire = (register: number): number => register + 8;
const fromWire = (register: number | undefined): number =>
  register === undefined ? -1 : register >= 8 ? register - 8 : (register - 1) * 4;

export function writeVerdict(writer: AttributeWriter, verdict: Verdict): void {
  writer.nest(DATA_VERDICT, (w) => {
    w.u32(1, VERDICTS[verdict.code]);
    if (verdict.code === "jump" || verdict.code === "goto") w.string(2, verdict.chain);
  });
}

/** The contents of a data attribute: register contents or a verdict. */
export function readData(bytes: Uint8Array | undefined): Uint8Array | Verdict | undefined {
  if (!bytes) return undefined;
  const data = new Attributes(bytes);
  const value = data.get(DATA_VALUE);
  if (value) return value.slice();
  const verdict = data.nest(DATA_VERDICT);
  const code = keyOf(VERDICTS, (verdict?.u32(1) ?? 1) | 0);
  if (code === undefined) return undefined;
  return code === "jump" || code === "goto" ? { code, chain: verdict?.string(2) ?? "" } : { code };
}

const readValue = (attributes: Attributes, type: number): Uint8Array => {
  const data = readData(attributes.get(type));
  return data instanceof Uint8Array ? data : new Uint8Array();
};

const writeValue = (writer: AttributeWriter, type: number, value: Uint8Array) =>
  writer.nest(type, (w) => w.bytes(DATA_VALUE, value));

const natFlags = (flags: readonly NatFlag[] | undefined): number =>
  NAT_FLAGS.reduce((sum, [name, bit]) => (flags?.includes(name) ? sum | bit : sum), 0);
const readNatFlags = (bits: number | undefined): { flags?: readonly NatFlag[] } => {
  const flags = NAT_FLAGS.filter(([, bit]) => ((bits ?? 0) & bit) !== 0).map(([name]) => name);
  return flags.length > 0 ? { flags } : {};
};
const readPorts = (a: Attributes, low: number, high: number): { ports?: readonly [number, number] } => {
  const first = a.u32(low);
  return first === undefined ? {} : { ports: [fromWire(first), fromWire(a.u32(high) ?? first)] };
};

interface Codec<E extends Expression> {
  readonly name: string;
  write(writer: AttributeWriter, expression: E): void;
  /** undefined where the name fits but the attributes are another kind's. */
  read(attributes: Attributes): E | undefined;
}
type Of<K extends Expression["kind"]> = Extract<Expression, { kind: K }>;

const CODECS: { readonly [K in Exclude<Expression["kind"], "unknown">]: Codec<Of<K>> } = {
  immediate: {
    name: "immediate",
    write: (w, e) => writeValue(w.u32(1, toWire(e.register)), 2, e.value),
    read: (a) => {
      const value = readData(a.get(2));
      return value instanceof Uint8Array
        ? { kind: "immediate", register: fromWire(a.u32(1)), value }
        : undefined;
    },
  },
  verdict: {
    name: "immediate",
    write: (w, e) => w.u32(1, 0).nest(2, (data) => writeVerdict(data, e.verdict)),
    read: (a) => {
      const value = readData(a.get(2));
      return value === undefined || value instanceof Uint8Array
        ? undefined
        : { kind: "verdict", verdict: value };
    },
  },
  payload: {
    name: "payload",
    write: (w, e) =>
      w.u32(1, toWire(e.register)).u32(2, BASES.indexOf(e.base)).u32(3, e.offset).u32(4, e.length),
    read: (a) => {
      const base = BASES[a.u32(2) ?? -1];
      if (base === undefined || a.u32(1) === undefined) return undefined;
      const [offset, length] = [a.u32(3) ?? 0, a.u32(4) ?? 0];
      return { kind: "payload", base, offset, length, register: fromWire(a.u32(1)) };
    },
  },
  meta: {
    name: "meta",
    write: (w, e) => w.u32(2, META[e.key]).u32(1, toWire(e.register)),
    read: (a) => {
      const key = keyOf(META, a.u32(2));
      return key === undefined || a.u32(1) === undefined
        ? undefined
        : { kind: "meta", key, register: fromWire(a.u32(1)) };
    },
  },
  "meta-set": {
    name: "meta",
    write: (w, e) => w.u32(2, META[e.key]).u32(3, toWire(e.register)),
    read: (a) => {
      const key = keyOf(META, a.u32(2));
      return key === undefined || a.u32(3) === undefined
        ? undefined
        : { kind: "meta-set", key, register: fromWire(a.u32(3)) };
    },
  },
  ct: {
    name: "ct",
    write: (w, e) => {
      w.u32(2, CT[e.key]).u32(1, toWire(e.register));
      if (e.direction) w.u8(3, e.direction === "reply" ? 1 : 0);
    },
    read: (a) => {
      const key = keyOf(CT, a.u32(2));
      if (key === undefined || a.u32(1) === undefined) return undefined;
      const direction = a.u8(3);
      const where =
        direction === undefined
          ? {}
          : { direction: direction === 1 ? ("reply" as const) : ("original" as const) };
      return { kind: "ct", key, register: fromWire(a.u32(1)), ...where };
    },
  },
  "ct-set": {
    name: "ct",
    write: (w, e) => w.u32(2, CT[e.key]).u32(4, toWire(e.register)),
    read: (a) => {
      const key = keyOf(CT, a.u32(2));
      return key === undefined || a.u32(4) === undefined
        ? undefined
        : { kind: "ct-set", key, register: fromWire(a.u32(4)) };
    },
  },
  cmp: {
    name: "cmp",
    write: (w, e) => writeValue(w.u32(1, toWire(e.register)).u32(2, CMP.indexOf(e.op)), 3, e.value),
    read: (a) => {
      const op = CMP[a.u32(2) ?? -1];
      return op === undefined
        ? undefined
        : { kind: "cmp", register: fromWire(a.u32(1)), op, value: readValue(a, 3) };
    },
  },
  range: {
    name: "range",
    write: (w, e) => {
      writeValue(w.u32(1, toWire(e.register)).u32(2, e.negate ? 1 : 0), 3, e.from);
      writeValue(w, 4, e.to);
    },
    read: (a) => ({
      kind: "range",
      register: fromWire(a.u32(1)),
      negate: a.u32(2) === 1,
      from: readValue(a, 3),
      to: readValue(a, 4),
    }),
  },
  bitwise: {
    name: "bitwise",
    write: (w, e) => {
      w.u32(1, toWire(e.from)).u32(2, toWire(e.to)).u32(3, e.mask.length).u32(6, 0);
      writeValue(w, 4, e.mask);
      writeValue(w, 5, e.xor);
    },
    read: (a) =>
      (a.u32(6) ?? 0) === 0
        ? {
            kind: "bitwise",
            from: fromWire(a.u32(1)),
            to: fromWire(a.u32(2)),
            mask: readValue(a, 4),
            xor: readValue(a, 5),
          }
        : undefined,
  },
  lookup: {
    name: "lookup",
    write: (w, e) => {
      w.string(1, e.set).u32(2, toWire(e.register));
      if (e.into !== undefined) w.u32(3, e.into === "verdict" ? 0 : toWire(e.into));
      if (e.negate) w.u32(5, 1);
    },
    read: (a) => {
      const into = a.u32(3);
      return {
        kind: "lookup",
        set: a.string(1) ?? "",
        register: fromWire(a.u32(2)),
        ...(into === undefined ? {} : { into: into === 0 ? ("verdict" as const) : fromWire(into) }),
        ...((a.u32(5) ?? 0) & 1 ? { negate: true } : {}),
      };
    },
  },
  nat: {
    name: "nat",
    write: (w, e) => {
      w.u32(1, e.type === "dnat" ? 1 : 0).u32(2, e.family === 6 ? 10 : 2);
      if (e.address !== undefined) w.u32(3, toWire(e.address));
      if (e.ports) w.u32(5, toWire(e.ports[0])).u32(6, toWire(e.ports[1]));
      const flags = natFlags(e.flags);
      if (flags !== 0) w.u32(7, flags);
    },
    read: (a) => {
      const address = a.u32(3);
      return {
        kind: "nat",
        type: a.u32(1) === 1 ? "dnat" : "snat",
        family: a.u32(2) === 10 ? 6 : 4,
        ...(address === undefined ? {} : { address: fromWire(address) }),
        ...readPorts(a, 5, 6),
        ...readNatFlags(a.u32(7)),
      };
    },
  },
  masquerade: {
    name: "masq",
    write: (w, e) => {
      if (e.ports) w.u32(2, toWire(e.ports[0])).u32(3, toWire(e.ports[1]));
      const flags = natFlags(e.flags);
      if (flags !== 0) w.u32(1, flags);
    },
    read: (a) => ({ kind: "masquerade", ...readPorts(a, 2, 3), ...readNatFlags(a.u32(1)) }),
  },
  jhash: {
    name: "hash",
    write: (w, e) => {
      w.u32(1, toWire(e.from)).u32(2, toWire(e.to)).u32(3, e.length).u32(4, e.modulus).u32(5, e.seed);
      if (e.offset) w.u32(6, e.offset);
      w.u32(7, 0);
    },
    read: (a) =>
      (a.u32(7) ?? 0) === 0
        ? {
            kind: "jhash",
            from: fromWire(a.u32(1)),
            length: a.u32(3) ?? 0,
            to: fromWire(a.u32(2)),
            modulus: a.u32(4) ?? 0,
            seed: a.u32(5) ?? 0,
            ...(a.u32(6) ? { offset: a.u32(6) ?? 0 } : {}),
          }
        : undefined,
  },
  numgen: {
    name: "numgen",
    write: (w, e) => {
      w.u32(1, toWire(e.to))
        .u32(2, e.modulus)
        .u32(3, e.type === "random" ? 1 : 0);
      if (e.offset) w.u32(4, e.offset);
    },
    read: (a) => ({
      kind: "numgen",
      to: fromWire(a.u32(1)),
      modulus: a.u32(2) ?? 0,
      type: a.u32(3) === 1 ? "random" : "incremental",
      ...(a.u32(4) ? { offset: a.u32(4) ?? 0 } : {}),
    }),
  },
  dynset: {
    name: "dynset",
    write: (w, e) => {
      w.string(1, e.set).u32(3, DYNSET.indexOf(e.op)).u32(4, toWire(e.key));
      if (e.data !== undefined) w.u32(5, toWire(e.data));
      if (e.timeout !== undefined) w.u64(6, BigInt(e.timeout));
      const [only, ...more] = e.expressions ?? [];
      if (only && more.length === 0) w.nest(7, (one) => writeExpression(one, only));
      else if (only) {
        w.u32(9, 2).nest(10, (list) => {
          for (const one of [only, ...more]) list.nest(1, (item) => writeExpression(item, one));
        });
      }
    },
    read: (a) => {
      const op = DYNSET[a.u32(3) ?? -1];
      if (op === undefined) return undefined;
      const [data, timeout] = [a.u32(5), a.u64(6)];
      const list = a.nest(10)?.all(1) ?? a.all(7);
      return {
        kind: "dynset",
        op,
        set: a.string(1) ?? "",
        key: fromWire(a.u32(4)),
        ...(data === undefined ? {} : { data: fromWire(data) }),
        ...(timeout === undefined || timeout === 0n ? {} : { timeout: Number(timeout) }),
        ...(list.length > 0 ? { expressions: list.map((one) => readExpression(one)) } : {}),
      };
    },
  },
  counter: {
    name: "counter",
    write: (w) => w.u64(1, 0n).u64(2, 0n),
    read: () => ({ kind: "counter" }),
  },
  limit: {
    name: "limit",
    write: (w, e) =>
      w
        .u64(1, BigInt(e.rate))
        .u64(2, BigInt(e.unit))
        .u32(3, e.burst)
        .u32(4, 0)
        .u32(5, e.over ? 1 : 0),
    read: (a) => ({
      kind: "limit",
      rate: Number(a.u64(1) ?? 0n),
      unit: Number(a.u64(2) ?? 0n),
      burst: a.u32(3) ?? 0,
      over: ((a.u32(5) ?? 0) & 1) === 1,
    }),
  },
  connlimit: {
    name: "connlimit",
    write: (w, e) => w.u32(1, e.count).u32(2, e.over ? 1 : 0),
    read: (a) => ({ kind: "connlimit", count: a.u32(1) ?? 0, over: ((a.u32(2) ?? 0) & 1) === 1 }),
  },
  reject: {
    name: "reject",
    write: (w, e) => w.u32(1, REJECTS.indexOf(e.type)).u8(2, e.code),
    read: (a) => {
      const type = REJECTS[a.u32(1) ?? -1];
      // A reset has no code and the kernel answers none.
      return type && { kind: "reject", type, code: type === "tcp-reset" ? 0 : (a.u8(2) ?? 0) };
    },
  },
  fib: {
    name: "fib",
    write: (w, e) =>
      w
        .u32(1, toWire(e.register))
        .u32(2, 3)
        .u32(3, e.of === "saddr" ? 1 : 2),
    read: (a) =>
      a.u32(2) === 3
        ? { kind: "fib", of: a.u32(3) === 1 ? "saddr" : "daddr", register: fromWire(a.u32(1)) }
        : undefined,
  },
  fwd: {
    name: "fwd",
    write: (w, e) =>
      w
        .u32(1, toWire(e.device))
        .u32(2, toWire(e.address))
        .u32(3, e.family === 6 ? 10 : 2),
    read: (a) =>
      a.u32(2) === undefined
        ? undefined
        : {
            kind: "fwd",
            device: fromWire(a.u32(1)),
            address: fromWire(a.u32(2)),
            family: a.u32(3) === 10 ? 6 : 4,
          },
  },
  notrack: { name: "notrack", write: () => {}, read: () => ({ kind: "notrack" }) },
};

const BY_NAME = new Map<string, Codec<Expression>[]>();
for (const codec of Object.values(CODECS) as Codec<Expression>[]) {
  BY_NAME.set(codec.name, [...(BY_NAME.get(codec.name) ?? []), codec]);
}

/** Name and data of an expression, without the surrounding list element. */
export function writeExpression(writer: AttributeWriter, expression: Expression): void {
  if (expression.kind === "unknown") throw new TypeError(`cannot write the expression ${expression.name}`);
  const codec = CODECS[expression.kind] as Codec<Expression>;
  writer.string(1, codec.name).nest(2, (w) => codec.write(w, expression));
}

export function readExpression(bytes: Uint8Array): Expression {
  const attributes = new Attributes(bytes);
  const name = attributes.string(1) ?? "";
  const data = attributes.nest(2) ?? new Attributes(new Uint8Array());
  for (const codec of BY_NAME.get(name) ?? []) {
    const expression = codec.read(data);
    if (expression) return expression;
  }
  return { kind: "unknown", name };
}
