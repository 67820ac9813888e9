/** Tables, chains, rules, sets and elements: values to messages and back (linux/netfilter/nf_tables.h). */
import { utf8 } from "../../base/utf8.ts";
import { attrString } from "../wire-netlink.ts";
import { AttributeWriter, Attributes } from "./wire-attributes.ts";
import { readData, readExpression, writeExpression, writeVerdict } from "./wire-expressions.ts";
import {
  type Expression,
  FAMILY_NUMBERS,
  NFT_TYPES,
  type NftChain,
  type NftElement,
  type NftFamily,
  type NftHook,
  type NftRule,
  type NftSet,
  type NftType,
} from "./model.ts";

const SUBSYSTEM = 10 << 8;
export const MSG = {
  NEWTABLE: SUBSYSTEM,
  GETTABLE: SUBSYSTEM | 1,
  DELTABLE: SUBSYSTEM | 2,
  NEWCHAIN: SUBSYSTEM | 3,
  GETCHAIN: SUBSYSTEM | 4,
  DELCHAIN: SUBSYSTEM | 5,
  NEWRULE: SUBSYSTEM | 6,
  GETRULE: SUBSYSTEM | 7,
  DELRULE: SUBSYSTEM | 8,
  NEWSET: SUBSYSTEM | 9,
  GETSET: SUBSYSTEM | 10,
  DELSET: SUBSYSTEM | 11,
  NEWSETELEM: SUBSYSTEM | 12,
  GETSETELEM: SUBSYSTEM | 13,
  DELSETELEM: SUBSYSTEM | 14,
  GETGEN: SUBSYSTEM | 16,
  BATCH_BEGIN: 0x10,
  BATCH_END: 0x11,
} as const;
/** What a batch's begin and end carry in nfgenmsg: the subsystem it is for. */
export const BATCH_RESOURCE = 10;

const TABLE_OWNER = 2;
const TABLE_PERSIST = 4;
const SET = { INTERVAL: 4, MAP: 8, TIMEOUT: 0x10, EVAL: 0x20, CONCAT: 0x80, EXPR: 0x100 } as const;
const DATA_TYPE_VERDICT = 0xffffff00;

/** Where an object lives. */
export interface Place {
  readonly family: NftFamily;
  readonly table: string;
}
const open = (place: Place): AttributeWriter => new AttributeWriter(FAMILY_NUMBERS[place.family]);
const inTable = (place: Place): AttributeWriter => open(place).string(1, place.table);

// Comments as nft writes them: type, length, text with its NUL.
function comment(text: string): Uint8Array {
  const bytes = utf8(text).subarray(0, 127);
  return Uint8Array.from([0, bytes.length + 1, ...bytes, 0]);
}
function readComment(data: Uint8Array | undefined): { comment?: string } {
  if (!data) return {};
  for (let at = 0; at + 2 <= data.length; at += 2 + (data[at + 1] ?? 0)) {
    if (data[at] !== 0) continue;
    return { comment: attrString(data.subarray(at + 2, at + 2 + (data[at + 1] ?? 0))) ?? "" };
  }
  return {};
}

// --- tables

export const tableBody = (place: Place, flags: { owner?: boolean; persist?: boolean }): Uint8Array =>
  inTable(place)
    .u32(2, (flags.owner ? TABLE_OWNER : 0) | (flags.persist ? TABLE_PERSIST : 0))
    .finish();
export const tableName = (place: Place): Uint8Array => inTable(place).finish();

export interface TableInfo {
  readonly name: string;
  readonly owner: boolean;
  readonly persist: boolean;
  readonly dormant: boolean;
  /** Netlink port of the owner. */
  readonly ownedBy: number | undefined;
}
export function readTable(payload: Uint8Array): TableInfo {
  const a = new Attributes(payload, 4);
  const flags = a.u32(2) ?? 0;
  return {
    name: a.string(1) ?? "",
    dormant: (flags & 1) !== 0,
    owner: (flags & TABLE_OWNER) !== 0,
    persist: (flags & TABLE_PERSIST) !== 0,
    ownedBy: a.u32(7),
  };
}

// --- chains

const HOOKS = ["prerouting", "input", "forward", "output", "postrouting"] as const;
/** arp has its own numbers. */
const ARP_HOOKS = ["input", "output"] as const;
const hookNumber = (family: NftFamily, hook: NftHook["hook"]): number => {
  if (family === "netdev") return 0;
  return (family === "arp" ? (ARP_HOOKS as readonly string[]) : (HOOKS as readonly string[])).indexOf(hook);
};

export function chainBody(place: Place, chain: NftChain): Uint8Array {
  const writer = inTable(place).string(3, chain.name);
  const { hook } = chain;
  if (hook) {
    writer.nest(4, (w) => {
      w.u32(1, hookNumber(place.family, hook.hook)).u32(2, hook.priority);
      const [device, ...more] = hook.devices ?? [];
      if (device !== undefined && more.length === 0) w.string(3, device);
      else if (device !== undefined) {
        w.nest(4, (list) => {
          for (const name of [device, ...more]) list.string(1, name);
        });
      }
    });
    writer.u32(5, hook.policy === "accept" ? 1 : 0).string(7, hook.type);
  }
  return writer.finish();
}
export const chainName = (place: Place, name: string): Uint8Array => inTable(place).string(3, name).finish();

