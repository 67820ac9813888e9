import { FOLD } from "./wire-characters.ts";

/** Fields that the proxy itself reads, removes or writes. Ids below 31 have a bit in `Head.seen`. */
export const Field = {
  other: 0,
  host: 1,
  contentLength: 2,
  transferEncoding: 3,
  connection: 4,
  upgrade: 5,
  expect: 6,
  te: 7,
  trailer: 8,
  keepAlive: 9,
  proxyConnection: 10,
  proxyAuthenticate: 11,
  proxyAuthorization: 12,
  forwarded: 13,
  xForwardedFor: 14,
  xForwardedProto: 15,
  xForwardedHost: 16,
  xForwardedPort: 17,
  xRealIp: 18,
  cookie: 19,
  authorization: 20,
  traceparent: 21,
  http2Settings: 22,
  userAgent: 23,
  referer: 24,
  contentEncoding: 25,
  contentType: 26,
  acceptEncoding: 27,
  setCookie: 28,
  date: 29,
  xRequestId: 30,
} as const;

const NAMES: Readonly<Record<Exclude<keyof typeof Field, "other">, string>> = {
  host: "host",
  contentLength: "content-length",
  transferEncoding: "transfer-encoding",
  connection: "connection",
  upgrade: "upgrade",
  expect: "expect",
  te: "te",
  trailer: "trailer",
  keepAlive: "keep-alive",
  proxyConnection: "proxy-connection",
  proxyAuthenticate: "proxy-authenticate",
  proxyAuthorization: "proxy-authorization",
  forwarded: "forwarded",
  xForwardedFor: "x-forwarded-for",
  xForwardedProto: "x-forwarded-proto",
  xForwardedHost: "x-forwarded-host",
  xForwardedPort: "x-forwarded-port",
  xRealIp: "x-real-ip",
  cookie: "cookie",
  authorization: "authorization",
  traceparent: "traceparent",
  http2Settings: "http2-settings",
  userAgent: "user-agent",
  referer: "referer",
  contentEncoding: "content-encoding",
  contentType: "content-type",
  acceptEncoding: "accept-encoding",
  setCookie: "set-cookie",
  date: "date",
  xRequestId: "x-request-id",
};

interface Entry {
  readonly hash: number;
  readonly id: number;
  readonly name: string;
}

/** One step of the hash of a name; the parser takes it per byte while it looks for the colon. */
export const hashStep = (hash: number, folded: number): number => (Math.imul(hash, 31) + folded) | 0;

/**
 * Names of fields as small numbers, so that whoever looks for a field compares numbers. What a
 * configuration mentions is added; nothing that a client sends ever is.
 */
export class FieldNames {
  #slots: (Entry | undefined)[] = Array.from({ length: 256 });
  #count = 0;
  #next = 31;
  readonly #ids = new Map<string, number>();

  constructor() {
    for (const [key, name] of Object.entries(NAMES)) {
      this.#add(name, Field[key as keyof typeof Field]);
    }
  }

  /** The id of a name in any case; a new one where it is not known yet. */
  idOf(name: string): number {
    const lower = name.toLowerCase();
    const known = this.#ids.get(lower);
    if (known !== undefined) return known;
    this.#add(lower, this.#next);
    return this.#next++;
  }

  /** The id of a lower-case name, 0 for an unknown one. */
  known(lower: string): number {
    return this.#ids.get(lower) ?? 0;
  }

  /**
   * The id of the name in `bytes[start, end)` with the hash of its folded bytes; 0 for an unknown one and
   * the negative id for one that only looks like it, with `_` for `-`.
   */
  find(hash: number, bytes: Uint8Array, start: number, end: number): number {
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = this.#slots[slot];
      if (entry === undefined) return 0;
      if (entry.hash !== hash || entry.name.length !== end - start) continue;
      const sign = this.#compare(entry.name, bytes, start);
      if (sign !== 0) return sign * entry.id;
    }
  }

  #compare(name: string, bytes: Uint8Array, start: number): number {
    let sign = 1;
    for (let i = 0; i < name.length; i++) {
      const byte = bytes[start + i]!;
      if (FOLD[byte] !== name.charCodeAt(i)) return 0;
      if (byte === 0x5f) sign = -1;
    }
    return sign;
  }

  #add(name: string, id: number): void {
    this.#ids.set(name, id);
    let hash = 0;
    for (let i = 0; i < name.length; i++) hash = hashStep(hash, name.charCodeAt(i));
    this.#count++;
    if (this.#count * 4 > this.#slots.length) {
      const entries = this.#slots;
      this.#slots = Array.from({ length: entries.length * 2 });
      for (const entry of entries) if (entry !== undefined) this.#place(entry);
    }
    this.#place({ hash, id, name });
  }

  #place(entry: Entry): void {
    const mask = this.#slots.length - 1;
    let slot = entry.hash & mask;
    while (this.#slots[slot] !== undefined) slot = (slot + 1) & mask;
    this.#slots[slot] = entry;
  }
}
