import { createHash } from "node:crypto";
import { type ServerHttp2Stream, constants } from "node:http2";
import type { Trailer } from "../http1/wire-trailers.ts";
import { FAULTS, type Fault } from "../http1/wire-faults.ts";
import { Framing, type FramingKind, type Head } from "../http1/wire-head.ts";
import type { Downstream } from "../engine/downstream.ts";
import { Exchange } from "../engine/exchange.ts";
import type { EngineCore, ListenerCore } from "../engine/ports.ts";
import { phraseOf } from "../engine/replies.ts";
import type { Swept } from "../engine/sweep.ts";
import type { ClientInfo } from "../engine/client-info.ts";
import { lasting } from "./piece.ts";
import { addLines, addTrailers, newFields, readTrailers } from "./wire-response.ts";
import { type RequestReading, readRequest } from "./wire-request.ts";

/** The connection as its streams see it. */
export interface StreamOwner {
  readonly engine: EngineCore;
  readonly listener: ListenerCore;
  readonly info: ClientInfo;
  readonly requests: number;
  gone(stream: Http2Stream, resetByClient: boolean): void;
}

const WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** One request of a client over HTTP/2: a stream. */
export class Http2Stream implements Downstream, Swept {
  readonly version = 2;
  deadline: number;
  sweepIndex = -1;
  exchange: Exchange | undefined;
  readonly #owner: StreamOwner;
  readonly #stream: ServerHttp2Stream;
  #head: { status: number; lines: string; length: number; framing: FramingKind } | undefined;
  #trailers: readonly Trailer[] = [];
  #trailersWanted = false;
  #requestDone = false;
  #received = 0;
  /** Response is being written slower than it comes. */
  #blocked = false;
  #over = false;
  /** Nothing more of the request is read for now. */
  #paused = false;
  #answered = false;
  /** The key for the backend of an extended CONNECT (RFC 8441); empty where this is none. */
  #webSocketKey = "";
  #tunnel = false;

