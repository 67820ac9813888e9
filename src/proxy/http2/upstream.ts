import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  constants,
  type Settings,
} from "node:http2";
import { connect as connectTcp, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Trailer } from "../http1/wire-trailers.ts";
import { Framing, type Head } from "../http1/wire-head.ts";
import { Field } from "../http1/wire-names.ts";
import type { BackendState, KeptConnection } from "../engine/backend.ts";
import { latin1 } from "../engine/channel.ts";
import type { EngineCore, Upstream, UpstreamOwner } from "../engine/ports.ts";
import type { Swept } from "../engine/sweep.ts";
import { tlsSocket, type UpstreamTls } from "../engine/upstream-tls.ts";
import type { RoutePlan } from "../plan.ts";
import { lasting } from "./piece.ts";
import { addLines, addTrailers, newFields, readResponse, readTrailers } from "./wire-response.ts";

/** Bytes that a backend may send before anybody takes them: of one stream, of all. */
const STREAM_WINDOW = 262_144;
const SESSION_WINDOW = 4_194_304;
/** Streams at once on a connection whose backend has not said how many it takes. */
const STREAMS = 100;
/** Milliseconds that a connection may take to close in good order. */
const CLOSE_WITHIN = 5000;

/** A stream to a backend over HTTP/2, or a kept session with room for one more. */
export function acquireHttp2(
  engine: EngineCore,
  exchange: UpstreamOwner,
  backend: BackendState,
  route: RoutePlan,
): Upstream {
  const { upstream, timeouts } = route.settings;
  const name = upstream.tls === false ? "" : (upstream.tls.serverName ?? exchange.host);
  let session = (backend.sessions as BackendSession[]).find((one) => one.takes(upstream.tls, name));
  const fresh = session === undefined;
  session ??= new BackendSession(engine, backend, upstream.tls, name, upstream.idle);
  const made = new UpstreamStream(engine, session, exchange, !fresh);
  made.deadline = session.ready ? Number.POSITIVE_INFINITY : engine.now + timeouts.connect;
  return made;
}

/** One connection to a backend over HTTP/2, shared by many exchanges. */
class BackendSession implements KeptConnection, Swept {
  readonly backend: BackendState;
  readonly #engine: EngineCore;
  readonly #tls: UpstreamTls | false;
  readonly #name: string;
  readonly #idle: number;
  readonly #socket: Socket | TLSSocket;
  readonly session: ClientHttp2Session;
  readonly streams = new Set<UpstreamStream>();
  ready = false;
  closed = false;
  error: string | undefined;
  deadline = Number.POSITIVE_INFINITY;
  sweepIndex = -1;

