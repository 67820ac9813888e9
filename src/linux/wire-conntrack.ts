/**
 * The kernel's connection table over netlink (linux/netfilter/nfnetlink_conntrack.h): flows to bytes and back.
 * Attribute payloads are big endian. Addresses stay bytes: tens of thousands of flows pass here each second, and
 * text is made only for people.
 */
import { type Family, ipFromBytes } from "../base/addresses.ts";
import { AF, IPPROTO } from "./constants.ts";
import { addressAt, windowScales } from "./wire-shared.ts";
import { NetlinkWriter } from "./wire-netlink.ts";

const SUBSYSTEM = 1 << 8;
/** Message types. An event of a new or changed flow has type NEW, of a flow that ended DELETE. */
export const CT_MESSAGE = { NEW: SUBSYSTEM, GET: SUBSYSTEM | 1, DELETE: SUBSYSTEM | 2 } as const;
/** Multicast groups (NFNLGRP_CONNTRACK_*). */
export const CT_GROUP = { NEW: 1, UPDATE: 2, DESTROY: 3 } as const;

export const CTA = {
  TUPLE_ORIG: 1,
  TUPLE_REPLY: 2,
  STATUS: 3,
  PROTOINFO: 4,
  NAT_SRC: 6,
  TIMEOUT: 7,
  MARK: 8,
  COUNTERS_ORIG: 9,
  COUNTERS_REPLY: 10,
  ID: 12,
  NAT_DST: 13,
  ZONE: 18,
  MARK_MASK: 21,
  STATUS_MASK: 26,
} as const;
const TUPLE = { IP: 1, PROTO: 2 } as const;
const TUPLE_IP = { V4_SRC: 1, V4_DST: 2, V6_SRC: 3, V6_DST: 4 } as const;
const TUPLE_PROTO = { NUM: 1, SRC_PORT: 2, DST_PORT: 3 } as const;
const NAT = { V4_MIN: 1, V4_MAX: 2, PROTO: 3, V6_MIN: 4, V6_MAX: 5 } as const;
export const TCP = {
  STATE: 1,
  WSCALE_ORIGINAL: 2,
  WSCALE_REPLY: 3,
  FLAGS_ORIGINAL: 4,
  FLAGS_REPLY: 5,
} as const;
const TCP_BE_LIBERAL = 0x08;
const TCP_WINDOW_SCALE = 0x01;
/** Somebody has begun to close: after TIME_WAIT the same port may open another connection. */
const TCP_CLOSE_INIT = 0x04;

/** Bits of a flow's status (enum ip_conntrack_status). */
export const FLOW_STATUS = {
  SEEN_REPLY: 0x2,
  ASSURED: 0x4,
  CONFIRMED: 0x8,
  SRC_NAT: 0x10,
  DST_NAT: 0x20,
} as const;
/** enum tcp_conntrack. */
export const TCP_STATE = {
  NONE: 0,
  SYN_SENT: 1,
  SYN_RECV: 2,
  ESTABLISHED: 3,
  FIN_WAIT: 4,
  CLOSE_WAIT: 5,
  LAST_ACK: 6,
  TIME_WAIT: 7,
  CLOSE: 8,
} as const;

