import { TARGET, TOKEN } from "../http1/wire-characters.ts";
import type { ReaderLimits } from "../http1/machine.ts";
import type { Fault } from "../http1/wire-faults.ts";
import { isAuthority } from "../http1/wire-fields.ts";
import { Framing, Head } from "../http1/wire-head.ts";
import { Field, type FieldNames } from "../http1/wire-names.ts";
import { decimal } from "../http1/wire-semantics.ts";
import { FieldCollector } from "./wire-fields.ts";

/** A request of HTTP/2 as the rest of the proxy reads it, or why it is none. */
export type RequestReading =
  | { readonly ok: true; readonly head: Head; readonly tunnel: boolean }
  | { readonly ok: false; readonly fault: Fault };

const PSEUDO = new Set([":method", ":scheme", ":authority", ":path", ":protocol"]);
const refused = (fault: Fault): RequestReading => ({ ok: false, fault });

/**
 * Names and values in the order of arrival, pairwise, to a head (RFC 9113 8.3.1, RFC 8441 4). `ended`: no DATA
 * follows. `extra`: fields of our own. The head is that of the HTTP/1.1 request with the same meaning; the
 * differences that request smuggling by downgrade lives on (a line end in a value, Transfer-Encoding, two hosts, a
 * length that is not that of the DATA) are faults here.
 */
export function readRequest(
  raw: readonly string[],
  ended: boolean,
  names: FieldNames,
  limits: ReaderLimits,
  extra: readonly (readonly [string, string])[] = [],
): RequestReading {
  const pseudo = new Map<string, string>();
  let at = 0;
  for (; at + 1 < raw.length && raw[at]!.startsWith(":"); at += 2) {
    const name = raw[at]!;
    if (!PSEUDO.has(name) || pseudo.has(name)) return refused("h2-pseudo");
    pseudo.set(name, raw[at + 1]!);
  }
  const method = pseudo.get(":method") ?? "";
  const protocol = pseudo.get(":protocol");
  const path = pseudo.get(":path");
  const start = startOf(method, path, pseudo.get(":scheme"), protocol);
  if (!start.ok) return refused(start.fault);
  const head = new Head();
  const tunnel = protocol !== undefined;
  // RFC 8441 5: what is CONNECT with a protocol here is GET with Upgrade in HTTP/1.1.
  head.method = tunnel ? "GET" : method;
  head.target = path ?? "";
  head.upgrade = tunnel ? protocol.toLowerCase() : "";
  const lines = new FieldCollector(names, head, `${head.method} ${head.target} HTTP/1.1\r\n`);
  for (; at + 1 < raw.length; at += 2) {
    const name = raw[at]!;
    const fault = name.startsWith(":") ? "h2-pseudo" : lines.add(name, raw[at + 1]!);
    if (fault !== undefined) return refused(fault);
  }
  for (const [name, value] of extra) lines.add(name, value);
  const fault =
    lines.finish(limits) ??
    readAuthority(head, pseudo.get(":authority")) ??
    readBody(head, ended, tunnel, limits.bodyOnGet);
  return fault === undefined ? { ok: true, head, tunnel } : refused(fault);
}

type Start = { readonly ok: true } | { readonly ok: false; readonly fault: Fault };

function startOf(
  method: string,
  path: string | undefined,
  scheme: string | undefined,
  protocol: string | undefined,
): Start {
  if (method === "" || method.length > 32 || !every(method, TOKEN)) return { ok: false, fault: "method" };
  if (method === "CONNECT" && protocol === undefined) {
    // Plain CONNECT has neither (8.5). It is refused later, as over HTTP/1.1.
    return path === undefined && scheme === undefined ? { ok: true } : { ok: false, fault: "h2-pseudo" };
  }
  if (protocol !== undefined && (method !== "CONNECT" || !every(protocol, TOKEN) || protocol === "")) {
    return { ok: false, fault: "h2-pseudo" };
  }
  if (scheme !== "http" && scheme !== "https") return { ok: false, fault: "h2-pseudo" };
  if (path === undefined || path === "") return { ok: false, fault: "h2-pseudo" };
  if (path === "*") return method === "OPTIONS" ? { ok: true } : { ok: false, fault: "target-form" };
  if (!path.startsWith("/")) return { ok: false, fault: "target-form" };
  if (path.includes("#")) return { ok: false, fault: "target-fragment" };
  return every(path, TARGET) ? { ok: true } : { ok: false, fault: "target" };
}

const every = (text: string, table: Uint8Array): boolean => {
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c > 255 || table[c] !== 1) return false;
  }
  return true;
};

/** :authority is what counts; a Host beside it says the same (RFC 9113 8.3.1). */
function readAuthority(head: Head, authority: string | undefined): Fault | undefined {
  const host = head.get(Field.host);
  const named = authority ?? host;
  if (named === undefined) return "host-missing";
  if (!isAuthority(named)) return "host-invalid";
  if (host !== undefined && host.toLowerCase() !== named.toLowerCase()) return "host-disagrees";
  head.authority = named;
  if (head.method === "CONNECT") head.target = named;
  return undefined;
}

function readBody(head: Head, ended: boolean, tunnel: boolean, bodyOnGet: boolean): Fault | undefined {
  let declared = -1;
  if (head.has(Field.contentLength)) {
    declared = decimal(head.get(Field.contentLength)!);
    if (declared < 0) return "content-length";
    if (tunnel || (ended && declared !== 0)) return "h2-length";
    head.length = declared;
  }
  if (head.has(Field.expect)) {
    if (head.get(Field.expect)!.toLowerCase() !== "100-continue") return "expectation";
    head.expects = !ended;
  }
  if (ended || tunnel || declared === 0) return undefined;
  const bodiless = head.method === "GET" || head.method === "HEAD" || head.method === "TRACE";
  // Without a length it may still be empty: some clients end the stream with an empty DATA frame.
  if (bodiless && !bodyOnGet && declared > 0) return "unexpected-body";
  head.framing = declared > 0 ? Framing.length : Framing.chunked;
  return undefined;
}
