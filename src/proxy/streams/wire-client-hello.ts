/** What a TLS client says first, as far as routing needs it (RFC 8446 4.1.2, RFC 6066 3, RFC 7301 3.1). */
export type HelloReading =
  | { readonly kind: "more" }
  | { readonly kind: "hello"; readonly serverName: string; readonly protocols: readonly string[] }
  | { readonly kind: "fault"; readonly reason: HelloFault };

type HelloFault = "not-tls" | "not-a-hello" | "hello-too-large" | "hello-broken" | "server-name-invalid";

const MORE: HelloReading = { kind: "more" };
const fault = (reason: HelloFault): HelloReading => ({ kind: "fault", reason });

const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
/** A hello with post-quantum keys and tickets has about 2 KiB. */
export const HELLO_MOST = 16_384;
/** RFC 8446 5.1. */
const RECORD_MOST = 16_384;
const SERVER_NAME = 0;
const ALPN = 16;

/** Reads from bytes that may end anywhere; never beyond them. */
class Bytes {
  readonly #b: Uint8Array;
  #at: number;
  readonly #end: number;
  /** Set where something reached beyond the end. */
  broken = false;
  constructor(b: Uint8Array, at: number, end: number) {
    this.#b = b;
    this.#at = at;
    this.#end = end;
  }
  get left(): number {
    return this.#end - this.#at;
  }
  number(size: 1 | 2): number {
    if (this.left < size) {
      this.broken = true;
      return 0;
    }
    let value = 0;
    for (let i = 0; i < size; i++) value = value * 256 + this.#b[this.#at++]!;
    return value;
  }
  skip(size: number): void {
    if (this.left < size) this.broken = true;
    else this.#at += size;
  }
  /** A vector with its length before it. */
  vector(size: 1 | 2): Bytes {
    const length = this.number(size);
    if (this.broken || this.left < length) {
      this.broken = true;
      return new Bytes(this.#b, this.#end, this.#end);
    }
    const inner = new Bytes(this.#b, this.#at, this.#at + length);
    this.#at += length;
    return inner;
  }
  text(): string {
    let out = "";
    while (this.left > 0) out += String.fromCharCode(this.#b[this.#at++]!);
    return out;
  }
}

/** The handshake message in the records so far; a reading where it is not whole or not one. */
function unwrap(b: Uint8Array): Uint8Array | HelloReading {
  const parts: Uint8Array[] = [];
  let have = 0;
  let want = 4;
  for (let at = 0; at < b.length;) {
    if (b[at] !== HANDSHAKE) return fault("not-tls");
    if (at + 1 < b.length && b[at + 1] !== 3) return fault("not-tls");
    if (at + 5 > b.length) return MORE;
    const length = b[at + 3]! * 256 + b[at + 4]!;
    if (length === 0 || length > RECORD_MOST) return fault("not-tls");
    const part = b.subarray(at + 5, Math.min(b.length, at + 5 + length));
    parts.push(part);
    have += part.length;
    at += 5 + length;
    if (have >= 4 && want === 4) {
      const head = join(parts, 4);
      if (head[0] !== CLIENT_HELLO) return fault("not-a-hello");
      want = 4 + head[1]! * 65_536 + head[2]! * 256 + head[3]!;
      if (want > HELLO_MOST) return fault("hello-too-large");
    }
    if (want > 4 && have >= want) return join(parts, want);
  }
  return MORE;
}

function join(parts: readonly Uint8Array[], length: number): Uint8Array {
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    const piece = part.subarray(0, length - at);
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}

/** Reads the first bytes of a connection. The name is lower case, empty where the client gives none. */
export function readClientHello(b: Uint8Array): HelloReading {
  const message = unwrap(b);
  if (!(message instanceof Uint8Array)) return message;
  const hello = new Bytes(message, 4, message.length);
  hello.skip(2 + 32);
  hello.vector(1);
  hello.vector(2);
  hello.vector(1);
  if (hello.broken) return fault("hello-broken");
  let serverName = "";
  const protocols: string[] = [];
  const extensions = hello.left > 0 ? hello.vector(2) : new Bytes(message, 0, 0);
  const seen = new Set<number>();
  while (extensions.left > 0 && !extensions.broken) {
    const type = extensions.number(2);
    const body = extensions.vector(2);
    if (type !== SERVER_NAME && type !== ALPN) continue;
    // Twice the same could be read in two ways.
    if (seen.has(type)) return fault("hello-broken");
    seen.add(type);
    const list = body.vector(2);
    while (list.left > 0 && !list.broken) {
      if (type === ALPN) {
        protocols.push(list.vector(1).text());
        continue;
      }
      const kind = list.number(1);
      const name = list.vector(2).text().toLowerCase();
      if (list.broken) break;
      if (kind !== 0) continue;
      if (serverName !== "" || !isHostName(name)) return fault("server-name-invalid");
      serverName = name;
    }
    if (list.broken || body.broken) return fault("hello-broken");
  }
  if (extensions.broken || hello.broken) return fault("hello-broken");
  return { kind: "hello", serverName, protocols };
}

const isHostName = (name: string): boolean =>
  name.length > 0 &&
  name.length <= 253 &&
  /^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$/.test(name) &&
  !name.includes("..");
