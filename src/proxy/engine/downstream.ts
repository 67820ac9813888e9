import type { Trailer } from "../http1/wire-trailers.ts";
import type { FramingKind } from "../http1/wire-head.ts";

/** What an exchange answers to: a client over HTTP/1.1 or a stream of HTTP/2. */
export interface Downstream {
  /** 0 for HTTP/1.0, 1 for HTTP/1.1, 2 for HTTP/2. */
  readonly version: 0 | 1 | 2;
  /** Requests on this connection so far, the current one included. */
  readonly requests: number;
  /** 100, 103: `lines` are fields, each with its CRLF. */
  sendInterim(status: number, reason: string, lines: string): void;
  /** `lines` hold no Content-Length; `length` is -1 where the body's end alone tells it. */
  sendHead(status: number, reason: string, lines: string, framing: FramingKind, length: number): void;
  /** False: send no more until `exchange.resumeResponse`. `stable` as in ChannelHandler. */
  sendBody(bytes: Uint8Array, start: number, end: number, stable: boolean): boolean;
  sendEnd(trailers: readonly Trailer[]): void;
  /** Everything sent so far goes out now. */
  flush(): void;
  /** The response cannot be finished: the client must see that. */
  breakOff(): void;
  pauseRequest(): void;
  /** Nothing where it is not paused. */
  resumeRequest(): void;
  /** The backend agreed to the upgrade. `lines` without Connection and Upgrade. */
  sendSwitch(reason: string, lines: string): void;
  /** After it: both sides are bytes from here on. */
  tunnel(rest: Uint8Array): void;
  tunnelWrite(bytes: Uint8Array, stable: boolean): boolean;
  tunnelEnd(): void;
}