  constructor(
    engine: EngineCore,
    backend: BackendState,
    tls: UpstreamTls | false,
    name: string,
    idle: number,
  ) {
    this.#engine = engine;
    this.backend = backend;
    this.#tls = tls;
    this.#name = name;
    this.#idle = idle;
    this.#socket =
      tls === false
        ? connectTcp({ host: backend.address, port: backend.port, noDelay: true })
        : tlsSocket(backend, tls, name, "h2");
    this.#socket.on("error", (error: NodeJS.ErrnoException) => {
      this.error ??= error.code ?? error.message;
    });
    this.session = connectHttp2(`${tls === false ? "http" : "https"}://backend`, {
      createConnection: () => this.#socket,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW },
    });
    this.session.on("connect", () => this.#connected());
    this.session.on("error", (error: NodeJS.ErrnoException) => {
      this.error ??= error.code ?? error.message;
    });
    this.session.on("goaway", () => this.#retire());
    this.session.on("close", () => this.#gone());
    backend.sessions.push(this);
    backend.connections++;
    engine.sweep.add(this);
  }

  /** Whether it goes the same way and has room for one more stream. */
  takes(tls: UpstreamTls | false, name: string): boolean {
    if (this.closed || this.#name !== name) return false;
    if (this.#tls !== tls && JSON.stringify(this.#tls) !== JSON.stringify(tls)) return false;
    const most = this.ready ? maxStreams(this.session.remoteSettings) : STREAMS;
    return this.streams.size < most;
  }

  #connected(): void {
    this.#engine.tick();
    if (this.#tls !== false && (this.#socket as TLSSocket).alpnProtocol !== "h2") {
      this.error = "the backend does not speak h2";
      this.session.destroy();
      return;
    }
    if (this.session.destroyed) return;
    this.ready = true;
    this.session.setLocalWindowSize(SESSION_WINDOW);
    for (const stream of this.streams) stream.connected();
  }

  leave(stream: UpstreamStream): void {
    this.streams.delete(stream);
    if (this.streams.size > 0 || this.closed) return;
    if (this.backend.gone) this.close();
    else this.deadline = this.#engine.now + this.#idle;
  }

  join(stream: UpstreamStream): void {
    this.streams.add(stream);
    this.deadline = Number.POSITIVE_INFINITY;
  }

  onDeadline(): void {
    if (this.session.closed) this.#destroy();
    else {
      this.close();
      this.deadline = this.#engine.now + CLOSE_WITHIN;
    }
  }

  /** Something came, of whatever stream. */
  heard(): void {
    this.#heardAt = this.#engine.now;
  }
  #heardAt = 0;

  /**
   * A stream has waited in vain since then. Where nothing else was heard either, nobody else shall wait here: after an
   * error that nghttp2 answers by itself, a connection neither reads nor ends.
   */
  inVain(since: number): void {
    if (this.#heardAt <= since) this.#retire();
  }

  #destroy(): void {
    this.session.destroy();
    this.#socket.destroy();
    this.#gone();
  }

  /** Takes nothing new; what is under way is finished. */
  #retire(): void {
    const at = this.backend.sessions.indexOf(this);
    if (at >= 0) this.backend.sessions.splice(at, 1);
  }

  close(): void {
    this.#retire();
    if (this.ready) this.session.close();
    else this.session.destroy();
  }

  #gone(): void {
    if (this.closed) return;
    this.closed = true;
    this.#retire();
    this.#engine.sweep.remove(this);
    this.backend.connections--;
    this.#engine.tick();
    for (const stream of this.streams) stream.lost(this.error);
  }
}

const maxStreams = (settings: Settings): number => settings.maxConcurrentStreams ?? STREAMS;

/** One request to a backend over HTTP/2. */
class UpstreamStream implements Upstream, Swept {
  readonly backend: BackendState;
  readonly #engine: EngineCore;
  readonly #session: BackendSession;
  #exchange: UpstreamOwner | undefined;
  #stream: ClientHttp2Stream | undefined;
  readonly uses: number;
  sent = false;
  deadline = Number.POSITIVE_INFINITY;
  sweepIndex = -1;
  #fields = newFields();
  /** A field with one value came twice: which of them counts is not the proxy's to say. */
  #doubled = false;
  /** What came of the body before the stream was opened. */
  #early = "";
  #ended = false;
  readonly #trailers = newFields();
  #answerTrailers: readonly Trailer[] = [];
  #answered = false;
  #paused = false;
  /** When it was opened, or something of it last came. */
  #since = 0;

  constructor(engine: EngineCore, session: BackendSession, exchange: UpstreamOwner, kept: boolean) {
    this.#engine = engine;
    this.#session = session;
    this.#exchange = exchange;
    this.backend = session.backend;
    this.uses = kept ? 1 : 0;
    session.join(this);
    engine.sweep.add(this);
  }

  get ready(): boolean {
    return this.#session.ready && !this.#session.closed;
  }

