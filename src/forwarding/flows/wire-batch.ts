/**
 * Batches of the replication channel (wire.ts): what passes for every flow, so that nothing is made here but what stays.
 *
 * After the type: number (6 bytes: at a thousand a second they last for ever), flags (1), count of entries (2). Entry: flags (1 byte), service (2), original
 * addresses (4+4 or 16+16) and ports (2+2); then, unless the flow ended: the reply's source address and port, where it
 * is masqueraded also the reply's destination address and port, TCP state (1), window scales (1: two nibbles), timeout
 * in seconds (4). 27 bytes for a TCP flow over IPv4.
 */
import { type Result, fail, ok } from "../../base/result.ts";
import { type FlowPlan, bytesSame } from "../../linux/wire-conntrack.ts";
import { addressAt, windowScales } from "../../linux/wire-shared.ts";

/** A flow as it travels: its service by name, everything else as the kernel needs it. `mark` is the receiver's. */
export type FlowRecord = Omit<FlowPlan, "mark"> & { readonly service: string };

export type Entry =
  | { readonly ended: false; readonly flow: FlowRecord }
  | { readonly ended: true; readonly flow: Pick<FlowRecord, "family" | "protocol" | "original" | "service"> };

export interface BatchFrame {
  readonly type: "batch";
  readonly seq: number;
  /** The first of a snapshot: whatever is not sent again until `last` is gone. */
  readonly first: boolean;
  readonly last: boolean;
  readonly entries: readonly Entry[];
}
export type BatchRefusal = "frame_short" | "frame_rest" | "entry_flags" | "entry_service" | "batch_too_long";

const BATCH = 3;
/** The length of the frame, its type, and what comes before the entries. */
const HEAD = 4 + 1 + 9;
const MAX_ENTRIES = 4096;
const FLAG = { ended: 1, six: 2, udp: 4, masqueraded: 8, scaled: 16 } as const;
const ALL_FLAGS = 31;
/** An entry's size at most, by its family. */
const LONGEST_4 = 3 + 8 + 4 + 6 + 6 + 6;
const LONGEST_6 = 3 + 32 + 4 + 18 + 18 + 6;

