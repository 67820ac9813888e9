import { Http1Reader, Signal } from "../http1/machine.ts";
import type { Trailer } from "../http1/wire-trailers.ts";
import { FAULTS, type Fault } from "../http1/wire-faults.ts";
import { Framing, type FramingKind } from "../http1/wire-head.ts";
import type { ServicePlan } from "../plan.ts";
import { type Channel, type ChannelHandler, latin1 } from "./channel.ts";
import type { ClientInfo } from "./client-info.ts";
import type { Downstream } from "./downstream.ts";
import { Exchange } from "./exchange.ts";
import { chunkLine } from "./lines.ts";
import type { Closable, EngineCore, ListenerCore } from "./ports.ts";
import { phraseOf } from "./replies.ts";
import type { Swept } from "./sweep.ts";

const COALESCE = 32_768;
const SMALL = 8_192;
/** After an answer that ends the connection: how long the client may still send, so that it reads the answer. */
const LINGER_MS = 2_000;

const Mode = { http: 0, tunnel: 1, lingering: 2, closed: 3 } as const;

/** A client's connection over HTTP/1.1: one exchange at a time, pipelined requests wait. */
export class ClientConnection implements ChannelHandler, Downstream, Swept, Closable {
  readonly #engine: EngineCore;
  readonly #listener: ListenerCore;
  readonly #reader: Http1Reader;
  readonly #channel: Channel;
  readonly info: ClientInfo;
  version: 0 | 1 = 1;
  requests = 0;
  deadline: number;
  sweepIndex = -1;
  exchange: Exchange | undefined;
  #mode: number = Mode.http;
  #pumping = false;
  /** Whether the current request's last byte has been read. */
  #requestDone = true;
  #requestPaused = false;
  #channelPaused = false;
  #responsePaused = false;
  #closing = false;
  #peerEnded = false;
  #chunked = false;
  /** The end of the connection is that of the response. */
  #untilClose = false;
  #out = "";