  constructor(owner: StreamOwner, stream: ServerHttp2Stream, raw: readonly string[], ended: boolean) {
    this.#owner = owner;
    this.#stream = stream;
    const { engine, listener } = owner;
    this.deadline = engine.now + listener.service.settings.timeouts.body;
    engine.sweep.add(this);
    stream.on("error", () => undefined);
    stream.on("close", () => this.#closed());
    stream.on("drain", () => this.#drained());
    stream.on("wantTrailers", () => {
      const fields = newFields();
      addTrailers(fields, this.#trailers);
      this.#attempt(() => stream.sendTrailers(fields));
    });
    const reading = this.#read(raw, ended);
    if (!reading.ok) {
      this.#faulty(reading.fault);
      return;
    }
    stream.on("trailers", (_fields: unknown, _flags: number, rawTrailers: string[]) =>
      this.#gotTrailers(rawTrailers),
    );
    stream.on("data", (chunk: Buffer) => this.#data(chunk));
    stream.on("end", () => this.#ended());
    const { head } = reading;
    const bodiless = head.method === "GET" || head.method === "HEAD" || head.method === "TRACE";
    if (head.framing === Framing.chunked && bodiless && !listener.service.settings.limits.bodyOnGet) {
      // Whether it has a body shows with what comes next; an empty one is none.
      head.framing = Framing.none;
      this.#waiting = head;
    } else this.#begin(head, ended);
  }
  #waiting: Head | undefined;

  get requests(): number {
    return this.#owner.requests;
  }

  #read(raw: readonly string[], ended: boolean): RequestReading {
    const { engine, listener } = this.#owner;
    const { limits } = listener.service.settings;
    const all = { head: limits.head, fields: limits.headers, bodyOnGet: limits.bodyOnGet };
    const protocol = raw.indexOf(":protocol");
    if (protocol < 0) return readRequest(raw, ended, engine.names, all);
    // RFC 8441 5: key and accept are not used here, but a backend over HTTP/1.1 wants them.
    const kept: string[] = [];
    for (let at = 0; at + 1 < raw.length; at += 2) {
      if (!raw[at]!.startsWith("sec-websocket-key")) kept.push(raw[at]!, raw[at + 1]!);
    }
    this.#webSocketKey = Buffer.from(engine.traceId().slice(0, 32), "hex").toString("base64");
    return readRequest(kept, ended, engine.names, all, [["sec-websocket-key", this.#webSocketKey]]);
  }

  #begin(head: Head, ended: boolean): void {
    const { engine, listener, info } = this.#owner;
    const exchange = new Exchange(engine, listener.service, info, this, head);
    this.exchange = exchange;
    exchange.begin();
    if (exchange.finished) return;
    if (exchange.grpc) this.deadline = exchange.totalDeadline;
    if (this.#webSocketKey !== "" && !exchange.upgrading) {
      exchange.reply(501, "no-websocket");
      return;
    }
    // What follows a request for a tunnel are the tunnel's bytes.
    if (ended || exchange.upgrading) this.#finishRequest([]);
    if (exchange.upgrading) this.#stream.pause();
    exchange.flushRequest();
  }

  #finishRequest(trailers: readonly Trailer[]): void {
    this.#requestDone = true;
    const { exchange } = this;
    if (exchange === undefined || exchange.finished) return;
    this.deadline = exchange.totalDeadline;
    exchange.requestEnd(trailers);
  }

  #data(chunk: Buffer): void {
    const { engine, listener } = this.#owner;
    engine.tick();
    if (this.#tunnel) {
      this.exchange?.tunnelled(engine.now);
      if (this.exchange?.upstream?.tunnelWrite(chunk, true) === false) this.pauseRequest();
      return;
    }
    if (this.#waiting !== undefined) {
      if (chunk.length > 0) this.#refuse("unexpected-body");
      return;
    }
    const { exchange } = this;
    if (exchange === undefined || exchange.finished) return;
    // A stream of gRPC may be silent; its own deadline rules.
    this.deadline = exchange.grpc
      ? exchange.totalDeadline
      : engine.now + listener.service.settings.timeouts.body;
    this.#received += chunk.length;
    const { head } = exchange;
    if (head.framing === Framing.length && this.#received > head.length) {
      this.#refuse("h2-length");
      return;
    }
    if (!exchange.requestBody(chunk, 0, chunk.length, true)) this.pauseRequest();
    exchange.flushRequest();
  }

  #gotTrailers(raw: readonly string[]): void {
    const { engine, listener } = this.#owner;
    const { limits } = listener.service.settings;
    const reading = readTrailers(raw, engine.names, {
      head: limits.head,
      fields: limits.headers,
      bodyOnGet: false,
    });
    if (reading.ok) this.#requestTrailers = reading.trailers;
    else this.#refuse(reading.fault);
  }
  #requestTrailers: readonly Trailer[] = [];

  #ended(): void {
    const { engine } = this.#owner;
    engine.tick();
    if (this.#tunnel) {
      this.exchange?.upstream?.tunnelEnd();
      return;
    }
    if (this.#waiting !== undefined) {
      const head = this.#waiting;
      this.#waiting = undefined;
      this.#begin(head, true);
      return;
    }
    if (this.#requestDone) return;
    const { exchange } = this;
    if (exchange?.head.framing === Framing.length && this.#received !== exchange.head.length) {
      this.#refuse("h2-length");
      return;
    }
    this.#finishRequest(this.#requestTrailers);
    exchange?.flushRequest();
  }

  /** The request turns out to be broken. */
  #refuse(fault: Fault): void {
    if (this.exchange !== undefined && !this.exchange.finished) this.exchange.refuse(fault);
    else if (!this.#answered) this.#faulty(fault);
  }

  #faulty(fault: Fault): void {
    const { engine, listener, info } = this.#owner;
    const [status, text] = FAULTS[fault];
    const body = Buffer.from(`${status} ${phraseOf(status)}: ${text}\n`);
    engine.event(`refused.${fault}`);
    engine.faulty(listener.service, info, status, fault, body.length);
    this.#waiting = undefined;
    this.sendHead(status, "", "Content-Type: text/plain\r\n", Framing.length, body.length);
    this.sendBody(body, 0, body.length, true);
    this.sendEnd([]);
  }

  // Downstream

  sendInterim(status: number, _reason: string, lines: string): void {
    if (this.#over || this.#answered || this.#stream.headersSent) return;
    const fields = newFields({ ":status": String(status) });
    addLines(fields, lines);
    this.#attempt(() => this.#stream.additionalHeaders(fields));
  }

  /**
   * node:http2 throws at a stream that the client has reset, and at fields that it would not send: then this stream
   * is over, and nothing else.
   */
  #attempt(call: () => void): void {
    const stream = this.#stream;
    if (stream.destroyed) return;
    try {
      if (!stream.closed) {
        call();
        return;
      }
    } catch {
      this.#owner.engine.event("h2-unsendable");
    }
    stream.destroy(new Error("broken off"));
  }

  sendHead(status: number, _reason: string, lines: string, framing: FramingKind, length: number): void {
    // A success would tell the client that its tunnel stands (RFC 8441 5).
    const answer = this.#webSocketKey !== "" && status >= 200 && status < 300 ? 502 : status;
    this.#head = { status: answer, lines, length, framing };
  }

  #respond(ended: boolean): void {
    const head = this.#head;
    if (head === undefined) return;
    this.#head = undefined;
    this.#answered = true;
    if (this.#over || this.#stream.headersSent) return;
    const { status, lines, length, framing } = head;
    const fields = newFields({ ":status": String(status) });
    if (framing === Framing.length || (length > 0 && status !== 204))
      fields["content-length"] = String(length);
    this.#trailersWanted = !ended && framing !== Framing.length;
    addLines(fields, lines);
    const options = { endStream: ended, waitForTrailers: this.#trailersWanted };
    this.#attempt(() => this.#stream.respond(fields, options));
    if (ended) this.#finished();
  }

  sendBody(bytes: Uint8Array, start: number, end: number, stable: boolean): boolean {
    this.#respond(false);
    if (this.#over) return true;
    return this.#write(lasting(this.#stream, bytes.subarray(start, end), stable));
  }

  #write(piece: Uint8Array): boolean {
    if (this.#stream.write(piece)) return true;
    if (!this.#blocked) {
      this.#blocked = true;
      const { engine, listener } = this.#owner;
      if (this.#requestDone) this.deadline = engine.now + listener.service.settings.timeouts.write;
    }
    return false;
  }

  #drained(): void {
    if (!this.#blocked || this.#over) return;
    this.#blocked = false;
    this.#owner.engine.tick();
    const { exchange } = this;
    if (exchange === undefined) return;
    if (this.#tunnel) this.deadline = Number.POSITIVE_INFINITY;
    else if (this.#requestDone) this.deadline = exchange.totalDeadline;
    exchange.resumeResponse();
  }

  sendEnd(trailers: readonly Trailer[]): void {
    if (this.#head !== undefined && trailers.length === 0) {
      this.#respond(true);
      return;
    }
    this.#respond(false);
    if (this.#over) return;
    if (this.#trailersWanted) this.#trailers = trailers;
    this.#stream.end();
    this.#finished();
  }

  /** The answer is complete; what is left of the request is not read any more (RFC 9113 8.1). */
  #finished(): void {
    if (this.#over) return;
    const { engine, listener } = this.#owner;
    // A client that opens no window, or whose connection is broken, would keep it for ever.
    this.deadline = engine.now + listener.service.settings.timeouts.write;
    if (this.#requestDone) return;
    const stream = this.#stream;
    stream.removeAllListeners("data");
    stream.resume();
    const close = (): void => {
      if (!stream.closed) stream.close(constants.NGHTTP2_NO_ERROR);
    };
    if (stream.writableFinished) close();
    else stream.once("finish", close);
  }

  flush(): void {
    this.#respond(false);
  }

  breakOff(): void {
    this.#respond(false);
    // Not close(): that ends the response in good order before it resets the stream.
    if (!this.#over) this.#stream.destroy(new Error("broken off"));
  }

  pauseRequest(): void {
    this.#paused = true;
    this.#stream.pause();
  }

  resumeRequest(): void {
    if (!this.#paused) return;
    this.#paused = false;
    const { engine, listener } = this.#owner;
    if (!this.#requestDone && this.exchange?.grpc !== true)
      this.deadline = engine.now + listener.service.settings.timeouts.body;
    if (!this.#requestDone || this.#tunnel) this.#stream.resume();
  }

  sendSwitch(_reason: string, lines: string): void {
    const fields = newFields({ ":status": "200" });
    addLines(fields, lines);
    const accept = createHash("sha1")
      .update(this.#webSocketKey + WEBSOCKET)
      .digest("base64");
    const right = fields["sec-websocket-accept"] === accept;
    delete fields["sec-websocket-accept"];
    this.#answered = true;
    if (this.#over) return;
    const answer = right ? fields : { ":status": "502" };
    this.#attempt(() => this.#stream.respond(answer, { endStream: !right }));
  }

  tunnel(rest: Uint8Array): void {
    if (this.#over || this.#stream.writableEnded) {
      this.exchange?.abort();
      return;
    }
    this.#tunnel = true;
    this.deadline = Number.POSITIVE_INFINITY;
    if (rest.length > 0) this.#write(Uint8Array.from(rest));
    this.#stream.resume();
  }

  tunnelWrite(bytes: Uint8Array, stable: boolean): boolean {
    if (this.#over) return true;
    return this.#write(lasting(this.#stream, bytes, stable));
  }

  tunnelEnd(): void {
    if (!this.#over) this.#stream.end();
  }

  // From the stream and the sweep

  #closed(): void {
    if (this.#over) return;
    this.#over = true;
    const { engine } = this.#owner;
    engine.tick();
    engine.sweep.remove(this);
    const { exchange } = this;
    const early = exchange !== undefined && !exchange.finished;
    if (early) exchange.abort();
    this.#owner.gone(this, early || !this.#answered);
  }

  onDeadline(): void {
    const { exchange } = this;
    const { engine } = this.#owner;
    if (exchange === undefined || exchange.finished) {
      // Its answer is not taken, or nothing came after the head.
      this.#stream.destroy(new Error("too slow"));
      this.deadline = Number.POSITIVE_INFINITY;
      return;
    }
    if (exchange.totalDeadline <= engine.now) exchange.fail(504, "total-timeout");
    else if (!this.#requestDone) {
      // One that was told to wait is not slow.
      if (!this.#paused || exchange.stalled()) exchange.fail(408, "body-timeout");
      else {
        this.deadline = engine.now + this.#owner.listener.service.settings.timeouts.body;
        return;
      }
    } else if (this.#blocked) {
      engine.event("write-timeout");
      exchange.fail(504, "write-timeout");
    } else {
      this.deadline = exchange.totalDeadline;
      return;
    }
    this.deadline = engine.now + this.#owner.listener.service.settings.timeouts.write;
  }
}
