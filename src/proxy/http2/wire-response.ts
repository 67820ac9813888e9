import type { ReaderLimits } from "../http1/machine.ts";
import { FORBIDDEN_TRAILERS, type Trailer } from "../http1/wire-trailers.ts";
import type { Fault } from "../http1/wire-faults.ts";
import { Framing, Head } from "../http1/wire-head.ts";
import { Field, type FieldNames } from "../http1/wire-names.ts";
import { decimal } from "../http1/wire-semantics.ts";
import { FieldCollector, OF_THE_CONNECTION, isName, isValue } from "./wire-fields.ts";

type ResponseReading =
  { readonly ok: true; readonly head: Head } | { readonly ok: false; readonly fault: Fault };

/** A backend's response head over HTTP/2, as the rest of the proxy reads it. */
export function readResponse(
  raw: readonly string[],
  ended: boolean,
  toHead: boolean,
  names: FieldNames,
  limits: ReaderLimits,
): ResponseReading {
  const status = raw[0] === ":status" ? decimal(raw[1] ?? "") : -1;
  if (status < 100 || status > 599 || status === 101) return { ok: false, fault: "status-line" };
  const head = new Head();
  head.status = status;
  const lines = new FieldCollector(names, head, `HTTP/1.1 ${status}\r\n`);
  for (let at = 2; at + 1 < raw.length; at += 2) {
    const name = raw[at]!;
    const fault = name.startsWith(":") ? "h2-pseudo" : lines.add(name, raw[at + 1]!);
    if (fault !== undefined) return { ok: false, fault };
  }
  const fault = lines.finish(limits);
  if (fault !== undefined) return { ok: false, fault };
  if (head.has(Field.contentLength)) {
    head.length = decimal(head.get(Field.contentLength)!);
    if (head.length < 0) return { ok: false, fault: "content-length" };
  }
  if (toHead || ended || status < 200 || status === 204 || status === 304) head.framing = Framing.none;
  else head.framing = head.has(Field.contentLength) ? Framing.length : Framing.chunked;
  return { ok: true, head };
}

/** Fields as names and values, for what a stream sends. Repeated ones become a list. Has no prototype. */
export type FieldObject = Record<string, string | string[]>;

/** `pseudo`: its pseudo-headers. A client chooses names, so that none may be found that nobody sent. */
export const newFields = (pseudo: Readonly<Record<string, string>> = {}): FieldObject =>
  Object.assign(Object.create(null) as FieldObject, pseudo);

/** Lists of which node:http2 takes no second line, though they may have one (RFC 9110 5.3). */
const JOINED = new Set(["content-encoding", "content-language", "if-match", "if-none-match"]);

/** Fields with one value. node:http2 throws where it is given two. */
const ONCE = new Set([
  "access-control-allow-credentials",
  "access-control-max-age",
  "access-control-request-method",
  "age",
  "authorization",
  "content-length",
  "content-location",
  "content-md5",
  "content-range",
  "content-type",
  "date",
  "dnt",
  "etag",
  "expires",
  "from",
  "host",
  "if-modified-since",
  "if-range",
  "if-unmodified-since",
  "last-modified",
  "location",
  "max-forwards",
  "proxy-authorization",
  "range",
  "referer",
  "retry-after",
  "tk",
  "upgrade-insecure-requests",
  "user-agent",
  "x-content-type-options",
]);

/**
 * Adds lines, each with its CRLF, to the fields of an HTTP/2 head; those of the connection are left out. False where
 * a field with one value came again: the first is kept.
 */
export function addLines(into: FieldObject, lines: string): boolean {
  let once = true;
  for (let at = 0; at < lines.length;) {
    const end = lines.indexOf("\r\n", at);
    const colon = lines.indexOf(":", at);
    const name = lines.slice(at, colon).toLowerCase();
    if (!addField(into, name, lines.slice(colon + 1, end).trim())) once = false;
    at = end + 2;
  }
  return once;
}

function addField(into: FieldObject, name: string, value: string): boolean {
  if (OF_THE_CONNECTION.has(name)) return true;
  if (name === "te") {
    if (value === "trailers") into[name] = value;
    return true;
  }
  const before = into[name];
  if (before === undefined) into[name] = value;
  else if (ONCE.has(name)) return false;
  else if (Array.isArray(before)) before.push(value);
  else into[name] = JOINED.has(name) ? `${before}, ${value}` : [before, value];
  return true;
}

/** Trailers that came over HTTP/2; the fault where one of them may not be one (RFC 9110 6.5.1). */
export function readTrailers(
  raw: readonly string[],
  names: FieldNames,
  limits: ReaderLimits,
): { readonly ok: true; readonly trailers: Trailer[] } | { readonly ok: false; readonly fault: Fault } {
  const trailers: Trailer[] = [];
  let size = 0;
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at]!;
    const value = raw[at + 1]!;
    size += name.length + value.length + 4;
    if (!isName(name) || FORBIDDEN_TRAILERS.has(names.known(name.replaceAll("_", "-"))))
      return { ok: false, fault: "trailer-field" };
    if (!isValue(value)) return { ok: false, fault: "field-value" };
    trailers.push({ name, value });
  }
  if (size > limits.head) return { ok: false, fault: "head-too-large" };
  return trailers.length > limits.fields ? { ok: false, fault: "too-many-fields" } : { ok: true, trailers };
}

/** As `addLines`, of trailers. */
export function addTrailers(into: FieldObject, trailers: readonly Trailer[]): boolean {
  let once = true;
  for (const { name, value } of trailers) if (!addField(into, name.toLowerCase(), value)) once = false;
  return once;
}
