/**
 * The replication channel between two nodes, inside TLS: frames of a 4-byte length, a type and a body, all
 * big endian. Services go by name: a dictionary is sent first, since numbers differ between nodes. A backend
 * is the address and port that the flow is translated to.
 */
import { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { type Result, fail, ok } from "../../base/result.ts";
import { fromUtf8, utf8 } from "../../base/utf8.ts";
import type { AffinityEntry } from "../../contracts/affinity.ts";
import { type AffinityRefusal, readClients, writeClients } from "./wire-affinity.ts";
import type { RouterTerm } from "./machine-terms.ts";
import { type BatchFrame, type BatchRefusal, decodeBatch, encodeBatch, u32At } from "./wire-batch.ts";

export type { Entry, FlowRecord } from "./wire-batch.ts";

export const PROTOCOL_VERSION = 2;
/** A frame is never longer: what claims to be is not from us. */
export const MAX_FRAME = 1 << 20;
const MAX_SERVICES = 4096;
const MAX_ROUTERS = 4096;

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
  | BatchFrame
  /** All batches up to this one are in the kernel. */
  | { readonly type: "ack"; readonly seq: number }
  /** Whose word is later, of each virtual router; what follows on this connection counts as of these. */
  | { readonly type: "terms"; readonly terms: readonly RouterTerm[] }
  /** Clients of one service and family, beside the batches and without acknowledgement. */
  | { readonly type: "affinity"; readonly entries: readonly AffinityEntry[] }
  | { readonly type: "alive" };

export type FrameRefusal =
  BatchRefusal | AffinityRefusal | "frame_too_long" | "frame_type" | "version_unknown";

/** Batches, of type 3, are in wire-batch.ts. */
const TYPE = { hello: 1, services: 2, batch: 3, ack: 4, alive: 5, affinity: 6, terms: 7 } as const;

/** Of a batch: 48 bits. */
const number = (writer: ByteWriter, seq: number): ByteWriter =>
  writer.u16(Math.floor(seq / 2 ** 32)).u32(seq >>> 0);
function readNumber(reader: ByteReader): number | undefined {
  const [high, low] = [reader.u16(), reader.u32()];
  return high === undefined || low === undefined ? undefined : high * 2 ** 32 + low;
}
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

/** `dictionary` gives a service's number on this connection; it holds all services of the entries. */
export function encodeFrame(frame: Frame, dictionary: ReadonlyMap<string, number>): Uint8Array {
  switch (frame.type) {
    case "hello":
      return framed(TYPE.hello, (writer) => {
        writer.u16(frame.version);
        for (const field of [frame.site, frame.node, frame.instance, frame.knows.instance])
          text(writer, field);
        number(writer, frame.knows.applied);
      });
    case "services":
      return framed(TYPE.services, (writer) => {
        writer.u16(frame.names.length);
        for (const name of frame.names) text(writer, name);
      });
    case "batch":
      return encodeBatch(frame, dictionary);
    case "terms":
      return framed(TYPE.terms, (writer) => {
        writer.u16(frame.terms.length);
        for (const { router, term, seen, active } of frame.terms) {
          text(writer, router);
          writer.u32(term).u32(seen);
          writer.u8(active ? 1 : 0);
        }
      });
    case "ack":
      return framed(TYPE.ack, (writer) => number(writer, frame.seq));
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

/** A frame without its length. */
export function decodeFrame(bytes: Uint8Array, services: readonly string[]): Result<Frame, FrameRefusal> {
  if (bytes[0] === TYPE.batch) return decodeBatch(bytes, services);
  const reader = new ByteReader(bytes);
  const frame = readFrame(reader);
  if (frame.ok && reader.remaining > 0) return fail("frame_rest");
  return frame;
}

function readFrame(reader: ByteReader): Result<Frame, FrameRefusal> {
  switch (reader.u8()) {
    case TYPE.hello: {
      const version = reader.u16();
      if (version === undefined) return fail("frame_short");
      // Said by name, whatever else another version says of itself.
      if (version !== PROTOCOL_VERSION) return fail("version_unknown");
      const [site, node, instance, known] = [0, 1, 2, 3].map(() => readText(reader));
      const applied = readNumber(reader);
      if (applied === undefined) return fail("frame_short");
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
    case TYPE.terms: {
      const count = reader.u16();
      if (count === undefined || count > MAX_ROUTERS) return fail("frame_short");
      const terms: RouterTerm[] = [];
      for (let i = 0; i < count; i++) {
        const router = readText(reader);
        const [term, seen, active] = [reader.u32(), reader.u32(), reader.u8()];
        if (router === undefined || term === undefined || seen === undefined || active === undefined)
          return fail("frame_short");
        terms.push({ router, term, seen, active: active !== 0 });
      }
      return ok({ type: "terms", terms });
    }
    case TYPE.ack: {
      const seq = readNumber(reader);
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

/** Cuts a stream into frames, however it was chunked. Holds at most one frame that is not whole, and its chunk. */
export class FrameReader {
  #room: Uint8Array = new Uint8Array();
  /** What is held lies from here ... */
  #start = 0;
  /** ... to here. */
  #end = 0;

  /** The frames that are whole now (views: use them before the next call). */
  receive(chunk: Uint8Array): Result<Uint8Array[], FrameRefusal> {
    let bytes = chunk;
    const held = this.#end > this.#start;
    if (held) {
      this.#hold(chunk);
      bytes = this.#room.subarray(this.#start, this.#end);
    }
    const frames: Uint8Array[] = [];
    let at = 0;
    while (bytes.length - at >= 4) {
      const length = u32At(bytes, at);
      if (length > MAX_FRAME) return fail("frame_too_long");
      if (bytes.length - at - 4 < length) break;
      frames.push(bytes.subarray(at + 4, at + 4 + length));
      at += 4 + length;
    }
    if (held) this.#start += at;
    else if (at < chunk.length) {
      this.#start = this.#end = 0;
      this.#hold(chunk.subarray(at));
    }
    return ok(frames);
  }

  /** Puts it behind what is held. Frames of earlier calls may be overwritten by it. */
  #hold(more: Uint8Array): void {
    const length = this.#end - this.#start;
    if (length + more.length > this.#room.length) {
      const grown = new Uint8Array(2 * (length + more.length));
      grown.set(this.#room.subarray(this.#start, this.#end));
      this.#room = grown;
    } else if (this.#start > 0) this.#room.copyWithin(0, this.#start, this.#end);
    this.#start = 0;
    this.#end = length;
    this.#room.set(more, length);
    this.#end += more.length;
  }
}
