/**
 * The kernel's connection table over netlink (linux/netfilter/nfnetlink_conntrack.h): flows to bytes and back.
 * Attribute payloads are big endian. Addresses stay bytes: tens of thousands of flows pass here each second, and
 * text is made only for people.
 */
import { type Family, ipFromBytes } from "../base/addresses.ts";
import { AF, IPPROTO } from "./constants.ts";
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

/** A TCP or UDP flow. What the kernel did not say is 0. */
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

const none = new Uint8Array();
const u16At = (bytes: Uint8Array, at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
const u32At = (bytes: Uint8Array, at: number): number =>
  ((u16At(bytes, at) << 16) | u16At(bytes, at + 2)) >>> 0;
/** Header fields of attributes are in host order. */
const lengthAt = (bytes: Uint8Array, at: number): number => (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
const typeAt = (bytes: Uint8Array, at: number): number => lengthAt(bytes, at + 2) & 0x3fff;

/**
 * The end of the attribute at `at` within `end`, or -1 where it does not fit. Loops over attributes are
 * written out here instead of with callbacks: this is the hot path.
 */
function attributeEnd(bytes: Uint8Array, at: number, end: number): number {
  const length = lengthAt(bytes, at);
  return length < 4 || at + length > end ? -1 : at + length;
}
const next = (at: number, end: number): number => at + ((end - at + 3) & ~3);

interface Read {
  source: Uint8Array;
  destination: Uint8Array;
  sourcePort: number;
  destinationPort: number;
  protocol: number;
}

function readTuple(bytes: Uint8Array, start: number, stop: number): Read {
  const tuple: Read = { source: none, destination: none, sourcePort: 0, destinationPort: 0, protocol: 0 };
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
        if (kind === TUPLE_IP.V4_SRC || kind === TUPLE_IP.V6_SRC) tuple.source = bytes.slice(value, innerEnd);
        else if (kind === TUPLE_IP.V4_DST || kind === TUPLE_IP.V6_DST)
          tuple.destination = bytes.slice(value, innerEnd);
      } else if (innerEnd > value) {
        if (kind === TUPLE_PROTO.NUM) tuple.protocol = bytes[value] ?? 0;
        else if (innerEnd < value + 2) continue;
        else if (kind === TUPLE_PROTO.SRC_PORT) tuple.sourcePort = u16At(bytes, value);
        else if (kind === TUPLE_PROTO.DST_PORT) tuple.destinationPort = u16At(bytes, value);
      }
    }
  }
  return tuple;
}

function readTcp(
  bytes: Uint8Array,
  start: number,
  stop: number,
): { readonly state: number; readonly scales: readonly [number, number] | undefined } {
  let state = 0;
  let original: number | undefined;
  let reply: number | undefined;
  for (let at = start, end = 0; stop - at >= 4; at = next(at, end)) {
    end = attributeEnd(bytes, at, stop);
    if (end < 0) break;
    if (typeAt(bytes, at) !== 1) continue; // CTA_PROTOINFO_TCP
    for (let inner = at + 4, innerEnd = 0; end - inner >= 4; inner = next(inner, innerEnd)) {
      innerEnd = attributeEnd(bytes, inner, end);
      if (innerEnd < inner + 5) break;
      const value = bytes[inner + 4] ?? 0;
      const kind = typeAt(bytes, inner);
      if (kind === TCP.STATE) state = value;
      else if (kind === TCP.WSCALE_ORIGINAL) original = value;
      else if (kind === TCP.WSCALE_REPLY) reply = value;
    }
  }
  return { state, scales: original === undefined || reply === undefined ? undefined : [original, reply] };
}

/** Packets and bytes of CTA_COUNTERS; beyond 2^53 they lose their last bits. */
function readCounters(bytes: Uint8Array, start: number, stop: number): readonly [number, number] {
  const found: [number, number] = [0, 0];
  for (let at = start, end = 0; stop - at >= 4; at = next(at, end)) {
    end = attributeEnd(bytes, at, stop);
    if (end < 0) break;
    const kind = typeAt(bytes, at);
    if ((kind === 1 || kind === 2) && end - at >= 12)
      found[kind - 1] = u32At(bytes, at + 4) * 2 ** 32 + u32At(bytes, at + 8);
  }
  return found;
}

