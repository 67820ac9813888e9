import type { Duplex } from "node:stream";
import {
  type ServerHttp2Session,
  type ServerHttp2Stream,
  constants,
  performServerHandshake,
} from "node:http2";
import type { ClientInfo } from "../engine/client-info.ts";
import type { Closable, EngineCore, ListenerCore } from "../engine/ports.ts";
import type { Swept } from "../engine/sweep.ts";
import { errorCode } from "./policy-goaway.ts";
import { ResetBudget } from "./policy-reset.ts";
import { Http2Stream, type StreamOwner } from "./stream.ts";

/** Bytes that a client may send before anybody takes them: of one stream, of all. */
const STREAM_WINDOW = 262_144;
const SESSION_WINDOW = 1_048_576;
/** Megabytes that one connection may hold in headers, frames and unsent data. */
const SESSION_MEMORY = 16;

/** A client's connection over HTTP/2: node:http2 reads frames, everything else is the exchange's. */
export class Http2Connection implements Closable, Swept, StreamOwner {
  readonly engine: EngineCore;
  readonly listener: ListenerCore;
  readonly info: ClientInfo;
  requests = 0;
  deadline: number;
  sweepIndex = -1;
  readonly #session: ServerHttp2Session;
  readonly #socket: Duplex;
  readonly #streams = new Set<Http2Stream>();
  readonly #resets = new ResetBudget();
  #closed = false;

  /** `socket` may hold bytes that were read already (`unshift`). */
  constructor(engine: EngineCore, listener: ListenerCore, socket: Duplex, info: ClientInfo) {
    this.engine = engine;
    this.listener = listener;
    this.info = info;
    this.#socket = socket;
    const { limits, timeouts } = listener.service.settings;
    this.deadline = engine.now + timeouts.head;
    this.#session = performServerHandshake(socket, {
      maxHeaderListPairs: limits.headers + 8,
      maxSessionMemory: SESSION_MEMORY,
      maxOutstandingPings: 10,
      maxSettings: 32,
      settings: {
        maxConcurrentStreams: limits.streams,
        maxHeaderListSize: limits.head,
        initialWindowSize: STREAM_WINDOW,
        enableConnectProtocol: true,
        enablePush: false,
      },
    });
    const session = this.#session;
    nameErrors(session);
    session.on(
      "stream",
      (stream: ServerHttp2Stream, _fields: unknown, flags: number, raw: readonly string[]) =>
        this.#begin(stream, flags, raw),
    );
    session.on("error", () => engine.event("refused.h2-protocol"));
    session.on("frameError", () => engine.event("h2-frame-error"));
    session.on("close", () => this.#gone());
    // Its reading and writing ends with its socket's, errors included.
    session.setLocalWindowSize(SESSION_WINDOW);
    engine.sweep.add(this);
    listener.clients.add(this);
  }

  #begin(stream: ServerHttp2Stream, flags: number, raw: readonly string[]): void {
    const { engine } = this;
    engine.tick();
    this.requests++;
    this.deadline = Number.POSITIVE_INFINITY;
    const ended = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
    this.#streams.add(new Http2Stream(this, stream, raw, ended));
  }

  gone(stream: Http2Stream, resetByClient: boolean): void {
    const { engine } = this;
    this.#streams.delete(stream);
    if (this.#closed) return;
    if (resetByClient && !this.#resets.take(engine.now)) {
      engine.event("refused.rapid-reset");
      if (!this.#session.destroyed) this.#session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      this.destroy();
      return;
    }
    if (this.#streams.size === 0) this.deadline = engine.now + this.listener.service.settings.timeouts.idle;
  }

  #gone(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.engine.sweep.remove(this);
    this.listener.closed(this);
  }

  /** Idle for too long. */
  onDeadline(): void {
    this.deadline = this.engine.now + this.listener.service.settings.timeouts.write;
    if (this.#session.closed) this.destroy();
    else this.#session.close();
  }

  /** GOAWAY: what is under way is finished, nothing new begins. */
  drain(): void {
    if (!this.#session.closed && !this.#session.destroyed) this.#session.close();
  }

  destroy(): void {
    const socket = this.#socket;
    this.#session.destroy();
    this.#gone();
    // One that was asked to close before waits for the other side, and after an error that nghttp2 answered by itself
    // it no longer reads: it would wait for ever. Later, so that what was said last still leaves.
    setImmediate(() => socket.destroy());
  }
}

/** node:http2 ends a broken connection with INTERNAL_ERROR, whatever it was: what it was is told instead. */
function nameErrors(session: ServerHttp2Session): void {
  const destroy = session.destroy.bind(session);
  session.destroy = (error?: Error, code?: number) =>
    destroy(error, code ?? errorCode((error as { errno?: unknown } | undefined)?.errno));
}

/** What a client over HTTP/2 says first (RFC 9113 3.4). */
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** Whether a connection speaks HTTP/2; undefined while more bytes are needed to tell. */
export function isHttp2(bytes: Uint8Array): boolean | undefined {
  const length = Math.min(bytes.length, PREFACE.length);
  if (PREFACE.compare(bytes, 0, length, 0, length) !== 0) return false;
  return bytes.length >= PREFACE.length ? true : undefined;
}