export function readChain(payload: Uint8Array, family: NftFamily): { table: string; chain: NftChain } {
  const a = new Attributes(payload, 4);
  const hook = a.nest(4);
  const name = a.string(3) ?? "";
  const table = a.string(1) ?? "";
  if (!hook) return { table, chain: { name, rules: [] } };
  const number = hook.u32(1) ?? 0;
  const hooks: readonly NftHook["hook"][] =
    family === "arp" ? ARP_HOOKS : family === "netdev" ? ["ingress"] : HOOKS;
  const one = hook.string(3);
  const devices = one === undefined ? (hook.nest(4)?.all(1) ?? []).map(readName) : [one];
  return {
    table,
    chain: {
      name,
      rules: [],
      hook: {
        type: a.string(7) as NftHook["type"],
        hook: hooks[number] ?? "prerouting",
        priority: (hook.u32(2) ?? 0) | 0,
        policy: a.u32(5) === 1 ? "accept" : "drop",
        ...(devices.length > 0 ? { devices: devices.sort() } : {}),
      },
    },
  };
}
const readName = (bytes: Uint8Array): string => attrString(bytes) ?? "";

// --- rules

export function ruleBody(place: Place, chain: string, rule: NftRule, before?: bigint): Uint8Array {
  const writer = inTable(place).string(2, chain);
  writer.nest(4, (w) => {
    for (const expression of rule.expressions) w.nest(1, (item) => writeExpression(item, expression));
  });
  if (before !== undefined) writer.u64(6, before);
  if (rule.comment !== undefined) writer.bytes(7, comment(rule.comment));
  return writer.finish();
}
/** Without a handle: all rules of the chain. */
export function ruleName(place: Place, chain: string, handle?: bigint): Uint8Array {
  const writer = inTable(place).string(2, chain);
  if (handle !== undefined) writer.u64(3, handle);
  return writer.finish();
}
export function readRule(payload: Uint8Array): { chain: string; rule: NftRule } {
  const a = new Attributes(payload, 4);
  const expressions = a.nest(4)?.all(1) ?? [];
  return {
    chain: a.string(2) ?? "",
    rule: {
      handle: a.u64(3) ?? 0n,
      expressions: expressions.map((one) => readExpression(one)),
      ...readComment(a.get(7)),
    },
  };
}

// --- sets

const padded = (length: number): number => (length + 3) & ~3;
/** A single field keeps its length, those of a concatenation are padded. */
const typesLength = (types: readonly NftType[]): number =>
  types.length === 1
    ? NFT_TYPES[types[0] ?? "mark"].length
    : types.reduce((sum, type) => sum + padded(NFT_TYPES[type].length), 0);
const typesId = (types: readonly NftType[]): number =>
  types.reduce((id, type) => ((id << 6) | NFT_TYPES[type].id) >>> 0, 0);
function typesOf(id: number): NftType[] {
  const types: NftType[] = [];
  for (let rest = id; rest !== 0; rest >>>= 6) {
    const found = (Object.keys(NFT_TYPES) as NftType[]).find((type) => NFT_TYPES[type].id === (rest & 63));
    types.unshift(found ?? "mark");
  }
  return types;
}

export function setBody(place: Place, set: NftSet, id: number): Uint8Array {
  const concat = set.key.length > 1;
  const flags =
    (set.interval ? SET.INTERVAL : 0) |
    (set.data === undefined ? 0 : SET.MAP) |
    (set.timeout === undefined ? 0 : SET.TIMEOUT) |
    (set.dynamic ? SET.EVAL : 0) |
    (concat && set.interval ? SET.CONCAT : 0) |
    (set.limits ? SET.EXPR : 0);
  const writer = inTable(place)
    .string(2, set.name)
    .u32(3, flags)
    .u32(4, typesId(set.key))
    .u32(5, typesLength(set.key))
    .u32(10, id);
  if (set.data === "verdict") writer.u32(6, DATA_TYPE_VERDICT).u32(7, 16);
  else if (set.data) writer.u32(6, typesId(set.data)).u32(7, typesLength(set.data));
  if (set.size !== undefined || (concat && set.interval)) {
    writer.nest(9, (w) => {
      if (set.size !== undefined) w.u32(1, set.size);
      if (concat && set.interval) {
        w.nest(2, (fields) => {
          for (const type of set.key) fields.nest(1, (field) => field.u32(1, NFT_TYPES[type].length));
        });
      }
    });
  }
  if (set.timeout !== undefined && set.timeout > 0) writer.u64(11, BigInt(set.timeout));
  if (set.limits) {
    writer.nest(18, (w) => {
      w.nest(1, (one) => writeExpression(one, { kind: "counter" }));
      w.nest(1, (one) => writeExpression(one, noLimit));
    });
  } else if (set.counter) writer.nest(17, (w) => writeExpression(w, { kind: "counter" }));
  return writer.finish();
}
export const setName = (place: Place, name: string): Uint8Array => inTable(place).string(2, name).finish();

