import { Framing, type Head } from "../http1/wire-head.ts";
import { Field } from "../http1/wire-names.ts";
import type { Trailer } from "../http1/wire-trailers.ts";
import type { RoutePlan } from "../plan.ts";
import { latin1 } from "./channel.ts";
import { forwardedLines } from "./client-info.ts";
import { keptLines } from "./lines.ts";
import type { EngineCore, RequestSource, Upstream } from "./ports.ts";

/** Kept of a request's body while there is no backend that takes it; then the client is paused. */
const HOLD = 65_536;

/** The request's fields as they go to a backend, without Host and without those that frame the message. */
export function requestFields(source: RequestSource, route: RoutePlan, engine: EngineCore): string {
  const { head, service, view } = source;
  let out =
    keptLines(head, route.request.drop, route.request.others, view?.dropped) +
    forwardedLines(source.connection, service, head);
  if (service.realIp) out += `X-Real-IP: ${source.client}\r\n`;
  if (service.requestIdField !== 0) out += `${service.requestIdName}: ${source.id}\r\n`;
  if (service.settings.traceContext && !head.has(Field.traceparent)) {
    out += `traceparent: 00-${engine.traceId()}-01\r\n`;
  }
  return `${out}${route.request.lines}${view?.lines ?? ""}`;
}

/**
 * A request's body on its way to a backend. What has come is kept as text while it may have to be sent (again):
 * always until a backend is connected, and then up to the route's limit.
 */
export class RequestBody {
  received = 0;
  /** The last byte and the trailers have come. */
  done = false;
  #kept: string | undefined = "";
  #trailers: readonly Trailer[] = [];

  /** Everything so far, to a backend that has got the head. */
  replay(upstream: Upstream): void {
    if (this.#kept !== undefined && this.#kept !== "") upstream.text(this.#kept);
    if (this.done) upstream.end(this.#trailers);
  }

  resendable(sent: boolean): boolean {
    return this.#kept !== undefined || (!sent && this.received === 0);
  }

  /** A further piece. False: pause until the backend takes more. */
  take(
    bytes: Uint8Array,
    start: number,
    end: number,
    stable: boolean,
    upstream: Upstream | undefined,
    keep: number,
  ): boolean {
    this.received += end - start;
    if (this.#kept !== undefined) {
      if (this.received > keep && upstream?.ready === true) this.#kept = undefined;
      else this.#kept += latin1(bytes, start, end);
    }
    if (upstream !== undefined) return upstream.body(bytes, start, end, stable);
    return (this.#kept?.length ?? HOLD) < HOLD;
  }

  end(trailers: readonly Trailer[], upstream: Upstream | undefined): void {
    this.done = true;
    this.#trailers = trailers;
    upstream?.end(trailers);
  }

  /** A response has begun: nothing is sent again. */
  forget(): void {
    this.#kept = undefined;
  }
}

/** Start line and fields over HTTP/1.1. `fields` come from `requestFields`. */
export function http1Head(
  head: Head,
  target: string,
  host: string,
  fields: string,
  upgrading: boolean,
): string {
  let out = `${head.method} ${target} HTTP/1.1\r\nHost: ${host}\r\n${fields}`;
  if (head.framing === Framing.length) out += `Content-Length: ${head.length}\r\n`;
  else if (head.framing === Framing.chunked) out += "Transfer-Encoding: chunked\r\n";
  else if (head.method === "POST" || head.method === "PUT" || head.method === "PATCH")
    out += "Content-Length: 0\r\n";
  if (upgrading) out += "Connection: Upgrade\r\nUpgrade: websocket\r\n";
  return `${out}\r\n`;
}