/** A flow from the payload of a dump, a reply or an event; undefined for other protocols and zones than ours. */
export function decodeFlow(payload: Uint8Array): Flow | undefined {
  const family = payload[0] === AF.INET ? 4 : payload[0] === AF.INET6 ? 6 : undefined;
  if (payload.length < 4 || family === undefined) return undefined;
  let original: Read | undefined;
  let reply: Read | undefined;
  let tcp: ReturnType<typeof readTcp> | undefined;
  const flow = { status: 0, mark: 0, timeout: 0, id: 0, packets: 0, bytes: 0 };
  for (let at = 4, end = 0; payload.length - at >= 4; at = next(at, end)) {
    end = attributeEnd(payload, at, payload.length);
    if (end < 0) break;
    const value = at + 4;
    const whole = end - value >= 4;
    switch (typeAt(payload, at)) {
      case CTA.TUPLE_ORIG:
        original = readTuple(payload, value, end);
        break;
      case CTA.TUPLE_REPLY:
        reply = readTuple(payload, value, end);
        break;
      case CTA.STATUS:
        if (whole) flow.status = u32At(payload, value);
        break;
      case CTA.MARK:
        if (whole) flow.mark = u32At(payload, value);
        break;
      case CTA.TIMEOUT:
        if (whole) flow.timeout = u32At(payload, value);
        break;
      case CTA.ID:
        if (whole) flow.id = u32At(payload, value);
        break;
      case CTA.PROTOINFO:
        tcp = readTcp(payload, value, end);
        break;
      case CTA.COUNTERS_ORIG:
      case CTA.COUNTERS_REPLY: {
        const [packets, bytes] = readCounters(payload, value, end);
        flow.packets += packets;
        flow.bytes += bytes;
        break;
      }
      case CTA.ZONE:
        return undefined;
      default:
        break;
    }
  }
  const width = family === 4 ? 4 : 16;
  const sound = (tuple: Read | undefined): tuple is Read =>
    tuple !== undefined &&
    tuple.source.length === width &&
    tuple.destination.length === width &&
    (tuple.protocol === IPPROTO.TCP || tuple.protocol === IPPROTO.UDP);
  if (!sound(original) || !sound(reply)) return undefined;
  const { protocol, ...originalTuple } = original;
  const { protocol: _, ...replyTuple } = reply;
  return {
    family,
    protocol,
    original: originalTuple,
    reply: replyTuple,
    ...flow,
    tcpState: tcp?.state ?? 0,
    windowScales: tcp?.scales,
  };
}

const header = (writer: NetlinkWriter, family: Family | 0): NetlinkWriter =>
  writer
    .u8(family === 4 ? AF.INET : family === 6 ? AF.INET6 : 0)
    .u8(0)
    .u16(0);

function writeTuple(writer: NetlinkWriter, type: number, tuple: FlowTuple, protocol: number): void {
  const four = tuple.source.length === 4;
  const nest = writer.nest(type);
  const address = writer.nest(TUPLE.IP);
  writer.attr(four ? TUPLE_IP.V4_SRC : TUPLE_IP.V6_SRC, tuple.source);
  writer.attr(four ? TUPLE_IP.V4_DST : TUPLE_IP.V6_DST, tuple.destination).endNest(address);
  const proto = writer.nest(TUPLE.PROTO);
  writer.attrU8(TUPLE_PROTO.NUM, protocol);
  writer.attrU16Be(TUPLE_PROTO.SRC_PORT, tuple.sourcePort);
  writer.attrU16Be(TUPLE_PROTO.DST_PORT, tuple.destinationPort).endNest(proto).endNest(nest);
}

function writeNat(writer: NetlinkWriter, type: number, address: Uint8Array, port: number): void {
  const four = address.length === 4;
  const nest = writer.nest(type);
  writer.attr(four ? NAT.V4_MIN : NAT.V6_MIN, address).attr(four ? NAT.V4_MAX : NAT.V6_MAX, address);
  const proto = writer.nest(NAT.PROTO);
  writer.attrU16Be(1, port).attrU16Be(2, port).endNest(proto).endNest(nest);
}