const NO_LIMIT = 0xffffffff;
const noLimit: Expression = { kind: "connlimit", count: NO_LIMIT, over: false };

export function readSet(payload: Uint8Array): NftSet {
  const a = new Attributes(payload, 4);
  const flags = a.u32(3) ?? 0;
  const dataType = a.u32(6);
  const size = a.nest(9)?.u32(1);
  const many = a.nest(18)?.all(1).length ?? 0;
  return {
    name: a.string(2) ?? "",
    key: typesOf(a.u32(4) ?? 0),
    ...((flags & SET.MAP) === 0
      ? {}
      : { data: dataType === DATA_TYPE_VERDICT ? ("verdict" as const) : typesOf(dataType ?? 0) }),
    ...((flags & SET.INTERVAL) !== 0 ? { interval: true } : {}),
    ...((flags & SET.TIMEOUT) !== 0 ? { timeout: Number(a.u64(11) ?? 0n) } : {}),
    ...((flags & SET.EVAL) !== 0 ? { dynamic: true } : {}),
    ...(size === undefined ? {} : { size }),
    ...(many > 1 ? { counter: true, limits: true } : a.get(17) ? { counter: true } : {}),
    elements: new Map(),
  };
}

// --- elements

/** About what one message may hold: the list's length is 16 bits wide. */
const ELEMENTS_BYTES = 60_000;

function writeElement(writer: AttributeWriter, set: NftSet, element: NftElement, withData: boolean): void {
  writer.nest(1, (w) => {
    w.nest(1, (key) => key.bytes(1, element.key));
    const { keyEnd, data } = element;
    if (keyEnd) w.nest(10, (key) => key.bytes(1, keyEnd));
    if (!withData) return;
    if (data instanceof Uint8Array) w.nest(2, (value) => value.bytes(1, data));
    else if (data) w.nest(2, (value) => writeVerdict(value, data));
    if (element.timeout !== undefined) w.u64(4, BigInt(element.timeout));
    if (element.expires !== undefined) w.u64(5, BigInt(element.expires));
    if (element.comment !== undefined) w.bytes(6, comment(element.comment));
    if (set.limits) {
      w.nest(11, (list) => {
        list.nest(1, (one) => writeExpression(one, { kind: "counter" }));
        list.nest(1, (one) =>
          writeExpression(one, { kind: "connlimit", count: element.connlimit ?? NO_LIMIT, over: false }),
        );
      });
    }
  });
}

/** As many messages as the elements need. `withData` false: to delete or to get them. */
export function elementBodies(
  place: Place,
  set: NftSet,
  elements: readonly NftElement[],
  withData: boolean,
): Uint8Array[] {
  const bodies: Uint8Array[] = [];
  for (let at = 0; at < elements.length;) {
    const writer = inTable(place).string(2, set.name);
    writer.nest(3, (w) => {
      while (at < elements.length && w.length < ELEMENTS_BYTES) {
        const element = elements[at++];
        if (element) writeElement(w, set, element, withData);
      }
    });
    bodies.push(writer.finish());
  }
  return bodies;
}

export interface ElementRead extends NftElement {
  readonly packets?: bigint;
  readonly bytes?: bigint;
}

export function readElements(payload: Uint8Array): ElementRead[] {
  const list = new Attributes(payload, 4).nest(3)?.all(1) ?? [];
  const elements: ElementRead[] = [];
  for (const bytes of list) {
    const a = new Attributes(bytes);
    const key = a.nest(1)?.get(1);
    if (!key) continue;
    const keyEnd = a.nest(10)?.get(1);
    const data = readData(a.get(2));
    const [timeout, expires] = [a.u64(4), a.u64(5)];
    const expressions = a.nest(11)?.all(1) ?? a.all(7);
    let counts = {};
    for (const one of expressions) {
      const expression = new Attributes(one);
      const values = expression.nest(2);
      if (expression.string(1) === "counter") {
        counts = { ...counts, bytes: values?.u64(1) ?? 0n, packets: values?.u64(2) ?? 0n };
      } else if (expression.string(1) === "connlimit" && values?.u32(1) !== NO_LIMIT) {
        counts = { ...counts, connlimit: values?.u32(1) ?? 0 };
      }
    }
    elements.push({
      key: key.slice(),
      ...(keyEnd ? { keyEnd: keyEnd.slice() } : {}),
      ...(data === undefined ? {} : { data }),
      ...(timeout === undefined ? {} : { timeout: Number(timeout) }),
      ...(expires === undefined ? {} : { expires: Number(expires) }),
      ...readComment(a.get(6)),
      ...counts,
    });
  }
  return elements;
}

export const setElementsOf = (place: Place, set: string): Uint8Array =>
  inTable(place).string(2, set).finish();
export const familyOnly = (family: NftFamily): Uint8Array =>
  new AttributeWriter(FAMILY_NUMBERS[family]).finish();
/** NFTA_GEN_ID of an answer to GETGEN. */
export const readGeneration = (payload: Uint8Array): number => new Attributes(payload, 4).u32(1) ?? 0;
