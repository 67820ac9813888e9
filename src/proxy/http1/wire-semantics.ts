import type { Fault } from "./wire-faults.ts";
import { isAuthority } from "./wire-fields.ts";
import { Framing, type Head, STRIDE } from "./wire-head.ts";
import { Field } from "./wire-names.ts";

const bit = (id: number): number => 1 << id;

/** Fields that decide where a message ends or whether the connection stays. */
const FRAMING_BITS =
  bit(Field.contentLength) |
  bit(Field.transferEncoding) |
  bit(Field.connection) |
  bit(Field.upgrade) |
  bit(Field.expect);

/** What `Connection` may never name: removing it would change the message's meaning or strip our own fields. */
const END_TO_END = new Set([
  "host",
  "content-length",
  "content-type",
  "transfer-encoding",
  "cookie",
  "authorization",
  "forwarded",
  "x-forwarded-for",
  "x-forwarded-proto",
  "x-forwarded-host",
  "x-forwarded-port",
  "x-real-ip",
  "x-request-id",
  "traceparent",
  "date",
  "set-cookie",
]);

/** One decimal number (RFC 9110 8.6); -1 for anything else. Fifteen digits are more than any disk holds. */
export function decimal(text: string): number {
  if (text.length === 0 || text.length > 15) return -1;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 0x30 || c > 0x39) return -1;
  }
  return Number(text);
}

/** Connection's options (RFC 9110 7.6.1), in all its lines. */
function readConnection(head: Head): Fault | undefined {
  let upgrade = false;
  for (let at = head.find(Field.connection); at >= 0; at = head.find(Field.connection, at + STRIDE)) {
    const value = head.valueAt(at);
    // What nearly every client sends, without splitting.
    if (value === "keep-alive" || value === "Keep-Alive") {
      if (head.minor === 0) head.keepAlive = true;
      continue;
    }
    for (const part of value.split(",")) {
      const option = part.trim().toLowerCase();
      if (option === "" || option === "keep-alive") {
        if (option !== "" && head.minor === 0) head.keepAlive = true;
      } else if (option === "upgrade") upgrade = true;
      else if (option !== "close") {
        if (END_TO_END.has(option)) return "connection-option";
        head.options.push(option);
      } else head.options.push("close");
    }
  }
  if (head.options.includes("close")) {
    head.keepAlive = false;
    head.options = head.options.filter((option) => option !== "close");
  }
  // Upgrade counts only with its connection option and from HTTP/1.1 on (RFC 9110 7.8).
  if (upgrade && head.minor === 1) head.upgrade = (head.get(Field.upgrade) ?? "").toLowerCase();
  return undefined;
}

function readFraming(head: Head): Fault | undefined {
  if (head.has(Field.transferEncoding)) {
    if (head.has(Field.contentLength)) return "length-and-chunked";
    if (head.minor === 0) return "transfer-encoding-version";
    if (head.get(Field.transferEncoding)!.toLowerCase() !== "chunked") return "transfer-encoding";
    head.framing = Framing.chunked;
  } else if (head.has(Field.contentLength)) {
    const length = decimal(head.get(Field.contentLength)!);
    if (length < 0) return "content-length";
    head.length = length;
    head.framing = length === 0 ? Framing.none : Framing.length;
  }
  return undefined;
}

/** The host of an absolute target is the one that counts (RFC 9112 3.2.2); ours is refused where they differ. */
function readTarget(head: Head): Fault | undefined {
  const { target, method } = head;
  const host = head.get(Field.host);
  if (method === "CONNECT") {
    if (!isAuthority(target) || !target.includes(":")) return "target-form";
    if (host !== undefined && host.toLowerCase() !== target.toLowerCase()) return "host-disagrees";
    head.authority = target;
    return undefined;
  }
  if (target.charCodeAt(0) !== 0x2f) {
    if (target === "*") return method === "OPTIONS" ? readHost(head, host) : "target-form";
    const absolute = /^https?:\/\/([^/?]*)(.*)$/i.exec(target);
    if (!absolute) return "target-form";
    const authority = absolute[1] ?? "";
    const rest = absolute[2] ?? "";
    if (!isAuthority(authority)) return "host-invalid";
    if (host !== undefined && host.toLowerCase() !== authority.toLowerCase()) return "host-disagrees";
    if (host === undefined && head.minor === 1) return "host-missing";
    head.authority = authority;
    head.target = rest.startsWith("/") ? rest : `/${rest}`;
    return undefined;
  }
  return readHost(head, host);
}

function readHost(head: Head, host: string | undefined): Fault | undefined {
  if (host === undefined) {
    head.authority = "";
    return head.minor === 1 ? "host-missing" : undefined;
  }
  if (!isAuthority(host)) return "host-invalid";
  head.authority = host;
  return undefined;
}

/** What the fields of a request mean; the reason where they contradict each other. */
export function understandRequest(head: Head, bodyOnGet: boolean): Fault | undefined {
  const fault = readTarget(head);
  if (fault !== undefined) return fault;
  if ((head.seen & FRAMING_BITS) === 0) return undefined;
  const broken = readFraming(head) ?? readConnection(head);
  if (broken !== undefined) return broken;
  if (head.has(Field.expect)) {
    if (head.get(Field.expect)!.toLowerCase() !== "100-continue") return "expectation";
    head.expects = head.minor === 1 && head.framing !== Framing.none;
  }
  const bodiless = head.method === "GET" || head.method === "HEAD" || head.method === "TRACE";
  return head.framing !== Framing.none && bodiless && !bodyOnGet ? "unexpected-body" : undefined;
}

/** What the fields of a response mean; `toHead` where it answers a HEAD request. */
export function understandResponse(head: Head, toHead: boolean): Fault | undefined {
  const { status } = head;
  if ((head.seen & FRAMING_BITS) !== 0) {
    const broken = readFraming(head) ?? readConnection(head);
    if (broken !== undefined) return broken;
  }
  const bodiless = toHead || status < 200 || status === 204 || status === 304;
  if (bodiless) head.framing = Framing.none;
  else if (!head.has(Field.contentLength) && head.framing === Framing.none) {
    head.framing = Framing.close;
    head.keepAlive = false;
  }
  return undefined;
}