export function bytesSame(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
export const tuplesSame = (a: FlowTuple, b: FlowTuple): boolean =>
  a.sourcePort === b.sourcePort &&
  a.destinationPort === b.destinationPort &&
  bytesSame(a.source, b.source) &&
  bytesSame(a.destination, b.destination);

const inverted = (tuple: FlowTuple): FlowTuple => ({
  source: tuple.destination,
  destination: tuple.source,
  sourcePort: tuple.destinationPort,
  destinationPort: tuple.sourcePort,
});

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
  // struct nf_ct_tcp_flags: value, mask.
  const flagBytes = Uint8Array.of(flags, TCP_BE_LIBERAL | TCP_WINDOW_SCALE | TCP_CLOSE_INIT);
  writer.attr(TCP.FLAGS_ORIGINAL, flagBytes).attr(TCP.FLAGS_REPLY, flagBytes);
  if (flow.windowScales !== undefined) {
    writer.attrU8(TCP.WSCALE_ORIGINAL, flow.windowScales[0]);
    writer.attrU8(TCP.WSCALE_REPLY, flow.windowScales[1]);
  }
  writer.endNest(tcp).endNest(info);
}

/**
 * A new entry. The kernel applies address translation only while it creates one, and works it out from the
 * reply direction as it would be without: so that is what it gets, and the translations beside it.
 * `writer`, here and below: memory that many share; the answer is a view of it.
 */
export function encodeNewFlow(flow: FlowPlan, writer = new NetlinkWriter(320)): Uint8Array {
  const start = writer.length;
  header(writer, flow.family);
  const { original, reply, protocol } = flow;
  writeTuple(writer, CTA.TUPLE_ORIG, original, protocol);
  writeTuple(writer, CTA.TUPLE_REPLY, inverted(original), protocol);
  if (!bytesSame(reply.source, original.destination) || reply.sourcePort !== original.destinationPort)
    writeNat(writer, CTA.NAT_DST, reply.source, reply.sourcePort);
  if (!bytesSame(reply.destination, original.source) || reply.destinationPort !== original.sourcePort)
    writeNat(writer, CTA.NAT_SRC, reply.destination, reply.destinationPort);
  writeState(writer, flow);
  return writer.since(start);
}

/** New state and lifetime for an entry that is there. Its translation stays as it is. */
export function encodeFlowUpdate(flow: FlowPlan, writer = new NetlinkWriter(200)): Uint8Array {
  const start = writer.length;
  header(writer, flow.family);
  writeTuple(writer, CTA.TUPLE_ORIG, flow.original, flow.protocol);
  writeState(writer, flow);
  return writer.since(start);
}

/** A new lifetime only: what the flow has become meanwhile stays. */
export function encodeFlowTimeout(
  flow: Pick<Flow, "family" | "protocol" | "original" | "timeout">,
  writer = new NetlinkWriter(120),
): Uint8Array {
  const start = writer.length;
  header(writer, flow.family);
  writeTuple(writer, CTA.TUPLE_ORIG, flow.original, flow.protocol);
  return writer.attrU32Be(CTA.TIMEOUT, flow.timeout).since(start);
}

/** Names an entry to be read or deleted; with its id, another that has the same addresses meanwhile is spared. */
export function encodeFlowKey(
  flow: Pick<Flow, "family" | "protocol" | "original"> & { readonly id?: number },
  writer = new NetlinkWriter(120),
): Uint8Array {
  const start = writer.length;
  header(writer, flow.family);
  writeTuple(writer, CTA.TUPLE_ORIG, flow.original, flow.protocol);
  if (flow.id !== undefined && flow.id !== 0) writer.attrU32Be(CTA.ID, flow.id);
  return writer.since(start);
}

export interface FlowFilter {
  readonly family?: Family;
  /** Flows whose mark has these bits under the mask. */
  readonly mark?: { readonly value: number; readonly mask: number };
}

/** A dump that the kernel filters. */
export function encodeFlowQuery(filter: FlowFilter): Uint8Array {
  const writer = header(new NetlinkWriter(24), filter.family ?? 0);
  if (filter.mark !== undefined)
    writer.attrU32Be(CTA.MARK, filter.mark.value).attrU32Be(CTA.MARK_MASK, filter.mark.mask);
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
