/**
 * What nodes of a site say to each other about their virtual routers: a UDP datagram between node addresses.
 *
 *     0   "NINE"                      4 bytes
 *     4   version (1), type           1 + 1
 *     6   boot, sequence              8 + 4: later messages of a sender are greater
 *     18  site, node, digest          length byte + ASCII each
 *         body by type
 *         HMAC-SHA256                 32, where the nodes share a secret
 *
 * hello, as many as the sender's routers need: count(2), then per router: name hash(4), state(1), priority(1), eligible(1), life(4), claims(2).
 * offer, cancel: id(4), router. refuse: and reason. ask: and to. answer: and error.
 *
 * Why not a VRRP packet: priority 0 says "somebody take it" and costs the skew time; an offer names who
 * takes it, can be refused, and must reach nodes, not links. Why UDP: no connection to set up or to hang.
 */
import { ByteReader, ByteWriter } from "../../base/bytes.ts";
import { type Result, fail, ok } from "../../base/result.ts";
import type { RouterState } from "../../contracts/redundancy.ts";
import type { NodeMessage } from "../group/machine-state.ts";

export const HANDOVER_PORT = 5112;
/** Below the smallest MTU that IPv6 allows, headers included. */
export const HANDOVER_MAX_BYTES = 1200;
export const HMAC_BYTES = 32;

export interface HelloRouter {
  readonly key: number;
  readonly state: RouterState;
  readonly priority: number;
  readonly eligible: boolean;
  readonly life: number;
  readonly claims: number;
}
export interface Hello {
  readonly type: "hello";
  readonly routers: readonly HelloRouter[];
}
export type WireBody = Hello | NodeMessage;

export interface Datagram {
  /** When the sender started, in ms since 1970, and a count since. */
  readonly boot: number;
  readonly sequence: number;
  readonly site: string;
  readonly node: string;
  readonly digest: string;
  readonly body: WireBody;
}

/** A hello has room for so many routers. */
const HELLO_ROUTERS = 64;

/** What a node says of its routers: each is told of in one of the hellos, of which there is at least one. */
export function hellosOf(routers: readonly HelloRouter[]): Hello[] {
  const count = Math.max(1, Math.ceil(routers.length / HELLO_ROUTERS));
  return Array.from({ length: count }, (_, i) => ({
    type: "hello",
    routers: routers.slice(i * HELLO_ROUTERS, (i + 1) * HELLO_ROUTERS),
  }));
}

export const HANDOVER_DROP_REASONS = {
  truncated: "shorter than its fields say",
  magic: "not a message of this protocol",
  version: "another version of this protocol",
  type: "an unknown type of message",
  field: "a field out of its bounds",
} as const;
export type HandoverDropReason = keyof typeof HANDOVER_DROP_REASONS;

const MAGIC = 0x4e494e45;
const VERSION = 1;
const TYPES = ["hello", "offer", "refuse", "cancel", "ask", "answer"] as const;
const STATES: readonly RouterState[] = ["initialize", "backup", "active", "fault"];

/** FNV-1a: a router's name in four bytes. Two names of one site that collide are told apart by nobody. */
export function routerKey(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

function writeText(writer: ByteWriter, text: string): void {
  const cut = text.slice(0, 255);
  writer.u8(cut.length);
  for (let i = 0; i < cut.length; i++) {
    const code = cut.charCodeAt(i);
    writer.u8(code < 0x80 ? code : 0x3f);
  }
}
function readText(reader: ByteReader): string | undefined {
  const bytes = reader.bytes(reader.u8() ?? -1);
  return bytes && Array.from(bytes, (b) => String.fromCharCode(b & 0x7f)).join("");
}

export function encodeDatagram(datagram: Datagram): Uint8Array {
  const { body } = datagram;
  const writer = new ByteWriter(256).u32(MAGIC).u8(VERSION).u8(TYPES.indexOf(body.type));
  writer
    .u32(Math.floor(datagram.boot / 0x1_0000_0000))
    .u32(datagram.boot >>> 0)
    .u32(datagram.sequence >>> 0);
  for (const text of [datagram.site, datagram.node, datagram.digest]) writeText(writer, text);
  if (body.type === "hello") {
    writer.u16(body.routers.length);
    for (const { key, state, priority, eligible, life, claims } of body.routers)
      writer
        .u32(key)
        .u8(STATES.indexOf(state))
        .u8(priority)
        .u8(eligible ? 1 : 0)
        .u32(life)
        .u16(Math.min(claims, 0xffff));
    return writer.finish();
  }
  writer.u32(body.id);
  writeText(writer, body.router);
  if (body.type === "refuse") writeText(writer, body.reason);
  else if (body.type === "ask") writeText(writer, body.to);
  else if (body.type === "answer") writeText(writer, body.error);
  return writer.finish();
}

function readHello(reader: ByteReader): Result<WireBody, HandoverDropReason> {
  const count = reader.u16();
  if (count === undefined || reader.remaining < count * 13) return fail("truncated");
  const routers: HelloRouter[] = [];
  for (let i = 0; i < count; i++) {
    const key = reader.u32() ?? 0;
    const state = STATES[reader.u8() ?? STATES.length];
    const priority = reader.u8() ?? 0;
    const eligible = reader.u8() === 1;
    const life = reader.u32() ?? 0;
    const claims = reader.u16() ?? 0;
    if (state === undefined) return fail("field");
    routers.push({ key, state, priority, eligible, life, claims });
  }
  return ok({ type: "hello", routers });
}

function readBody(reader: ByteReader, type: number): Result<WireBody, HandoverDropReason> {
  if (type === 0) return readHello(reader);
  const id = reader.u32();
  const router = readText(reader);
  if (id === undefined || router === undefined) return fail("truncated");
  const kind = TYPES[type];
  if (kind === "offer" || kind === "cancel") return ok({ type: kind, id, router });
  const text = readText(reader);
  if (text === undefined) return fail("truncated");
  if (kind === "refuse") return ok({ type: kind, id, router, reason: text });
  if (kind === "ask") return ok({ type: kind, id, router, to: text });
  return ok({ type: "answer", id, router, error: text });
}

/** What follows the body, such as the HMAC, is ignored here: the service has checked it before. */
export function decodeDatagram(bytes: Uint8Array): Result<Datagram, HandoverDropReason> {
  const reader = new ByteReader(bytes);
  if (reader.u32() !== MAGIC) return fail(bytes.length < 4 ? "truncated" : "magic");
  if (reader.u8() !== VERSION) return fail("version");
  const type = reader.u8();
  const high = reader.u32();
  const low = reader.u32();
  const sequence = reader.u32();
  const site = readText(reader);
  const node = readText(reader);
  const digest = readText(reader);
  if (type === undefined || high === undefined || low === undefined || sequence === undefined)
    return fail("truncated");
  if (site === undefined || node === undefined || digest === undefined) return fail("truncated");
  if (TYPES[type] === undefined) return fail("type");
  if (high >= 0x20_0000) return fail("field");
  const body = readBody(reader, type);
  return body.ok
    ? ok({ boot: high * 0x1_0000_0000 + low, sequence, site, node, digest, body: body.value })
    : body;
}
