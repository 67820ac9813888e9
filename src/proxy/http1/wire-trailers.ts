import type { Fault } from "./wire-faults.ts";
import { FieldParser } from "./wire-fields.ts";
import { STRIDE } from "./wire-head.ts";
import { Field, type FieldNames } from "./wire-names.ts";

export interface Trailer {
  readonly name: string;
  readonly value: string;
}

/** Most fields of a trailer section: gRPC sends three. */
const MOST = 32;

/** Fields that may not come as trailers (RFC 9110 6.5.1): framing, routing, authentication, ours. */
export const FORBIDDEN_TRAILERS: ReadonlySet<number> = new Set<number>([
  Field.host,
  Field.contentLength,
  Field.transferEncoding,
  Field.connection,
  Field.upgrade,
  Field.expect,
  Field.te,
  Field.trailer,
  Field.keepAlive,
  Field.proxyConnection,
  Field.http2Settings,
  Field.proxyAuthorization,
  Field.forwarded,
  Field.xForwardedFor,
  Field.xForwardedProto,
  Field.xForwardedHost,
  Field.xForwardedPort,
  Field.xRealIp,
  Field.cookie,
  Field.setCookie,
  Field.authorization,
  Field.contentEncoding,
  Field.contentType,
]);

/** Reads a trailer section. A parser of its own: the head's fields stay readable until the message has ended. */
export class TrailerReader {
  readonly #parser: FieldParser;

  constructor(names: FieldNames, limit: number) {
    this.#parser = new FieldParser(names, Math.min(limit, MOST));
  }

  get fault(): Fault | undefined {
    return this.#parser.fault;
  }

  /** The offset after the section, 0 for incomplete, -1 with `fault`. */
  parse(bytes: Uint8Array, start: number, end: number): number {
    return this.#parser.parse(bytes, start, start, end);
  }

  /** The fields of the section that was parsed, `text` being all of it; undefined where one may not be a trailer. */
  take(text: string): Trailer[] | undefined {
    const { fields, count } = this.#parser;
    const trailers: Trailer[] = [];
    for (let f = 0; f < count * STRIDE; f += STRIDE) {
      if (FORBIDDEN_TRAILERS.has(fields[f + 4]!)) return undefined;
      trailers.push({
        name: text.slice(fields[f], fields[f + 1]),
        value: text.slice(fields[f + 2], fields[f + 3]),
      });
    }
    return trailers;
  }
}
