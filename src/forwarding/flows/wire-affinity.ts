/**
 * Clients and the backends that they stay with, as they travel: the body of a frame of its own. A service by name, a
 * family (1 byte: 4 or 6), a count (2), then for each the client, the backend (4 or 16 bytes), the backend's port (2)
 * and the milliseconds that are left (4). 14 bytes for a client over IPv4, beside the service's name once.
 */
import { type ByteReader, ByteWriter } from "../../base/bytes.ts";
import { ipBytes, ipFamily, ipFromBytes } from "../../base/addresses.ts";
import { type Result, fail, ok } from "../../base/result.ts";
import { fromUtf8, utf8 } from "../../base/utf8.ts";
import type { AffinityEntry } from "../../contracts/affinity.ts";

export type AffinityRefusal = "affinity_short" | "affinity_family" | "affinity_too_long";
export const MAX_CLIENTS = 4096;

/** All entries are of one service and family; at most MAX_CLIENTS. */
export function writeClients(writer: ByteWriter, entries: readonly AffinityEntry[]): void {
  const name = utf8(entries[0]?.service ?? "");
  writer.u16(name.length).bytes(name);
  writer.u8(ipFamily(entries[0]?.source ?? ipFromBytes(new Uint8Array(4)))).u16(entries.length);
  for (const { source, backend, port, expires } of entries)
    writer
      .bytes(ipBytes(source))
      .bytes(ipBytes(backend))
      .u16(port)
      .u32(Math.min(0xffffffff, Math.round(expires)));
}

export function readClients(reader: ByteReader): Result<readonly AffinityEntry[], AffinityRefusal> {
  const length = reader.u16();
  const name = length === undefined ? undefined : reader.bytes(length);
  const service = name === undefined ? undefined : fromUtf8(name);
  const family = reader.u8();
  const count = reader.u16();
  if (service === undefined || family === undefined || count === undefined) return fail("affinity_short");
  if (family !== 4 && family !== 6) return fail("affinity_family");
  if (count > MAX_CLIENTS) return fail("affinity_too_long");
  const width = family === 4 ? 4 : 16;
  const entries: AffinityEntry[] = [];
  for (let i = 0; i < count; i++) {
    const source = reader.bytes(width);
    const backend = reader.bytes(width);
    const port = reader.u16();
    const expires = reader.u32();
    if (!source || !backend || port === undefined || expires === undefined) return fail("affinity_short");
    entries.push({ service, source: ipFromBytes(source), backend: ipFromBytes(backend), port, expires });
  }
  return ok(entries);
}