const u16At = (bytes: Uint8Array, at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
export const u32At = (bytes: Uint8Array, at: number): number =>
  ((u16At(bytes, at) << 16) | u16At(bytes, at + 2)) >>> 0;
const TWO_32 = 2 ** 32;

// Each writes at a place and answers the next one.
function putU16(bytes: Uint8Array, at: number, value: number): number {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
  return at + 2;
}
const putU32 = (bytes: Uint8Array, at: number, value: number): number =>
  putU16(bytes, putU16(bytes, at, value >>> 16), value & 0xffff);
function putAddress(bytes: Uint8Array, at: number, address: Uint8Array): number {
  const { length } = address;
  for (let i = 0; i < length; i++) bytes[at + i] = address[i] ?? 0;
  return at + length;
}

function putEntry(bytes: Uint8Array, start: number, entry: Entry, service: number): number {
  const { family, protocol, original } = entry.flow;
  let flags = (family === 6 ? FLAG.six : 0) | (protocol === 17 ? FLAG.udp : 0);
  let at = putU16(bytes, start + 1, service);
  at = putAddress(bytes, at, original.source);
  at = putAddress(bytes, at, original.destination);
  at = putU16(bytes, at, original.sourcePort);
  at = putU16(bytes, at, original.destinationPort);
  if (entry.ended) {
    bytes[start] = flags | FLAG.ended;
    return at;
  }
  const { reply, windowScales: scales, tcpState, timeout } = entry.flow;
  at = putAddress(bytes, at, reply.source);
  at = putU16(bytes, at, reply.sourcePort);
  if (reply.destinationPort !== original.sourcePort || !bytesSame(reply.destination, original.source)) {
    flags |= FLAG.masqueraded;
    at = putAddress(bytes, at, reply.destination);
    at = putU16(bytes, at, reply.destinationPort);
  }
  if (scales !== undefined) flags |= FLAG.scaled;
  bytes[start] = flags;
  bytes[at++] = tcpState;
  bytes[at++] = scales === undefined ? 0 : (scales[0] << 4) | (scales[1] & 15);
  return putU32(bytes, at, timeout);
}

/** `dictionary` gives a service's number on this connection; it holds all services of the entries. */
export function encodeBatch(
  { seq, first, last, entries }: BatchFrame,
  dictionary: ReadonlyMap<string, number>,
): Uint8Array {
  let size = HEAD;
  for (const { flow } of entries) size += flow.family === 4 ? LONGEST_4 : LONGEST_6;
  const bytes = new Uint8Array(size);
  let at = putU32(bytes, putU16(bytes, 5, Math.floor(seq / TWO_32)), seq >>> 0);
  bytes[4] = BATCH;
  bytes[at++] = (first ? 1 : 0) | (last ? 2 : 0);
  at = putU16(bytes, at, entries.length);
  let name = "";
  let number = -1;
  for (const entry of entries) {
    if (number < 0 || entry.flow.service !== name) {
      name = entry.flow.service;
      number = dictionary.get(name) ?? 0;
    }
    at = putEntry(bytes, at, entry, number);
  }
  putU32(bytes, 0, at - 4);
  return bytes.subarray(0, at);
}

/** Where `readEntry` got to, or what it refused. */
const read: { at: number; refusal: BatchRefusal } = { at: 0, refusal: "frame_short" };
function refuse(refusal: BatchRefusal): undefined {
  read.refusal = refusal;
  return undefined;
}

function readEntry(bytes: Uint8Array, services: readonly string[]): Entry | undefined {
  let at = read.at + 3;
  if (at > bytes.length) return refuse("frame_short");
  const flags = bytes[read.at] ?? 0;
  if ((flags & ~ALL_FLAGS) !== 0) return refuse("entry_flags");
  const service = services[u16At(bytes, read.at + 1)];
  if (service === undefined) return refuse("entry_service");
  const family = (flags & FLAG.six) === 0 ? 4 : 6;
  const width = family === 4 ? 4 : 16;
  const protocol = (flags & FLAG.udp) === 0 ? 6 : 17;
  const ended = (flags & FLAG.ended) !== 0;
  const masqueraded = (flags & FLAG.masqueraded) !== 0;
  const rest = ended ? 0 : (masqueraded ? 2 : 1) * (width + 2) + 6;
  if (at + 2 * width + 4 + rest > bytes.length) return refuse("frame_short");
  const source = addressAt(bytes, at, width);
  const destination = addressAt(bytes, at + width, width);
  at += 2 * width;
  const sourcePort = u16At(bytes, at);
  const original = { source, destination, sourcePort, destinationPort: u16At(bytes, at + 2) };
  at += 4;
  if (ended) {
    read.at = at;
    return { ended: true, flow: { family, protocol, original, service } };
  }
  const backend = addressAt(bytes, at, width);
  const backendPort = u16At(bytes, at + width);
  at += width + 2;
  const reply = {
    source: backend,
    destination: masqueraded ? addressAt(bytes, at, width) : source,
    sourcePort: backendPort,
    destinationPort: masqueraded ? u16At(bytes, at + width) : sourcePort,
  };
  if (masqueraded) at += width + 2;
  const tcpState = bytes[at] ?? 0;
  const scales = bytes[at + 1] ?? 0;
  const timeout = u32At(bytes, at + 2);
  read.at = at + 6;
  const scaled = (flags & FLAG.scaled) === 0 ? undefined : windowScales(scales >> 4, scales & 15);
  return {
    ended: false,
    flow: { service, family, protocol, original, reply, timeout, tcpState, windowScales: scaled },
  };
}

/** A batch's frame without its length. */
export function decodeBatch(
  bytes: Uint8Array,
  services: readonly string[],
): Result<BatchFrame, BatchRefusal> {
  if (bytes.length < HEAD - 4) return fail("frame_short");
  const count = u16At(bytes, 8);
  if (count > MAX_ENTRIES) return fail("batch_too_long");
  const entries: Entry[] = [];
  read.at = HEAD - 4;
  for (let i = 0; i < count; i++) {
    const entry = readEntry(bytes, services);
    if (entry === undefined) return fail(read.refusal);
    entries.push(entry);
  }
  if (read.at < bytes.length) return fail("frame_rest");
  const flags = bytes[7] ?? 0;
  const first = (flags & 1) !== 0;
  return ok({
    type: "batch",
    seq: u16At(bytes, 1) * TWO_32 + u32At(bytes, 3),
    first,
    last: (flags & 2) !== 0,
    entries,
  });
}
