import { type Head, STRIDE } from "../http1/wire-head.ts";
import { Field } from "../http1/wire-names.ts";

const bit = (id: number): number => 1 << id;

/** Fields between two hops only (RFC 9110 7.6.1), and those that we write ourselves. */
export const HOP_BY_HOP =
  bit(Field.connection) |
  bit(Field.keepAlive) |
  bit(Field.proxyConnection) |
  bit(Field.transferEncoding) |
  bit(Field.te) |
  bit(Field.upgrade) |
  bit(Field.http2Settings);

export const REQUEST_DROP =
  HOP_BY_HOP | bit(Field.host) | bit(Field.expect) | bit(Field.contentLength) | bit(Field.proxyAuthorization);
export const RESPONSE_DROP = HOP_BY_HOP | bit(Field.contentLength);

export const bitOf = (id: number): number => (id < 31 ? 1 << id : 0);

/** Also with `_` for `-`: behind CGI and its like both are one variable. */
const named = (names: readonly string[], name: string): boolean =>
  names.includes(name) || (name.includes("_") && names.includes(name.replaceAll("_", "-")));

/**
 * The fields of a head as lines, without those in `drop` (bits), `others` (ids from 31 on) and `names`. Lines that
 * are in their canonical form already, `Name: value`, are taken in runs; the rest is written anew.
 */
export function keptLines(
  head: Head,
  drop: number,
  others: ReadonlySet<number> | undefined,
  names: readonly string[] | undefined,
): string {
  const { fields, text, options } = head;
  const end = head.count * STRIDE;
  let out = "";
  let runStart = -1;
  let runEnd = -1;
  for (let at = 0; at < end; at += STRIDE) {
    const id = fields[at + 4]!;
    const nameStart = fields[at]!;
    const dropped =
      id === 0 ? false : id < 31 ? (drop & (1 << id)) !== 0 : others !== undefined && others.has(id);
    if (dropped || (options.length > 0 && options.includes(head.nameAt(at).toLowerCase()))) continue;
    if (names !== undefined && named(names, head.nameAt(at).toLowerCase())) continue;
    const nameEnd = fields[at + 1]!;
    const valueEnd = fields[at + 3]!;
    const lineEnd = fields[at + 5]!;
    if (fields[at + 2] === nameEnd + 2 && lineEnd === valueEnd + 2 && text.charCodeAt(nameEnd + 1) === 0x20) {
      if (runEnd === nameStart) runEnd = lineEnd;
      else {
        if (runStart >= 0) out += text.slice(runStart, runEnd);
        runStart = nameStart;
        runEnd = lineEnd;
      }
      continue;
    }
    if (runStart >= 0) out += text.slice(runStart, runEnd);
    runStart = runEnd = -1;
    out += `${head.nameAt(at)}: ${head.valueAt(at)}\r\n`;
  }
  if (runStart >= 0) out += text.slice(runStart, runEnd);
  return out;
}

/** A chunk's first line. */
export const chunkLine = (length: number): string => `${length.toString(16)}\r\n`;
