/**
 * The replication channel between two nodes, inside TLS: frames of a 4-byte length, a type and a body, all
 * big endian. Services go by name: a dictionary is sent first, since numbers differ between nodes. A backend
 * is the address and port that the flow is translated to.
 *
 * Entry: flags (1 byte), service (2), original addresses (4+4 or 16+16) and ports (2+2); then, unless the flow
 * ended: the reply's source address and port, where it is masqueraded also the reply's destination address and
 * port, TCP state (1), window scales (1: two nibbles), timeout in seconds (4). 27 bytes for a TCP flow over IPv4.
 */
import { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { type Result, fail, ok } from "../../base/result.ts";
import { fromUtf8, utf8 } from "../../base/utf8.ts";
import type { AffinityEntry } from "../../contracts/affinity.ts";
import { type FlowPlan, bytesSame } from "../../linux/wire-conntrack.ts";
import { type AffinityRefusal, readClients, writeClients } from "./wire-affinity.ts";

export const PROTOCOL_VERSION = 1;
/** A frame is never longer: what claims to be is not from us. */
export const MAX_FRAME = 1 << 20;
const MAX_ENTRIES = 4096;
const MAX_SERVICES = 4096;

/** A flow as it travels: its service by name, everything else as the kernel needs it. `mark` is the receiver's. */
export type FlowRecord = Omit<FlowPlan, "mark"> & { readonly service: string };

export type Entry =
  | { readonly ended: false; readonly flow: FlowRecord }
  | { readonly ended: true; readonly flow: Pick<FlowRecord, "family" | "protocol" | "original" | "service"> };

export interface Hello {
  readonly type: "hello";
  readonly version: number;
  readonly site: string;
  readonly node: string;
  /** Chosen anew by every process: a peer that was reborn knows nothing any more. */
  readonly instance: string;
  /** What the sender still has from the receiver: of which instance, and up to which batch. */
  readonly knows: { readonly instance: string; readonly applied: number };
}
export type Frame =
  | Hello
  | { readonly type: "services"; readonly names: readonly string[] }
  | {
      readonly type: "batch";
      readonly seq: number;
      /** The first of a snapshot: whatever is not sent again until `last` is gone. */
      readonly first: boolean;
      readonly last: boolean;
      readonly entries: readonly Entry[];
    }
  /** All batches up to this one are in the kernel. */
  | { readonly type: "ack"; readonly seq: number }
  /** Clients of one service and family, beside the batches and without acknowledgement. */
  | { readonly type: "affinity"; readonly entries: readonly AffinityEntry[] }
  | { readonly type: "alive" };

export type FrameRefusal =
  | "frame_too_long"
  | "frame_short"
  | "frame_type"
  | "frame_rest"
  | "entry_flags"
  | "entry_service"
  | "batch_too_long"
  | AffinityRefusal;

const TYPE = { hello: 1, services: 2, batch: 3, ack: 4, alive: 5, affinity: 6 } as const;
const FLAG = { ended: 1, six: 2, udp: 4, masqueraded: 8, scaled: 16 } as const;
const ALL_FLAGS = 31;

function text(writer: ByteWriter, value: string): void {
  const bytes = utf8(value);
  writer.u16(bytes.length).bytes(bytes);
}

function framed(type: number, body: (writer: ByteWriter) => void, capacity = 64): Uint8Array {
  const writer = new ByteWriter(capacity).u32(0).u8(type);
  body(writer);
  const length = writer.length - 4;
  return writer
    .patchU16(0, length >>> 16)
    .patchU16(2, length & 0xffff)
    .finish();
}

function writeEntry(writer: ByteWriter, entry: Entry, service: number): void {
  const { family, protocol, original } = entry.flow;
  const tuple = (): void => {
    writer.bytes(original.source).bytes(original.destination);
    writer.u16(original.sourcePort).u16(original.destinationPort);
  };
  const base = (family === 6 ? FLAG.six : 0) | (protocol === 17 ? FLAG.udp : 0);
  if (entry.ended) {
    writer.u8(base | FLAG.ended).u16(service);
    tuple();
    return;
  }
  const { reply, windowScales, tcpState, timeout } = entry.flow;
  const masqueraded =
    !bytesSame(reply.destination, original.source) || reply.destinationPort !== original.sourcePort;
  writer
    .u8(base | (masqueraded ? FLAG.masqueraded : 0) | (windowScales === undefined ? 0 : FLAG.scaled))
    .u16(service);
  tuple();
  writer.bytes(reply.source).u16(reply.sourcePort);
  if (masqueraded) writer.bytes(reply.destination).u16(reply.destinationPort);
  writer
    .u8(tcpState)
    .u8(((windowScales?.[0] ?? 0) << 4) | ((windowScales?.[1] ?? 0) & 15))
    .u32(timeout);
}

/** `dictionary` gives a service's number on this connection; it holds all services of the entries. */
export function encodeFrame(frame: Frame, dictionary: ReadonlyMap<string, number>): Uint8Array {
  switch (frame.type) {
    case "hello":
      return framed(TYPE.hello, (writer) => {
        writer.u16(frame.version);
        for (const field of [frame.site, frame.node, frame.instance, frame.knows.instance])
          text(writer, field);
        writer.u32(frame.knows.applied);
      });
    case "services":
      return framed(TYPE.services, (writer) => {
        writer.u16(frame.names.length);
        for (const name of frame.names) text(writer, name);
      });
    case "batch":
      return framed(
        TYPE.batch,
        (writer) => {
          writer.u32(frame.seq).u8((frame.first ? 1 : 0) | (frame.last ? 2 : 0));
          writer.u16(frame.entries.length);
          for (const entry of frame.entries)
            writeEntry(writer, entry, dictionary.get(entry.flow.service) ?? 0);
        },
        32 + 40 * frame.entries.length,
      );
    case "ack":
      return framed(TYPE.ack, (writer) => writer.u32(frame.seq));
    case "affinity":
      return framed(
        TYPE.affinity,
        (writer) => writeClients(writer, frame.entries),
        32 + 14 * frame.entries.length,
      );
    case "alive":
      return framed(TYPE.alive, () => undefined, 8);
  }
}

function readText(reader: ByteReader): string | undefined {
  const length = reader.u16();
  const bytes = length === undefined ? undefined : reader.bytes(length);
  return bytes === undefined ? undefined : fromUtf8(bytes);
}

function readEntry(reader: ByteReader, services: readonly string[]): Result<Entry, FrameRefusal> {
  const flags = reader.u8();
  const number = reader.u16();
  if (flags === undefined || number === undefined) return fail("frame_short");
  if ((flags & ~ALL_FLAGS) !== 0) return fail("entry_flags");
  const service = services[number];
  if (service === undefined) return fail("entry_service");
  const family = (flags & FLAG.six) === 0 ? 4 : 6;
  const width = family === 4 ? 4 : 16;
  const protocol = (flags & FLAG.udp) === 0 ? 6 : 17;
  const source = reader.bytes(width)?.slice();
  const destination = reader.bytes(width)?.slice();
  const sourcePort = reader.u16();
  const destinationPort = reader.u16();
  if (!source || !destination || sourcePort === undefined || destinationPort === undefined)
    return fail("frame_short");
  const original = { source, destination, sourcePort, destinationPort };
  if ((flags & FLAG.ended) !== 0) return ok({ ended: true, flow: { family, protocol, original, service } });
  const backend = reader.bytes(width)?.slice();
  const backendPort = reader.u16();
  const masqueraded = (flags & FLAG.masqueraded) !== 0;
  const towards = masqueraded ? reader.bytes(width)?.slice() : source;
  const towardsPort = masqueraded ? reader.u16() : sourcePort;
  const tcpState = reader.u8();
  const scales = reader.u8();
  const timeout = reader.u32();
  if (!backend || backendPort === undefined || !towards || towardsPort === undefined)
    return fail("frame_short");
  if (tcpState === undefined || scales === undefined || timeout === undefined) return fail("frame_short");
  const reply = {
    source: backend,
    destination: towards,
    sourcePort: backendPort,
    destinationPort: towardsPort,
  };
  const windowScales = (flags & FLAG.scaled) === 0 ? undefined : ([scales >> 4, scales & 15] as const);
  return ok({
    ended: false,
    flow: { family, protocol, original, reply, tcpState, windowScales, timeout, service },
  });
}

function readBatch(reader: ByteReader, services: readonly string[]): Result<Frame, FrameRefusal> {
  const seq = reader.u32();
  const flags = reader.u8();
  const count = reader.u16();
  if (seq === undefined || flags === undefined || count === undefined) return fail("frame_short");
  if (count > MAX_ENTRIES) return fail("batch_too_long");
  const entries: Entry[] = [];
  for (let i = 0; i < count; i++) {
    const entry = readEntry(reader, services);
    if (!entry.ok) return entry;
    entries.push(entry.value);
  }
  return ok({ type: "batch", seq, first: (flags & 1) !== 0, last: (flags & 2) !== 0, entries });
}

/** A frame without its length. */
export function decodeFrame(bytes: Uint8Array, services: readonly string[]): Result<Frame, FrameRefusal> {
  const reader = new ByteReader(bytes);
  const frame = readFrame(reader, services);
  if (frame.ok && reader.remaining > 0) return fail("frame_rest");
  return frame;
}

function readFrame(reader: ByteReader, services: readonly string[]): Result<Frame, FrameRefusal> {
  switch (reader.u8()) {
    case TYPE.hello: {
      const version = reader.u16();
      const [site, node, instance, known] = [0, 1, 2, 3].map(() => readText(reader));
      const applied = reader.u32();
      if (version === undefined || applied === undefined) return fail("frame_short");
      if (site === undefined || node === undefined || instance === undefined || known === undefined)
        return fail("frame_short");
      return ok({ type: "hello", version, site, node, instance, knows: { instance: known, applied } });
    }
    case TYPE.services: {
      const count = reader.u16();
      if (count === undefined || count > MAX_SERVICES) return fail("frame_short");
      const names: string[] = [];
      for (let i = 0; i < count; i++) {
        const name = readText(reader);
        if (name === undefined) return fail("frame_short");
        names.push(name);
      }
      return ok({ type: "services", names });
    }
    case TYPE.batch:
      return readBatch(reader, services);
    case TYPE.ack: {
      const seq = reader.u32();
      return seq === undefined ? fail("frame_short") : ok({ type: "ack", seq });
    }
    case TYPE.affinity: {
      const entries = readClients(reader);
      return entries.ok ? ok({ type: "affinity", entries: entries.value }) : entries;
    }
    case TYPE.alive:
      return ok({ type: "alive" });
    default:
      return fail("frame_type");
  }
}

/** Cuts a stream into frames, however it was chunked. Holds at most one frame and one chunk. */
export class FrameReader {
  #held: Uint8Array = new Uint8Array();
  /** The frames that are whole now (views: use them before the next call). */
  receive(chunk: Uint8Array): Result<Uint8Array[], FrameRefusal> {
    let bytes = chunk;
    if (this.#held.length > 0) {
      bytes = new Uint8Array(this.#held.length + chunk.length);
      bytes.set(this.#held);
      bytes.set(chunk, this.#held.length);
    }
    const frames: Uint8Array[] = [];
    let at = 0;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    while (bytes.length - at >= 4) {
      const length = view.getUint32(at);
      if (length > MAX_FRAME) return fail("frame_too_long");
      if (bytes.length - at - 4 < length) break;
      frames.push(bytes.subarray(at + 4, at + 4 + length));
      at += 4 + length;
    }
    this.#held = bytes.slice(at);
    return ok(frames);
  }
}
