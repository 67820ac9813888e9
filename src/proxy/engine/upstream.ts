import { Http1Reader, Signal } from "../http1/machine.ts";
import type { Trailer } from "../http1/wire-trailers.ts";
import { Framing, type Head } from "../http1/wire-head.ts";
import type { BackendState } from "./backend.ts";
import { type Channel, type ChannelHandler, latin1 } from "./channel.ts";
import { chunkLine } from "./lines.ts";
import type { EngineCore, Upstream, UpstreamOwner } from "./ports.ts";
import { http1Head } from "./request.ts";
import type { Swept } from "./sweep.ts";

/** Text collected before it is written, at most about this much. */
const COALESCE = 32_768;
const SMALL = 8_192;

/** A connection to a backend over HTTP/1.1: one exchange at a time, kept between them. */
export class UpstreamConnection implements ChannelHandler, Swept, Upstream {
  readonly backend: BackendState;
  readonly key: string;
  readonly #engine: EngineCore;
  readonly #reader: Http1Reader;
  readonly #idleFor: number;
  channel!: Channel;
  exchange: UpstreamOwner | undefined;
  /** Milliseconds on the engine's clock. */
  deadline = Number.POSITIVE_INFINITY;
  sweepIndex = -1;
  ready = false;
  closed = false;
  /** Whether a byte of the current request has been written. */
  sent = false;
  /** Exchanges finished on this connection. */
  uses = 0;
  /** Not yet written: head, small pieces of the body. */
  out = "";
  #chunked = false;
  #pausedRequest = false;
  #pausedResponse = false;
  #tunnel = false;
  #keep = true;

  constructor(engine: EngineCore, backend: BackendState, key: string, idleFor: number) {
    this.#engine = engine;
    this.backend = backend;
    this.key = key;
    this.#idleFor = idleFor;
    this.#reader = new Http1Reader("response", engine.names, engine.responseLimits, latin1);
    backend.connections++;
    engine.sweep.add(this);
  }

  /** Takes a new exchange: a fresh connection or one from the pool. */
  start(exchange: UpstreamOwner, deadline: number): void {
    this.exchange = exchange;
    this.sent = false;
    this.#keep = true;
    this.deadline = deadline;
    this.#reader.toHead = exchange.head.method === "HEAD";
    this.#reader.upgradeAsked = exchange.upgrading;
  }

  head(head: Head, target: string, host: string, fields: string): void {
    this.#chunked = head.framing === Framing.chunked;
    this.out += http1Head(head, target, host, fields, this.exchange!.upgrading);
  }

  text(body: string): void {
    this.out += this.#chunked ? `${chunkLine(body.length)}${body}\r\n` : body;
  }

  end(trailers: readonly Trailer[]): void {
    if (!this.#chunked) return;
    let last = "0\r\n";
    for (const { name, value } of trailers) last += `${name}: ${value}\r\n`;
    this.out += `${last}\r\n`;
  }

  /** A piece of the request's body. False: pause until resumeRequest. */
  body(bytes: Uint8Array, start: number, end: number, stable: boolean): boolean {
    const chunked = this.#chunked;
    const length = end - start;
    if (length < SMALL || !this.ready) {
      const text = latin1(bytes, start, end);
      this.out += chunked ? `${chunkLine(length)}${text}\r\n` : text;
      if (this.out.length < COALESCE) return true;
      return this.ready ? this.flush() : this.#pause();
    }
    const piece = stable ? bytes.subarray(start, end) : Uint8Array.prototype.slice.call(bytes, start, end);
    const head = chunked ? this.out + chunkLine(length) : this.out;
    this.out = "";
    this.sent = true;
    return this.channel.write(head, piece, chunked ? "\r\n" : "") || this.#pause();
  }

  flush(): boolean {
    if (!this.ready || this.out === "") return !this.#pausedRequest;
    const { out } = this;
    this.out = "";
    this.sent = true;
    return this.channel.write(out) || this.#pause();
  }

  #pause(): false {
    this.#pausedRequest = true;
    return false;
  }