/** One direction of a flow. Addresses are 4 or 16 bytes. */
export interface FlowTuple {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** A TCP or UDP flow. What the kernel did not say is 0. Its addresses are shared: nobody may change them. */
export interface Flow {
  readonly family: Family;
  /** IPPROTO.TCP or UDP. */
  readonly protocol: number;
  readonly original: FlowTuple;
  /** As replies come in: the backend is its source. */
  readonly reply: FlowTuple;
  readonly status: number;
  readonly mark: number;
  /** Seconds until it expires if nothing comes. */
  readonly timeout: number;
  readonly tcpState: number;
  /** Window scales of both directions; undefined where TCP has not said. */
  readonly windowScales: readonly [original: number, reply: number] | undefined;
  /** The kernel's own number for it: another flow with the same addresses has another. */
  readonly id: number;
  /** Packets and bytes of both directions together; 0 unless nf_conntrack_acct is on. */
  readonly packets: number;
  readonly bytes: number;
}

const u16At = (bytes: Uint8Array, at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
const u32At = (bytes: Uint8Array, at: number): number =>
  ((u16At(bytes, at) << 16) | u16At(bytes, at + 2)) >>> 0;
/** Header fields of attributes are in host order. */
const lengthAt = (bytes: Uint8Array, at: number): number => (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
const typeAt = (bytes: Uint8Array, at: number): number => lengthAt(bytes, at + 2) & 0x3fff;

/**
 * The end of the attribute at `at` within `end`, or -1 where it does not fit. Loops over attributes are
 * written out here instead of with callbacks, and what they find goes into places made once: this is the hot path.
 */
function attributeEnd(bytes: Uint8Array, at: number, end: number): number {
  const length = lengthAt(bytes, at);
  return length < 4 || at + length > end ? -1 : at + length;
}
const next = (at: number, end: number): number => at + ((end - at + 3) & ~3);

/** Where in the bytes a tuple's parts lie; lengths of 0 where they are missing. */
interface TupleRead {
  source: number;
  sourceLength: number;
  destination: number;
  destinationLength: number;
  sourcePort: number;
  destinationPort: number;
  protocol: number;
}
const emptyTuple = (): TupleRead => ({
  source: 0,
  sourceLength: 0,
  destination: 0,
  destinationLength: 0,
  sourcePort: 0,
  destinationPort: 0,
  protocol: 0,
});
/** Of the flow that is being decoded. */
const readOriginal = emptyTuple();
const readReply = emptyTuple();
const readInfo = { state: 0, original: -1, reply: -1, packets: 0, bytes: 0 };

function readTuple(into: TupleRead, bytes: Uint8Array, start: number, stop: number): void {
  into.sourceLength = into.destinationLength = into.sourcePort = into.destinationPort = into.protocol = 0;
  for (let at = start, end = 0; stop - at >= 4; at = next(at, end)) {
    end = attributeEnd(bytes, at, stop);
    if (end < 0) break;
    const type = typeAt(bytes, at);
    if (type !== TUPLE.IP && type !== TUPLE.PROTO) continue;
    for (let inner = at + 4, innerEnd = 0; end - inner >= 4; inner = next(inner, innerEnd)) {
      innerEnd = attributeEnd(bytes, inner, end);
      if (innerEnd < 0) break;
      const kind = typeAt(bytes, inner);
      const value = inner + 4;
      if (type === TUPLE.IP) {
        if (kind === TUPLE_IP.V4_SRC || kind === TUPLE_IP.V6_SRC) {
          into.source = value;
          into.sourceLength = innerEnd - value;
        } else if (kind === TUPLE_IP.V4_DST || kind === TUPLE_IP.V6_DST) {
          into.destination = value;
          into.destinationLength = innerEnd - value;
        }
      } else if (innerEnd > value) {
        if (kind === TUPLE_PROTO.NUM) into.protocol = bytes[value] ?? 0;
        else if (innerEnd < value + 2) continue;
        else if (kind === TUPLE_PROTO.SRC_PORT) into.sourcePort = u16At(bytes, value);
        else if (kind === TUPLE_PROTO.DST_PORT) into.destinationPort = u16At(bytes, value);
      }
    }
  }
}

function readTcp(bytes: Uint8Array, start: number, stop: number): void {
  for (let at = start, end = 0; stop - at >= 4; at = next(at, end)) {
    end = attributeEnd(bytes, at, stop);
    if (end < 0) break;
    if (typeAt(bytes, at) !== 1) continue; // CTA_PROTOINFO_TCP
    for (let inner = at + 4, innerEnd = 0; end - inner >= 4; inner = next(inner, innerEnd)) {
      innerEnd = attributeEnd(bytes, inner, end);
      if (innerEnd < inner + 5) break;
      const value = bytes[inner + 4] ?? 0;
      const kind = typeAt(bytes, inner);
      if (kind === TCP.STATE) readInfo.state = value;
      else if (kind === TCP.WSCALE_ORIGINAL) readInfo.original = value;
      else if (kind === TCP.WSCALE_REPLY) readInfo.reply = value;
    }
  }
}

/** Adds packets and bytes of CTA_COUNTERS; beyond 2^53 they lose their last bits. */
function readCounters(bytes: Uint8Array, start: number, stop: number): void {
  for (let at = start, end = 0; stop - at >= 4; at = next(at, end)) {
    end = attributeEnd(bytes, at, stop);
    if (end < 0) break;
    const kind = typeAt(bytes, at);
    if ((kind !== 1 && kind !== 2) || end - at < 12) continue;
    const value = u32At(bytes, at + 4) * 2 ** 32 + u32At(bytes, at + 8);
    if (kind === 1) readInfo.packets += value;
    else readInfo.bytes += value;
  }
}

const tupleOf = (bytes: Uint8Array, read: TupleRead, width: number): FlowTuple => ({
  source: addressAt(bytes, read.source, width),
  destination: addressAt(bytes, read.destination, width),
  sourcePort: read.sourcePort,
  destinationPort: read.destinationPort,
});
const sound = (tuple: TupleRead, width: number): boolean =>
  tuple.sourceLength === width &&
  tuple.destinationLength === width &&
  (tuple.protocol === IPPROTO.TCP || tuple.protocol === IPPROTO.UDP);

/**
 * A flow from the payload of a dump, a reply or an event, which lies in `bytes` from `start` to `stop`; undefined for
 * other protocols and zones than ours.
 */
export function decodeFlow(bytes: Uint8Array, start = 0, stop = bytes.length): Flow | undefined {
  const family = bytes[start] === AF.INET ? 4 : bytes[start] === AF.INET6 ? 6 : undefined;
  if (stop - start < 4 || family === undefined) return undefined;
  let status = 0;
  let mark = 0;
  let timeout = 0;
  let id = 0;
  readOriginal.protocol = readReply.protocol = 0;
  readInfo.state = readInfo.packets = readInfo.bytes = 0;
  readInfo.original = readInfo.reply = -1;
  for (let at = start + 4, end = 0; stop - at >= 4; at = next(at, end)) {
    end = attributeEnd(bytes, at, stop);
    if (end < 0) break;
    const value = at + 4;
    const whole = end - value >= 4;
    switch (typeAt(bytes, at)) {
      case CTA.TUPLE_ORIG:
        readTuple(readOriginal, bytes, value, end);
        break;
      case CTA.TUPLE_REPLY:
        readTuple(readReply, bytes, value, end);
        break;
      case CTA.STATUS:
        if (whole) status = u32At(bytes, value);
        break;
      case CTA.MARK:
        if (whole) mark = u32At(bytes, value);
        break;
      case CTA.TIMEOUT:
        if (whole) timeout = u32At(bytes, value);
        break;
      case CTA.ID:
        if (whole) id = u32At(bytes, value);
        break;
      case CTA.PROTOINFO:
        readTcp(bytes, value, end);
        break;
      case CTA.COUNTERS_ORIG:
      case CTA.COUNTERS_REPLY:
        readCounters(bytes, value, end);
        break;
      case CTA.ZONE:
        return undefined;
      default:
        break;
    }
  }
  const width = family === 4 ? 4 : 16;
  if (!sound(readOriginal, width) || !sound(readReply, width)) return undefined;
  return {
    family,
    protocol: readOriginal.protocol,
    original: tupleOf(bytes, readOriginal, width),
    reply: tupleOf(bytes, readReply, width),
    status,
    mark,
    timeout,
    id,
    packets: readInfo.packets,
    bytes: readInfo.bytes,
    tcpState: readInfo.state,
    windowScales: windowScales(readInfo.original, readInfo.reply),
  };
}

const header = (writer: NetlinkWriter, family: Family | 0): NetlinkWriter =>
  writer
    .u8(family === 4 ? AF.INET : family === 6 ? AF.INET6 : 0)
    .u8(0)
    .u16(0);

function writeTuple(
  writer: NetlinkWriter,
  type: number,
  protocol: number,
  source: Uint8Array,
  sourcePort: number,
  destination: Uint8Array,
  destinationPort: number,
): void {
  const four = source.length === 4;
  const nest = writer.nest(type);
  const address = writer.nest(TUPLE.IP);
  writer.attr(four ? TUPLE_IP.V4_SRC : TUPLE_IP.V6_SRC, source);
  writer.attr(four ? TUPLE_IP.V4_DST : TUPLE_IP.V6_DST, destination).endNest(address);
  const proto = writer.nest(TUPLE.PROTO);
  writer.attrU8(TUPLE_PROTO.NUM, protocol);
  writer.attrU16Be(TUPLE_PROTO.SRC_PORT, sourcePort);
  writer.attrU16Be(TUPLE_PROTO.DST_PORT, destinationPort).endNest(proto).endNest(nest);
}
function writeOriginal(
  writer: NetlinkWriter,
  { protocol, original }: Pick<Flow, "protocol" | "original">,
): void {
  const { source, sourcePort, destination, destinationPort } = original;
  writeTuple(writer, CTA.TUPLE_ORIG, protocol, source, sourcePort, destination, destinationPort);
}

function writeNat(writer: NetlinkWriter, type: number, address: Uint8Array, port: number): void {
  const four = address.length === 4;
  const nest = writer.nest(type);
  writer.attr(four ? NAT.V4_MIN : NAT.V6_MIN, address).attr(four ? NAT.V4_MAX : NAT.V6_MAX, address);
  const proto = writer.nest(NAT.PROTO);
  writer.attrU16Be(1, port).attrU16Be(2, port).endNest(proto).endNest(nest);
}

export function bytesSame(a: Uint8Array, b: Uint8Array): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
export const tuplesSame = (a: FlowTuple, b: FlowTuple): boolean =>
  a.sourcePort === b.sourcePort &&
  a.destinationPort === b.destinationPort &&
  bytesSame(a.source, b.source) &&
  bytesSame(a.destination, b.destination);

/** What a flow that is put into the table must say; all else follows from it. */
export type FlowPlan = Pick<
  Flow,
  "family" | "protocol" | "original" | "reply" | "mark" | "timeout" | "tcpState" | "windowScales"
>;

/**
 * What a node needs that has never seen the flow: assured, so that a full table does not throw it out;
 * window checks off in both directions, since the windows are unknown here; the window scales as they were.
 */
function writeState(writer: NetlinkWriter, flow: FlowPlan): void {
  const { SEEN_REPLY, ASSURED, CONFIRMED } = FLOW_STATUS;
  writer.attrU32Be(CTA.STATUS, SEEN_REPLY | ASSURED | CONFIRMED);
  writer.attrU32Be(CTA.TIMEOUT, flow.timeout);
  writer.attrU32Be(CTA.MARK, flow.mark);
  if (flow.protocol !== IPPROTO.TCP) return;
  const info = writer.nest(CTA.PROTOINFO);
  const tcp = writer.nest(1);
  writer.attrU8(TCP.STATE, flow.tcpState);
  const scaled = flow.windowScales !== undefined;
  const closing = flow.tcpState >= TCP_STATE.FIN_WAIT && flow.tcpState <= TCP_STATE.CLOSE;
  const flags = TCP_BE_LIBERAL | (scaled ? TCP_WINDOW_SCALE : 0) | (closing ? TCP_CLOSE_INIT : 0);
  // struct nf_ct_tcp_flags: a byte of values, a byte of which of them count.
  const flagBytes = (flags << 8) | TCP_BE_LIBERAL | TCP_WINDOW_SCALE | TCP_CLOSE_INIT;
  writer.attrU16Be(TCP.FLAGS_ORIGINAL, flagBytes).attrU16Be(TCP.FLAGS_REPLY, flagBytes);
  if (flow.windowScales !== undefined) {
    writer.attrU8(TCP.WSCALE_ORIGINAL, flow.windowScales[0]);
    writer.attrU8(TCP.WSCALE_REPLY, flow.windowScales[1]);
  }
  writer.endNest(tcp).endNest(info);
}

/**
 * A new entry. The kernel applies address translation only while it creates one, and works it out from the
 * reply direction as it would be without: so that is what it gets, and the translations beside it.
 */
export function writeNewFlow(flow: FlowPlan, writer: NetlinkWriter): void {
  header(writer, flow.family);
  const { original, reply, protocol } = flow;
  const { source, sourcePort, destination, destinationPort } = original;
  writeOriginal(writer, flow);
  writeTuple(writer, CTA.TUPLE_REPLY, protocol, destination, destinationPort, source, sourcePort);
  if (reply.sourcePort !== destinationPort || !bytesSame(reply.source, destination))
    writeNat(writer, CTA.NAT_DST, reply.source, reply.sourcePort);
  if (reply.destinationPort !== sourcePort || !bytesSame(reply.destination, source))
    writeNat(writer, CTA.NAT_SRC, reply.destination, reply.destinationPort);
  writeState(writer, flow);
}

/** New state and lifetime for an entry that is there. Its translation stays as it is. */
export function writeFlowUpdate(flow: FlowPlan, writer: NetlinkWriter): void {
  header(writer, flow.family);
  writeOriginal(writer, flow);
  writeState(writer, flow);
}

/** A new lifetime only: what the flow has become meanwhile stays. */
export function writeFlowTimeout(
  flow: Pick<Flow, "family" | "protocol" | "original" | "timeout">,
  writer: NetlinkWriter,
): void {
  header(writer, flow.family);
  writeOriginal(writer, flow);
  writer.attrU32Be(CTA.TIMEOUT, flow.timeout);
}

/** Names an entry to be read or deleted; with its id, another that has the same addresses meanwhile is spared. */
export function writeFlowKey(
  flow: Pick<Flow, "family" | "protocol" | "original"> & { readonly id?: number },
  writer: NetlinkWriter,
): void {
  header(writer, flow.family);
  writeOriginal(writer, flow);
  if (flow.id !== undefined && flow.id !== 0) writer.attrU32Be(CTA.ID, flow.id);
}

/** What one of these writes, as bytes of its own. */
export function encodeFlow<T>(write: (flow: T, writer: NetlinkWriter) => void, flow: T): Uint8Array {
  const writer = new NetlinkWriter(320);
  write(flow, writer);
  return writer.finish();
}

export interface FlowFilter {
  readonly family?: Family;
  /** Flows whose mark has these bits under the mask. */
  readonly mark?: { readonly value: number; readonly mask: number };
  /** Only those that are assured, or only those that are not (yet): half-open connections, datagrams without an answer. */
  readonly assured?: boolean;
}

/** A dump that the kernel filters; by assurance since Linux 6.0, before which `assured` lets all through. */
export function encodeFlowQuery(filter: FlowFilter): Uint8Array {
  const writer = header(new NetlinkWriter(24), filter.family ?? 0);
  if (filter.mark !== undefined)
    writer.attrU32Be(CTA.MARK, filter.mark.value).attrU32Be(CTA.MARK_MASK, filter.mark.mask);
  if (filter.assured !== undefined)
    writer
      .attrU32Be(CTA.STATUS, filter.assured ? FLOW_STATUS.ASSURED : 0)
      .attrU32Be(CTA.STATUS_MASK, FLOW_STATUS.ASSURED);
  return writer.finish();
}

/** One flow's name as a map's key: protocol, original direction. Short, and made quickly. */
export function flowKey(flow: Pick<Flow, "protocol" | "original">): string {
  const { source, destination, sourcePort, destinationPort } = flow.original;
  // In one call: a string that is put together piece by piece is copied once more when a map looks for it.
  if (source.length === 4)
    return String.fromCharCode(
      flow.protocol,
      sourcePort,
      destinationPort,
      u16At(source, 0),
      u16At(source, 2),
      u16At(destination, 0),
      u16At(destination, 2),
    );
  let key = String.fromCharCode(flow.protocol, sourcePort, destinationPort);
  for (let i = 0; i < source.length; i += 2) key += String.fromCharCode(u16At(source, i));
  for (let i = 0; i < destination.length; i += 2) key += String.fromCharCode(u16At(destination, i));
  return key;
}

/** For people: `tcp 10.0.0.9:4711 -> 10.0.0.1:80 at 10.1.0.11:8080`. */
export function describeFlow(flow: Flow): string {
  const at = (address: Uint8Array, port: number): string =>
    address.length === 4 ? `${ipFromBytes(address)}:${port}` : `[${ipFromBytes(address)}]:${port}`;
  const { original, reply } = flow;
  const name = flow.protocol === IPPROTO.TCP ? "tcp" : "udp";
  return `${name} ${at(original.source, original.sourcePort)} -> ${at(original.destination, original.destinationPort)} at ${at(reply.source, reply.sourcePort)}`;
}