  constructor(engine: EngineCore, listener: ListenerCore, channel: Channel, info: ClientInfo) {
    this.#engine = engine;
    this.#listener = listener;
    this.#channel = channel;
    this.info = info;
    const { limits, timeouts } = listener.service.settings;
    this.#reader = new Http1Reader(
      "request",
      engine.names,
      { head: limits.head, fields: limits.headers, bodyOnGet: limits.bodyOnGet },
      latin1,
    );
    this.deadline = engine.now + timeouts.head;
    engine.sweep.add(this);
    listener.clients.add(this);
  }

  get #service(): ServicePlan {
    return this.#listener.service;
  }

  /** Whether nothing is under way. */
  get idle(): boolean {
    return this.exchange === undefined && this.#mode === Mode.http && this.#reader.pending === 0;
  }

  onConnect(): void {
    // Clients come connected.
  }

  onBytes(bytes: Buffer, length: number, stable: boolean): void {
    const engine = this.#engine;
    engine.tick();
    if (this.#mode === Mode.tunnel) {
      const { exchange } = this;
      const upstream = exchange?.upstream;
      if (exchange === undefined || upstream === undefined) return;
      exchange.tunnelled(engine.now);
      this.#channel.passing(length);
      if (!upstream.tunnelWrite(bytes.subarray(0, length), stable)) this.pauseRequest();
      return;
    }
    if (this.#mode !== Mode.http) return;
    const reader = this.#reader;
    reader.feed(bytes, 0, length);
    if (this.exchange !== undefined && this.#requestDone) {
      // Pipelined: kept, and no more is read until this exchange is over.
      reader.hold();
      this.#pauseChannel();
      return;
    }
    if (this.exchange === undefined && this.#requestDone) {
      this.#requestDone = false;
      this.deadline = engine.now + this.#service.settings.timeouts.head;
    } else if (this.exchange !== undefined) this.deadline = engine.now + this.#service.settings.timeouts.body;
    this.#pump(stable ? bytes : undefined);
  }

  /** Reads what the reader holds. `steady`: the chunk whose bytes stay. */
  #pump(steady: Buffer | undefined): void {
    if (this.#pumping) return;
    this.#pumping = true;
    const reader = this.#reader;
    for (;;) {
      const signal = reader.next();
      if (signal === Signal.head) {
        this.#begin();
      } else if (signal === Signal.body) {
        const { exchange } = this;
        const kept = reader.bytes === steady;
        if (exchange !== undefined && !exchange.finished) {
          if (!exchange.requestBody(reader.bytes, reader.bodyStart, reader.bodyEnd, kept))
            this.pauseRequest();
        }
      } else if (signal === Signal.end) {
        this.#requestDone = true;
        const { exchange } = this;
        if (exchange !== undefined && !exchange.finished) {
          exchange.requestEnd(reader.trailers);
          this.deadline = exchange.totalDeadline;
        }
        if (this.exchange?.finished) this.#next();
        if (this.exchange !== undefined) break;
        if (this.#closing) break;
        if (reader.pending === 0) {
          this.deadline = this.#engine.now + this.#service.settings.timeouts.idle;
          break;
        }
        this.#requestDone = false;
      } else if (signal === Signal.fault) {
        this.#faulty(reader.fault!);
        break;
      } else break;
      if (this.#mode !== Mode.http) break;
    }
    this.#pumping = false;
    const { exchange } = this;
    if (reader.pending > 0) {
      reader.hold();
      if (exchange !== undefined) this.#pauseChannel();
    }
    if (exchange !== undefined && !exchange.finished) {
      if (!this.#requestDone) this.#channel.dedicate(true);
      exchange.flushRequest();
    }
    if (this.exchange?.finished) this.#next();
    this.flush();
  }

  #begin(): void {
    const { head } = this.#reader;
    const exchange = new Exchange(this.#engine, this.#service, this.info, this, head);
    this.exchange = exchange;
    this.requests++;
    this.version = head.minor === 0 ? 0 : 1;
    // Whoever asks for a tunnel may send anything after it.
    this.#closing = !head.keepAlive || this.#listener.draining || head.method === "CONNECT";
    this.deadline = this.#engine.now + this.#service.settings.timeouts.body;
    exchange.begin();
  }

  #faulty(fault: Fault): void {
    const engine = this.#engine;
    const { exchange } = this;
    this.#closing = true;
    if (exchange !== undefined && !exchange.finished) {
      exchange.refuse(fault);
      if (this.#mode === Mode.http) this.#finish();
      return;
    }
    engine.event(`refused.${fault}`);
    const [status, text] = FAULTS[fault];
    const body = `${status} ${phraseOf(status)}: ${text}\n`;
    this.#out +=
      `HTTP/1.1 ${status} ${phraseOf(status)}\r\nContent-Type: text/plain\r\nContent-Length: ${body.length}\r\n` +
      `Connection: close\r\n\r\n${body}`;
    engine.faulty(this.#service, this.info, status, fault, body.length);
    this.#finish();
  }

  /** The exchange is over: the next request, or the end. */
  #next(): void {
    if (this.exchange === undefined || !this.exchange.finished) return;
    this.exchange = undefined;
    if (this.#mode !== Mode.http) return;
    if (this.#closing || !this.#requestDone || this.#listener.draining) {
      this.#finish();
      return;
    }
    this.#channel.dedicate(false);
    this.deadline = this.#engine.now + this.#service.settings.timeouts.idle;
    this.#requestPaused = false;
    this.#resumeChannel();
    if (this.#reader.pending > 0 && !this.#pumping) {
      this.#requestDone = false;
      this.deadline = this.#engine.now + this.#service.settings.timeouts.head;
      this.#pump(undefined);
    } else if (this.#peerEnded && this.#reader.pending === 0) this.#finish();
  }

  /** Sends what is left and FIN; what the client still sends is thrown away for a while. */
  #finish(): void {
    this.flush();
    if (this.#mode === Mode.closed) return;
    this.#mode = Mode.lingering;
    this.deadline =
      this.#engine.now + (this.#channel.pending > 0 ? this.#service.settings.timeouts.write : LINGER_MS);
    this.#channel.end();
    if (this.#peerEnded && this.#channel.pending === 0) return;
    this.#resumeChannel();
  }

  // Downstream

  sendInterim(status: number, reason: string, lines: string): void {
    if (this.version === 0) return;
    this.#out += `HTTP/1.1 ${status} ${reason}\r\n${lines}\r\n`;
    this.flush();
  }

  sendSwitch(reason: string, lines: string): void {
    const protocol = this.exchange?.head.upgrade ?? "websocket";
    this.sendInterim(101, reason, `${lines}Connection: Upgrade\r\nUpgrade: ${protocol}\r\n`);
  }

  sendHead(status: number, reason: string, lines: string, framing: FramingKind, length: number): void {
    let out = `HTTP/1.1 ${status} ${reason}\r\n${lines}`;
    this.#chunked = false;
    if (framing === Framing.length || (length >= 0 && status >= 200 && status !== 204)) {
      out += `Content-Length: ${length}\r\n`;
    } else if (framing !== Framing.none) {
      if (this.version === 1) {
        this.#chunked = true;
        out += "Transfer-Encoding: chunked\r\n";
      } else this.#untilClose = this.#closing = true;
    }
    // An answer before the request's end: what is left of it is not worth reading.
    if (!this.#requestDone && this.#reader.head.framing !== Framing.none) this.#closing = true;
    if (this.#closing || this.#listener.draining) out += "Connection: close\r\n";
    else if (this.version === 0) out += "Connection: keep-alive\r\n";
    this.#out += `${out}\r\n`;
  }

  sendBody(bytes: Uint8Array, start: number, end: number, stable: boolean): boolean {
    const length = end - start;
    if (length < SMALL) {
      const text = latin1(bytes, start, end);
      this.#out += this.#chunked ? `${chunkLine(length)}${text}\r\n` : text;
      if (this.#out.length < COALESCE) return true;
      return this.#write(this.#out);
    }
    const piece = stable ? bytes.subarray(start, end) : Uint8Array.prototype.slice.call(bytes, start, end);
    const head = this.#chunked ? this.#out + chunkLine(length) : this.#out;
    this.#out = "";
    return this.#sent(this.#channel.write(head, piece, this.#chunked ? "\r\n" : ""));
  }

  sendEnd(trailers: readonly Trailer[]): void {
    if (this.#chunked) {
      let last = "0\r\n";
      for (const { name, value } of trailers) last += `${name}: ${value}\r\n`;
      this.#out += `${last}\r\n`;
    }
  }

  flush(): void {
    if (this.#out !== "") this.#write(this.#out);
    if (!this.#pumping && this.exchange?.finished) this.#next();
  }

  #write(out: string): boolean {
    this.#out = "";
    return this.#sent(this.#channel.write(out));
  }

  #sent(gone: boolean): boolean {
    if (gone) return true;
    if (!this.#responsePaused) {
      this.#responsePaused = true;
      if (this.#requestDone) this.deadline = this.#engine.now + this.#service.settings.timeouts.write;
    }
    return false;
  }

  onDrain(): void {
    if (this.#mode === Mode.lingering) {
      this.deadline = this.#engine.now + LINGER_MS;
      return;
    }
    if (!this.#responsePaused) return;
    this.#responsePaused = false;
    this.#engine.tick();
    if (this.exchange !== undefined) {
      // The whole time is that of an answer: a tunnel has none.
      if (this.#mode === Mode.tunnel) this.deadline = Number.POSITIVE_INFINITY;
      else if (this.#requestDone) this.deadline = this.exchange.totalDeadline;
      this.exchange.resumeResponse();
    }
  }

  breakOff(): void {
    // The client must not take what it has for the whole: a reset where nothing else tells it.
    this.flush();
    const reset = this.#untilClose && this.#mode === Mode.http;
    this.#close();
    if (reset) this.#channel.reset();
    else this.#channel.destroy();
  }

  pauseRequest(): void {
    this.#requestPaused = true;
    this.#pauseChannel();
  }

  resumeRequest(): void {
    if (!this.#requestPaused) return;
    this.#requestPaused = false;
    if (this.#mode === Mode.http) {
      // What is pipelined waits for the end of this exchange.
      if (this.exchange !== undefined && this.#requestDone) return;
      this.deadline = this.#engine.now + this.#service.settings.timeouts.body;
    }
    this.#resumeChannel();
  }

  #pauseChannel(): void {
    if (this.#channelPaused) return;
    this.#channelPaused = true;
    this.#channel.pause();
  }

  #resumeChannel(): void {
    if (!this.#channelPaused) return;
    this.#channelPaused = false;
    this.#channel.resume();
  }

  tunnel(rest: Uint8Array): void {
    this.#mode = Mode.tunnel;
    this.deadline = Number.POSITIVE_INFINITY;
    this.flush();
    const early = this.#reader.takeRest();
    if (rest.length > 0) this.#channel.write("", rest);
    if (early.length > 0) this.exchange?.upstream?.tunnelWrite(early, true);
    this.#requestPaused = false;
    this.#resumeChannel();
  }

  tunnelWrite(bytes: Uint8Array, stable: boolean): boolean {
    return this.#sent(this.#channel.write("", bytes, "", stable));
  }

  tunnelEnd(): void {
    this.#channel.end();
  }

  // From the channel and the sweep

  onEnd(): void {
    this.#peerEnded = true;
    this.#engine.tick();
    if (this.#mode === Mode.tunnel) {
      this.exchange?.upstream?.tunnelEnd();
      return;
    }
    if (this.#mode !== Mode.http) return;
    // Half closed: what was asked is still answered.
    if (this.exchange !== undefined && this.#requestDone) {
      this.#closing = true;
      return;
    }
    if (this.#reader.finish() === Signal.fault) {
      if (this.exchange !== undefined) this.exchange.abort();
      else if (this.#reader.fault !== "truncated") {
        this.#faulty(this.#reader.fault!);
        return;
      }
    }
    this.#close();
    this.#channel.destroy();
  }

  onClose(): void {
    this.#engine.tick();
    this.#close();
  }

  #close(): void {
    if (this.#mode === Mode.closed) return;
    this.#mode = Mode.closed;
    this.#engine.sweep.remove(this);
    this.#listener.closed(this);
    const { exchange } = this;
    this.exchange = undefined;
    exchange?.abort();
  }

  onDeadline(): void {
    const { exchange } = this;
    const engine = this.#engine;
    if (this.#mode === Mode.http && exchange === undefined && this.#reader.within) {
      // A head that does not end in time: the slow client gets its answer and its end.
      engine.event("refused.head-timeout");
      this.#out += "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
      this.#finish();
      return;
    }
    if (this.#mode === Mode.http && exchange !== undefined && !exchange.finished) {
      if (exchange.totalDeadline <= engine.now) exchange.fail(504, "total-timeout");
      else if (!this.#requestDone) {
        // One that was told to wait is not slow.
        if (this.#requestPaused && !exchange.stalled()) {
          this.deadline = engine.now + this.#service.settings.timeouts.body;
          return;
        }
        this.#closing = true;
        exchange.fail(408, "body-timeout");
      } else if (this.#responsePaused) {
        engine.event("write-timeout");
        exchange.fail(504, "write-timeout");
      } else {
        this.deadline = exchange.totalDeadline;
        return;
      }
      if (this.#mode === Mode.http) this.#next();
      return;
    }
    this.#close();
    this.#channel.destroy();
  }

  /** The proxy goes away: idle connections at once, the others after their response. */
  drain(): void {
    if (this.idle) this.#finish();
    else this.#closing = true;
  }

  destroy(): void {
    this.#close();
    this.#channel.destroy();
  }
}
