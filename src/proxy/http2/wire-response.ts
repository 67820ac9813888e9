import type { ReaderLimits } from "../http1/machine.ts";
import { FORBIDDEN_TRAILERS, type Trailer } from "../http1/wire-trailers.ts";
import type { Fault } from "../http1/wire-faults.ts";
import { Framing, Head } from "../http1/wire-head.ts";
import { Field, type FieldNames } from "../http1/wire-names.ts";
import { decimal } from "../http1/wire-semantics.ts";
import { FieldCollector, isName, isValue } from "./wire-fields.ts";

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

/** Fields as names and values, for what a stream sends. Repeated ones become a list. */
export type FieldObject = Record<string, string | string[]>;

/** Lines, each with its CRLF, to the fields of an HTTP/2 head. */
export function fieldsOfLines(lines: string, into: FieldObject = {}): FieldObject {
  for (let at = 0; at < lines.length;) {
    const end = lines.indexOf("\r\n", at);
    const colon = lines.indexOf(":", at);
    const name = lines.slice(at, colon).toLowerCase();
    addField(into, name, lines.slice(colon + 1, end).trim());
    at = end + 2;
  }
  return into;
}

function addField(into: FieldObject, name: string, value: string): void {
  const before = into[name];
  if (before === undefined) into[name] = value;
  else if (Array.isArray(before)) before.push(value);
  else into[name] = [before, value];
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

export function fieldsOfTrailers(trailers: readonly Trailer[]): FieldObject {
  const out: FieldObject = {};
  for (const { name, value } of trailers) addField(out, name.toLowerCase(), value);
  return out;
}
