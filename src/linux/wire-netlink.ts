import { fromUtf8, utf8 } from "../base/utf8.ts";

/**
 * Netlink messages and attributes (linux/netlink.h): bytes to values and back.
 *
 * Headers and rtnetlink's values are in host byte order, which is little endian on every machine that this
 * program supports (x86-64, arm64). Payloads of nfnetlink (nf_tables, conntrack) are mostly big endian: the
 * methods that write them end in `Be`. Decoding never throws: what does not fit is left out or named.
 */

export const NLM_F = {
  REQUEST: 0x1,
  MULTI: 0x2,
  ACK: 0x4,
  ECHO: 0x8,
  DUMP_INTR: 0x10,
  /** Get: */
  ROOT: 0x100,
  MATCH: 0x200,
  DUMP: 0x300,
  /** New: */
  REPLACE: 0x100,
  EXCL: 0x200,
  CREATE: 0x400,
  APPEND: 0x800,
  /** In an acknowledgement: */
  CAPPED: 0x100,
  ACK_TLVS: 0x200,
} as const;

export const NLMSG = { NOOP: 1, ERROR: 2, DONE: 3, OVERRUN: 4 } as const;

const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;
const HEADER = 16;
const align = (length: number): number => (length + 3) & ~3;

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly seq: number;
  readonly portid: number;
  /** After the header: a view of the bytes that were decoded. */
  readonly payload: Uint8Array;
}

/** Writes messages one after another, growing as needed. Attributes may nest. */
export class NetlinkWriter {
  #bytes: Uint8Array;
  #view: DataView;
  #at = 0;
  #message = 0;

  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }
  get length(): number {
    return this.#at;
  }
  /** Opens a message; `end` closes it. Sequence and port are filled in by whoever sends, or here. */
  begin(type: number, flags: number, seq = 0, portid = 0): this {
    this.#room(HEADER);
    this.#message = this.#at;
    this.#view.setUint32(this.#at, 0, true);
    this.#view.setUint16(this.#at + 4, type, true);
    this.#view.setUint16(this.#at + 6, flags, true);
    this.#view.setUint32(this.#at + 8, seq, true);
    this.#view.setUint32(this.#at + 12, portid, true);
    this.#at += HEADER;
    return this;
  }
  end(): this {
    this.#view.setUint32(this.#message, this.#at - this.#message, true);
    return this.#pad();
  }
  u8(value: number): this {
    this.#room(1);
    this.#bytes[this.#at++] = value;
    return this;
  }
  u16(value: number): this {
    this.#room(2);
    this.#view.setUint16(this.#at, value, true);
    this.#at += 2;
    return this;
  }
  u16Be(value: number): this {
    this.#room(2);
    this.#view.setUint16(this.#at, value);
    this.#at += 2;
    return this;
  }
  u32(value: number): this {
    this.#room(4);
    this.#view.setUint32(this.#at, value, true);
    this.#at += 4;
    return this;
  }
  u32Be(value: number): this {
    this.#room(4);
    this.#view.setUint32(this.#at, value);
    this.#at += 4;
    return this;
  }
  bytes(value: Uint8Array): this {
    const { length } = value;
    this.#room(length);
    // Written out for addresses: a call of `set` costs more than their bytes.
    if (length > 16) this.#bytes.set(value, this.#at);
    else for (let i = 0; i < length; i++) this.#bytes[this.#at + i] = value[i] ?? 0;
    this.#at += length;
    return this;
  }
  attr(type: number, value: Uint8Array): this {
    return this.#attrHeader(type, value.length).bytes(value).#pad();
  }
  attrFlag(type: number): this {
    return this.#attrHeader(type, 0);
  }
  attrU8(type: number, value: number): this {
    return this.#attrHeader(type, 1).u8(value).#pad();
  }
  attrU16(type: number, value: number): this {
    return this.#attrHeader(type, 2).u16(value).#pad();
  }
  attrU32(type: number, value: number): this {
    return this.#attrHeader(type, 4).u32(value);
  }
  attrU16Be(type: number, value: number): this {
    return this.#attrHeader(type, 2).u16Be(value).#pad();
  }
  attrU32Be(type: number, value: number): this {
    return this.#attrHeader(type, 4).u32Be(value);
  }
  attrU64Be(type: number, value: bigint): this {
    this.#attrHeader(type, 8);
    this.#room(8);
    this.#view.setBigUint64(this.#at, value);
    this.#at += 8;
    return this;
  }
  /** With the terminating zero that the kernel expects of names. */
  attrString(type: number, text: string): this {
    const bytes = utf8(text);
    return this.#attrHeader(type, bytes.length + 1)
      .bytes(bytes)
      .u8(0)
      .#pad();
  }
  /** Opens a nest and answers its mark for `endNest`. */
  nest(type: number): number {
    const mark = this.#at;
    this.#attrHeader(type | NLA_F_NESTED, 0);
    return mark;
  }
  endNest(mark: number): this {
    this.#view.setUint16(mark, this.#at - mark, true);
    return this;
  }
  /** A view of what was written; do not write on after taking it. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }
  /** A view of what was written from there on; writing on behind it leaves it alone. */
  since(start: number): Uint8Array {
    return this.#bytes.subarray(start, this.#at);
  }
  /** Forgets what was written and keeps the memory. */
  reset(): this {
    this.#at = 0;
    return this;
  }

  #attrHeader(type: number, length: number): this {
    return this.u16(4 + length).u16(type);
  }
  #pad(): this {
    while ((this.#at & 3) !== 0) this.u8(0);
    return this;
  }
  #room(more: number): void {
    if (this.#at + more <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#at + more));
    grown.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

/** One message: a header and a body that a NetlinkWriter made without `begin`. */
export function encodeMessage(
  type: number,
  flags: number,
  seq: number,
  portid: number,
  body: Uint8Array,
): Uint8Array {
  return new NetlinkWriter(HEADER + align(body.length))
    .begin(type, flags, seq, portid)
    .bytes(body)
    .end()
    .finish();
}

/** Every whole message of a datagram; `rest` counts the bytes at its end that are none. */
export function decodeMessages(datagram: Uint8Array): {
  readonly messages: NetlinkMessage[];
  readonly rest: number;
} {
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  const messages: NetlinkMessage[] = [];
  let at = 0;
  while (datagram.length - at >= HEADER) {
    const length = view.getUint32(at, true);
    if (length < HEADER || length > datagram.length - at) break;
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      seq: view.getUint32(at + 8, true),
      portid: view.getUint32(at + 12, true),
      payload: datagram.subarray(at + HEADER, at + length),
    });
    at = Math.min(datagram.length, at + align(length));
  }
  return { messages, rest: datagram.length - at };
}