  resumeResponse(): void {
    if (!this.#pausedResponse) return;
    this.#pausedResponse = false;
    this.channel.resume();
  }

  tunnelWrite(bytes: Uint8Array, stable: boolean): boolean {
    return this.channel.write("", bytes, "", stable) || this.#pause();
  }

  /** The client's side of a tunnel ended. */
  tunnelEnd(): void {
    this.channel.end();
  }

  onConnect(): void {
    this.ready = true;
    const { exchange } = this;
    if (exchange === undefined) {
      this.close();
      return;
    }
    exchange.connected(this);
    // Also where it was paused before this connection was asked for.
    this.#pausedRequest = false;
    if (this.flush()) exchange.downstream.resumeRequest();
  }

  onDrain(): void {
    if (!this.#pausedRequest) return;
    this.#pausedRequest = false;
    this.exchange?.downstream.resumeRequest();
  }

  onBytes(bytes: Buffer, length: number, stable: boolean): void {
    const { exchange } = this;
    if (exchange === undefined) {
      // A backend that speaks unasked, or closes with a 408: this connection is not used again.
      this.close();
      return;
    }
    const { downstream } = exchange;
    const engine = this.#engine;
    engine.tick();
    if (this.#tunnel) {
      exchange.tunnelled(engine.now);
      this.channel.passing(length);
      if (!downstream.tunnelWrite(bytes.subarray(0, length), stable)) this.#pauseResponse();
      return;
    }
    const reader = this.#reader;
    reader.feed(bytes, 0, length);
    let flowing = true;
    for (;;) {
      const signal = reader.next();
      if (signal === Signal.body) {
        // Bytes that the reader had to copy are stable in any case.
        const steady = stable || reader.bytes !== bytes;
        if (!exchange.responseBody(reader.bytes, reader.bodyStart, reader.bodyEnd, steady)) flowing = false;
      } else if (signal === Signal.head) {
        if (!this.#head(exchange)) return;
        if (this.#tunnel) break;
      } else if (signal === Signal.end) {
        // An interim response is a message of its own; the final one follows.
        if (reader.head.status < 200) continue;
        this.#end(exchange, flowing);
        return;
      } else if (signal === Signal.fault) {
        exchange.upstreamFailed(this, "invalid", reader.fault);
        return;
      } else break;
      if (this.exchange !== exchange) return;
    }
    if (reader.head.framing !== Framing.none && exchange.responding) this.channel.dedicate(true);
    // What comes before the response's head gives it no more time.
    if (exchange.responding) this.deadline = engine.now + exchange.quiet();
    downstream.flush();
    if (!flowing) this.#pauseResponse();
  }

  /** False where the exchange has left this connection. */
  #head(exchange: UpstreamOwner): boolean {
    const { head } = this.#reader;
    if (head.status === 101) {
      this.#tunnel = true;
      exchange.switched(head, this.#reader.takeRest());
      return true;
    }
    if (head.status < 200) {
      exchange.interim(head);
      return true;
    }
    this.#keep = head.keepAlive;
    return exchange.responseHead(head, this);
  }

  #end(exchange: UpstreamOwner, flowing: boolean): void {
    const reader = this.#reader;
    const extra = reader.pending > 0;
    reader.hold();
    this.exchange = undefined;
    this.uses++;
    const whole = exchange.requestDone;
    // Read no more while what was read may still be written elsewhere.
    this.channel.dedicate(false, flowing);
    if (this.#keep && whole && !extra && !this.closed && this.out === "" && this.#idleFor > 0) this.#park();
    else this.close();
    exchange.responseEnd(reader.trailers);
  }

  #park(): void {
    const { backend } = this;
    if (backend.gone) {
      this.close();
      return;
    }
    this.deadline = this.#engine.now + this.#idleFor;
    if (this.#pausedResponse) this.resumeResponse();
    backend.idle.push(this);
  }

  #pauseResponse(): void {
    if (this.exchange === undefined || this.closed) return;
    this.#pausedResponse = true;
    this.channel.pause();
  }

  onEnd(): void {
    const { exchange } = this;
    if (exchange === undefined) {
      this.close();
      return;
    }
    if (this.#tunnel) {
      exchange.downstream.tunnelEnd();
      return;
    }
    this.#engine.tick();
    const signal = this.#reader.finish();
    if (signal === Signal.end) {
      this.#keep = false;
      this.#end(exchange, true);
    } else exchange.upstreamFailed(this, "lost", signal === Signal.fault ? this.#reader.fault : undefined);
  }

  onClose(error: string | undefined): void {
    const wasReady = this.ready;
    this.#forget();
    const { exchange } = this;
    this.exchange = undefined;
    if (exchange === undefined) return;
    this.#engine.tick();
    if (this.#tunnel) exchange.tunnelClosed();
    else exchange.upstreamFailed(this, wasReady ? "lost" : "connect", error);
  }

  onDeadline(): void {
    const { exchange } = this;
    if (exchange === undefined) {
      this.close();
      return;
    }
    const why = !this.ready
      ? "connect-timeout"
      : exchange.responding || this.#tunnel
        ? "idle-timeout"
        : "response-timeout";
    exchange.upstreamFailed(this, why, undefined);
  }

  /** Closes at once and tells nobody. */
  close(): void {
    this.exchange = undefined;
    this.#forget();
    this.channel.destroy();
  }

  #forget(): void {
    if (this.closed) return;
    this.closed = true;
    this.ready = false;
    this.#engine.sweep.remove(this);
    this.backend.connections--;
    const at = this.backend.idle.indexOf(this);
    if (at >= 0) this.backend.idle.splice(at, 1);
  }
}
