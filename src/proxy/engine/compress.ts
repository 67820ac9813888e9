import type { Transform } from "node:stream";
import * as zlib from "node:zlib";
import type { Head } from "../http1/wire-head.ts";
import { Field } from "../http1/wire-names.ts";
import type { RoutePlan } from "../plan.ts";
import type { Downstream } from "./downstream.ts";

export type Encoding = "br" | "gzip" | "zstd";

/** From Node 22.15 on; where it is missing, the next encoding of the route's list is taken. */
const { createZstdCompress } = zlib as { createZstdCompress?: (options: object) => Transform };

const MAKE: Readonly<Record<Encoding, () => Transform>> = {
  gzip: () => zlib.createGzip({ level: 5 }),
  br: () => zlib.createBrotliCompress({ params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 4 } }),
  zstd: () => createZstdCompress!({}),
};

/** Media types that become smaller; not those whose messages must not wait for company: event streams, gRPC. */
const COMPRESSIBLE =
  /^(?!text\/event-stream|application\/grpc)(text\/|application\/(json|javascript|xml|wasm|manifest\+json|ld\+json|x-javascript|[a-z0-9.+-]+\+(json|xml))|image\/svg\+xml|font\/(ttf|otf))/i;
/** Smaller bodies fit into a packet anyway. */
const AT_LEAST = 1024;

/**
 * Whether a client may get a response compressed: then it says so to caches, whoever asks. Not what the backend forbids
 * to change (RFC 9110 7.7).
 */
export function mayCompress(route: RoutePlan, response: Head, version: number): boolean {
  if (route.settings.compress === false || version === 0) return false;
  if (response.has(Field.contentEncoding) || response.status === 206) return false;
  if (response.has(Field.contentLength) && response.length < AT_LEAST) return false;
  if (!COMPRESSIBLE.test(response.get(Field.contentType) ?? "")) return false;
  return !/(?:^|,)\s*no-transform\s*(?:,|$)/i.test(response.all(route.cacheControl) ?? "");
}

/** How a response that may be is compressed for this client; undefined for not at all. */
export function chooseEncoding(route: RoutePlan, request: Head): Encoding | undefined {
  const { compress } = route.settings;
  if (compress === false) return undefined;
  const accepted = request.all(Field.acceptEncoding) ?? "";
  const wanted = compress === true ? (["br", "gzip"] as const) : compress;
  for (const encoding of wanted) {
    if (encoding === "zstd" && createZstdCompress === undefined) continue;
    const match = new RegExp(`(?:^|,)\\s*${encoding}\\s*(?:;\\s*q=([0-9.]+))?\\s*(?:,|$)`, "i").exec(
      accepted,
    );
    if (match !== null && Number(match[1] ?? 1) > 0) return encoding;
  }
  return undefined;
}

/** Whose response is compressed. */
export interface CompressTarget {
  readonly finished: boolean;
  readonly downstream: Downstream;
  readonly upstream: { resumeResponse(): void } | undefined;
  bytesOut: number;
  fail(status: number, reason: string): void;
}

/** A response's body through zlib, with back pressure both ways. */
export class Compressor {
  readonly #stream: Transform & { flush?(): void };
  readonly #streaming: boolean;
  #blocked = false;

  /** `streaming`: nobody knows when the next piece comes, so that each goes on as it came. */
  constructor(encoding: Encoding, streaming: boolean, exchange: CompressTarget) {
    this.#stream = MAKE[encoding]();
    this.#streaming = streaming;
    this.#stream.on("data", (chunk: Buffer) => {
      if (exchange.finished) return;
      exchange.bytesOut += chunk.length;
      const flowing = exchange.downstream.sendBody(chunk, 0, chunk.length, true);
      exchange.downstream.flush();
      if (!flowing) {
        this.#blocked = true;
        this.#stream.pause();
      }
    });
    this.#stream.on("drain", () => {
      if (!this.#blocked) exchange.upstream?.resumeResponse();
    });
    this.#stream.on("error", () => exchange.fail(502, "compression"));
  }

  write(bytes: Uint8Array, start: number, end: number): boolean {
    // zlib reads it in another thread, later: a copy.
    const more = this.#stream.write(Uint8Array.prototype.slice.call(bytes, start, end));
    if (this.#streaming) this.#stream.flush?.();
    return more && !this.#blocked;
  }

  resume(): void {
    this.#blocked = false;
    this.#stream.resume();
  }

  end(done: () => void): void {
    this.#stream.once("end", done);
    this.#stream.end();
  }

  destroy(): void {
    this.#stream.destroy();
  }
}