/** Calls `visit` with every whole attribute from `offset` on. Answers false where bytes are left over. */
export function forEachAttribute(
  bytes: Uint8Array,
  offset: number,
  visit: (type: number, value: Uint8Array) => void,
): boolean {
  let at = offset;
  while (bytes.length - at >= 4) {
    const length = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
    if (length < 4 || length > bytes.length - at) return false;
    const type = ((bytes[at + 2] ?? 0) | ((bytes[at + 3] ?? 0) << 8)) & NLA_TYPE_MASK;
    visit(type, bytes.subarray(at + 4, at + length));
    at += align(length);
  }
  return at >= bytes.length;
}

/** Attributes by type; of a type that comes twice, the last (lists are read by `forEachAttribute`). */
export type Attributes = ReadonlyMap<number, Uint8Array>;

export function readAttributes(bytes: Uint8Array, offset = 0): Attributes {
  const found = new Map<number, Uint8Array>();
  forEachAttribute(bytes, offset, (type, value) => found.set(type, value));
  return found;
}

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Undefined where the attribute is absent or too short; so are the others. */
export const attrU8 = (value: Uint8Array | undefined): number | undefined => value?.[0];
export const attrU16 = (value: Uint8Array | undefined): number | undefined =>
  value === undefined || value.length < 2 ? undefined : viewOf(value).getUint16(0, true);
export const attrU32 = (value: Uint8Array | undefined): number | undefined =>
  value === undefined || value.length < 4 ? undefined : viewOf(value).getUint32(0, true);
export const attrU16Be = (value: Uint8Array | undefined): number | undefined =>
  value === undefined || value.length < 2 ? undefined : viewOf(value).getUint16(0);
export const attrU32Be = (value: Uint8Array | undefined): number | undefined =>
  value === undefined || value.length < 4 ? undefined : viewOf(value).getUint32(0);
export const attrU64Be = (value: Uint8Array | undefined): bigint | undefined =>
  value === undefined || value.length < 8 ? undefined : viewOf(value).getBigUint64(0);
/** Up to the first zero. */
export function attrString(value: Uint8Array | undefined): string | undefined {
  if (value === undefined) return undefined;
  const end = value.indexOf(0);
  return fromUtf8(end < 0 ? value : value.subarray(0, end));
}

export interface NetlinkAnswer {
  /** 0 is success. */
  readonly errno: number;
  /** What the kernel says about it (NLMSGERR_ATTR_MSG), or empty. */
  readonly text: string;
  /** Where in the request the mistake lies, or undefined (NLMSGERR_ATTR_OFFS). */
  readonly offset: number | undefined;
}

/** The payload of NLMSG_ERROR and, where the dump failed, of NLMSG_DONE; undefined where it is too short. */
export function decodeAnswer(message: NetlinkMessage): NetlinkAnswer | undefined {
  const { payload, flags } = message;
  if (payload.length < 4) return undefined;
  const view = viewOf(payload);
  const errno = -view.getInt32(0, true);
  let text = "";
  let offset: number | undefined;
  if ((flags & NLM_F.ACK_TLVS) !== 0) {
    let start = 4;
    if (message.type === NLMSG.ERROR) {
      const original = payload.length >= 4 + HEADER ? view.getUint32(4, true) : HEADER;
      start = 4 + ((flags & NLM_F.CAPPED) === 0 ? align(Math.max(HEADER, original)) : HEADER);
    }
    const attributes = readAttributes(payload, start);
    text = attrString(attributes.get(1)) ?? "";
    offset = attrU32(attributes.get(2));
  }
  return { errno, text, offset };
}