  head(head: Head, target: string, host: string, fields: string): void {
    const { connection } = this.#exchange!;
    this.#fields = newFields({
      ":method": head.method,
      ":scheme": connection.https ? "https" : "http",
      ":authority": host,
      ":path": target,
    });
    if (head.framing === Framing.length) this.#fields["content-length"] = String(head.length);
    // The one word of TE that HTTP/2 knows, and that gRPC asks for (RFC 9113 8.2.2).
    if (/(^|,)\s*trailers\s*(,|;|$)/i.test(head.all(Field.te) ?? "")) this.#fields["te"] = "trailers";
    this.#doubled = !addLines(this.#fields, fields);
  }

  body(bytes: Uint8Array, start: number, end: number, stable: boolean): boolean {
    if (this.#stream === undefined && this.ready) this.#open();
    if (this.#stream === undefined) {
      this.#early += latin1(bytes, start, end);
      return this.#early.length < STREAM_WINDOW || this.#pause();
    }
    this.#awake();
    return this.#stream.write(lasting(this.#stream, bytes.subarray(start, end), stable)) || this.#pause();
  }

  text(body: string): void {
    if (this.#stream === undefined) this.#early += body;
    else if (!this.#stream.write(body, "latin1")) this.#paused = true;
  }

  end(trailers: readonly Trailer[]): void {
    this.#ended = true;
    if (!addTrailers(this.#trailers, trailers)) this.#doubled = true;
    if (this.#stream === undefined) return;
    if (this.#doubled) this.#unsendable("duplicate-field");
    else this.#stream.end();
  }

  flush(): boolean {
    if (this.#stream === undefined && this.ready) this.#open();
    return !this.#paused;
  }

  #pause(): false {
    this.#paused = true;
    return false;
  }

  #open(): void {
    if (this.#doubled) {
      this.#unsendable("duplicate-field");
      return;
    }
    const bodiless = this.#ended && this.#early === "" && Object.keys(this.#trailers).length === 0;
    this.sent = true;
    this.#since = this.#engine.now;
    let stream: ClientHttp2Stream;
    try {
      stream = this.#session.session.request(this.#fields, {
        endStream: bodiless,
        waitForTrailers: !bodiless,
      });
    } catch (error) {
      this.sent = false;
      const code = (error as NodeJS.ErrnoException).code ?? String(error);
      // A session that has just gone is the backend's; everything else is in the request.
      if (this.#session.session.closed || this.#session.session.destroyed)
        queueMicrotask(() => this.lost(code));
      else this.#unsendable(code);
      return;
    }
    this.#stream = stream;
    stream.on("error", () => undefined);
    stream.on("wantTrailers", () => {
      try {
        stream.sendTrailers(this.#trailers);
      } catch (error) {
        this.#unsendable((error as NodeJS.ErrnoException).code ?? String(error));
      }
    });
    stream.on("headers", (_fields: unknown, _flags: number, raw?: readonly string[]) =>
      this.#interim(raw ?? []),
    );
    stream.on("response", (_fields: unknown, flags: number, raw?: readonly string[]) =>
      this.#response(flags, raw ?? []),
    );
    stream.on("trailers", (_fields: unknown, _flags: number, raw?: readonly string[]) =>
      this.#gotTrailers(raw ?? []),
    );
    stream.on("data", (chunk: Buffer) => this.#data(chunk));
    stream.on("end", () => this.#end());
    stream.on("drain", () => this.#drained());
    stream.on("close", () => this.lost(undefined));
    this.#paused = this.#early !== "" && !stream.write(this.#early, "latin1");
    this.#early = "";
    if (this.#ended && !bodiless) stream.end();
  }

  /** The request is none that HTTP/2 can carry. Later: whoever sends it is not to find it answered meanwhile. */
  #unsendable(detail: string): void {
    queueMicrotask(() => this.#exchange?.upstreamFailed(this, "unsendable", detail));
  }

  /** The session stands. */
  connected(): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    exchange.connected(this);
    this.#open();
    // Also where it was paused before this connection was asked for.
    if (!this.#paused) exchange.downstream.resumeRequest();
  }

  #drained(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#exchange?.downstream.resumeRequest();
  }

  /** Something went through: patience begins anew. */
  #awake(): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    this.deadline = this.#engine.now + (exchange.responding ? exchange.quiet() : exchange.patience());
  }

  #came(): void {
    this.#session.heard();
    this.#since = this.#engine.now;
  }

  #interim(raw: readonly string[]): void {
    const exchange = this.#exchange;
    this.#came();
    if (exchange === undefined) return;
    const reading = readResponse(raw, false, false, this.#engine.names, this.#engine.responseLimits);
    if (reading.ok) exchange.interim(reading.head);
  }

  #response(flags: number, raw: readonly string[]): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    this.#engine.tick();
    this.#came();
    const ended = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
    const { names, responseLimits } = this.#engine;
    const reading = readResponse(raw, ended, exchange.method === "HEAD", names, responseLimits);
    if (!reading.ok) {
      exchange.upstreamFailed(this, "invalid", reading.fault);
      return;
    }
    this.#answered = true;
    if (!exchange.responseHead(reading.head, this)) return;
    this.#awake();
    if (!ended) exchange.downstream.flush();
  }

  #data(chunk: Buffer): void {
    const exchange = this.#exchange;
    if (exchange === undefined || !this.#answered) return;
    this.#engine.tick();
    this.#came();
    const flowing = exchange.responseBody(chunk, 0, chunk.length, true);
    this.#awake();
    exchange.downstream.flush();
    if (!flowing && this.#exchange !== undefined) this.#stream?.pause();
  }

  #gotTrailers(raw: readonly string[]): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    const reading = readTrailers(raw, this.#engine.names, this.#engine.responseLimits);
    if (reading.ok) this.#answerTrailers = reading.trailers;
    else exchange.upstreamFailed(this, "invalid", reading.fault);
  }

  #end(): void {
    const exchange = this.#exchange;
    // A reset ends the readable side too: then the close that follows tells.
    if (exchange === undefined || !this.#answered || (this.#stream?.rstCode ?? 0) !== 0) return;
    this.#engine.tick();
    const whole = exchange.requestDone;
    this.#leave();
    exchange.responseEnd(this.#answerTrailers);
    if (!whole) this.#reset();
  }

  /** Not close() while the request is being sent: that would end it in good order first. */
  #reset(): void {
    const stream = this.#stream;
    if (stream === undefined || stream.destroyed) return;
    if (stream.writableEnded) stream.close(constants.NGHTTP2_CANCEL);
    else stream.destroy(new Error("given up"));
  }

  #leave(): void {
    this.#exchange = undefined;
    this.#engine.sweep.remove(this);
    this.#session.leave(this);
  }

  /** The stream or its session is gone. */
  lost(error: string | undefined): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    this.#engine.tick();
    const code = this.#stream?.rstCode ?? 0;
    if (!this.sent) {
      exchange.upstreamFailed(this, this.#session.ready ? "lost" : "connect", error);
      return;
    }
    // Refused streams were not looked at (RFC 9113 8.7), so any request may be sent again.
    if (code === constants.NGHTTP2_REFUSED_STREAM) this.sent = false;
    exchange.upstreamFailed(this, "lost", code === 0 ? error : `reset with code ${code}`);
  }

  onDeadline(): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    const why = !this.ready ? "connect-timeout" : exchange.responding ? "idle-timeout" : "response-timeout";
    if (this.sent) this.#session.inVain(this.#since);
    exchange.upstreamFailed(this, why, undefined);
  }

  resumeResponse(): void {
    this.#stream?.resume();
  }

  close(): void {
    if (this.#exchange !== undefined) this.#leave();
    // A connection that cannot be made is of no use to those who wait for it either.
    if (!this.#session.ready && this.#session.streams.size === 0) this.#session.close();
    this.#reset();
  }

  // Upgrades do not come here: the exchange offers none to such a backend.
  tunnelWrite(): boolean {
    return true;
  }
  tunnelEnd(): void {
    this.close();
  }
}
