import { Chunk, ChunkLines } from "./wire-chunks.ts";
import type { Fault } from "./wire-faults.ts";
import { FieldParser } from "./wire-fields.ts";
import { Framing, Head } from "./wire-head.ts";
import type { FieldNames } from "./wire-names.ts";
import { understandRequest, understandResponse } from "./wire-semantics.ts";
import { StartLine } from "./wire-start-line.ts";
import { type Trailer, TrailerReader } from "./wire-trailers.ts";

/** What `next` found. */
export const Signal = {
  /** More bytes are needed. */
  need: 0,
  /** `head` is complete. */
  head: 1,
  /** A piece of the body: `bytes[bodyStart, bodyEnd)`, valid until the next `feed`. */
  body: 2,
  /** The message is complete; `trailers` are those of a chunked body. */
  end: 3,
  /** The stream is broken: `fault` says why, nothing further is read. */
  fault: 4,
} as const;
export type SignalKind = (typeof Signal)[keyof typeof Signal];

export interface ReaderLimits {
  /** Bytes of the start line and the fields; also of a trailer section. */
  readonly head: number;
  /** Fields in a head. */
  readonly fields: number;
  /** Whether GET and HEAD may carry a body. */
  readonly bodyOnGet: boolean;
}

/** Bytes to text, one character a byte. Passed in: only the shell knows the fast way. */
export type Latin1 = (bytes: Uint8Array, start: number, end: number) => string;

const State = {
  start: 0,
  bodyLength: 1,
  bodyClose: 2,
  /** Between the data of two chunks. */
  chunkLine: 3,
  chunkData: 4,
  trailers: 5,
  end: 6,
  fault: 7,
  /** After a complete message with an upgrade: what follows is not HTTP. */
  raw: 8,
} as const;

const NOTHING = new Uint8Array(0);
const CR = 0x0d;
const LF = 0x0a;

/**
 * Reads HTTP/1.1 messages of one direction of a connection (RFC 9112), strictly: what two readers could
 * understand differently is a fault. Pull it: `feed` a chunk, then call `next` until it says `need`.
 * After `end`, bytes of the next message may wait inside: `hold` before the chunk becomes invalid, or go
 * on calling `next`. Memory is bounded by `limits.head` and one chunk.
 */
export class Http1Reader {
  readonly head = new Head();
  trailers: Trailer[] = [];
  fault: Fault | undefined;
  bytes: Uint8Array = NOTHING;
  bodyStart = 0;
  bodyEnd = 0;
  /** Responses: set before the head is read. */
  toHead = false;
  upgradeAsked = false;

  readonly #request: boolean;
  readonly #names: FieldNames;
  readonly #limits: ReaderLimits;
  readonly #latin1: Latin1;
  readonly #parser: FieldParser;
  readonly #line = new StartLine();
  readonly #chunks = new ChunkLines();
  #state: number = State.start;
  #at = 0;
  #end = 0;
  /** True while `bytes` is our own copy. */
  #own = false;
  /** How far a held head has been searched for its end. */
  #searched = 0;
  /** An empty line before this head was skipped; a second one is not. */
  #skipped = false;
  #left = 0;
  #trailerReader: TrailerReader | undefined;

  constructor(role: "request" | "response", names: FieldNames, limits: ReaderLimits, latin1: Latin1) {
    this.#request = role === "request";
    this.#names = names;
    this.#limits = limits;
    this.#latin1 = latin1;
    this.#parser = new FieldParser(names, limits.fields);
    this.head.fields = this.#parser.fields;
  }

  /** Bytes that were fed and not yet used. */
  get pending(): number {
    return this.#end - this.#at;
  }

  /** Whether a message has begun and not ended. */
  get within(): boolean {
    return this.#state !== State.start || this.pending > 0;
  }

  /** Gives the reader bytes; they must stay unchanged until `next` says need or `hold` is called. */
  feed(bytes: Uint8Array, start: number, end: number): void {
    if (this.pending > 0) {
      const kept = this.pending;
      const joined = new Uint8Array(kept + end - start);
      joined.set(this.bytes.subarray(this.#at, this.#end));
      joined.set(bytes.subarray(start, end), kept);
      this.bytes = joined;
      this.#at = 0;
      this.#end = joined.length;
      this.#own = true;
      return;
    }
    this.bytes = bytes;
    this.#at = start;
    this.#end = end;
    this.#own = false;
    this.#searched = 0;
  }

  /** Copies what is not yet used, so that the fed chunk may be overwritten. */
  hold(): void {
    if (this.#at >= this.#end) {
      this.bytes = NOTHING;
      this.#at = this.#end = 0;
    } else if (!this.#own) {
      this.bytes = copyOf(this.bytes, this.#at, this.#end);
      this.#end -= this.#at;
      this.#at = 0;
      this.#own = true;
    }
  }

  /** What is left after an upgrade: not HTTP. The reader is done. */
  takeRest(): Uint8Array {
    const rest = copyOf(this.bytes, this.#at, this.#end);
    this.#at = this.#end;
    this.#state = State.raw;
    return rest;
  }

  next(): SignalKind {
    for (;;) {
      switch (this.#state) {
        case State.start:
          return this.#readHead();
        case State.bodyLength:
          return this.#readBody();
        case State.bodyClose:
          if (this.pending === 0) return this.#need();
          this.#give(this.#end);
          return Signal.body;
        case State.chunkData:
          if (this.pending === 0) return this.#need();
          this.#give(Math.min(this.#end, this.#at + this.#chunks.left));
          this.#chunks.left -= this.bodyEnd - this.bodyStart;
          if (this.#chunks.left === 0) this.#state = State.chunkLine;
          return Signal.body;
        case State.trailers:
          return this.#readTrailers();
        case State.end:
          this.#state = State.start;
          return Signal.end;
        case State.fault:
          return Signal.fault;
        case State.raw:
          return Signal.need;
        default:
          if (this.pending === 0) return this.#need();
          this.#readChunkLine();
      }
    }
  }

  /** The sender will send nothing more. `need` where that is in order. */
  finish(): SignalKind {
    if (this.#state === State.bodyClose) {
      this.#state = State.start;
      this.trailers = [];
      return Signal.end;
    }
    if (this.#state === State.start && this.pending === 0) return Signal.need;
    if (this.#state === State.fault) return Signal.fault;
    if (this.#state === State.raw) return Signal.need;
    // The head that did not end may be broken by itself, and that reason says more.
    if (this.#state === State.start && this.#parseWithinLimit() < 0) return Signal.fault;
    if (this.#state === State.trailers && this.#parseTrailers() < 0)
      return this.#fail(this.#trailerReader!.fault!);
    return this.#fail("truncated");
  }

  #need(): SignalKind {
    this.hold();
    return Signal.need;
  }

  #fail(fault: Fault): SignalKind {
    this.fault = fault;
    this.#state = State.fault;
    this.bytes = NOTHING;
    this.#at = this.#end = 0;
    return Signal.fault;
  }

  #give(end: number): void {
    this.bodyStart = this.#at;
    this.bodyEnd = end;
    this.#at = end;
  }

  #readBody(): SignalKind {
    if (this.pending === 0) return this.#need();
    this.#give(Math.min(this.#end, this.#at + this.#left));
    this.#left -= this.bodyEnd - this.bodyStart;
    if (this.#left === 0) this.#state = State.end;
    return Signal.body;
  }

  #readHead(): SignalKind {
    // RFC 9112 2.2: an empty line before the request line is skipped.
    if (this.#request && this.bytes[this.#at] === CR && this.#searched === 0 && !this.#skipped) {
      if (this.pending === 1) return this.#need();
      if (this.bytes[this.#at + 1] !== LF) return this.#fail("bare-cr");
      this.#at += 2;
      this.#skipped = true;
    }
    if (this.pending === 0) return this.#need();
    if (this.#searched > 0 && !this.#worthParsing()) {
      if (this.pending <= this.#limits.head) return this.#need();
    }
    const end = this.#parseWithinLimit();
    if (end < 0) return Signal.fault;
    if (end === 0) {
      if (this.pending > this.#limits.head) return this.#fail("head-too-large");
      this.#searched = this.pending;
      return this.#need();
    }
    this.#searched = 0;
    this.#skipped = false;
    return this.#understand(end);
  }

  /** Whether a held head has become complete, or has a line end that no head has. */
  #worthParsing(): boolean {
    const { bytes } = this;
    for (let i = this.#at + this.#searched; i < this.#end; i++) {
      if (bytes[i] !== LF) continue;
      if (bytes[i - 1] !== CR || bytes[i - 2] === LF) return true;
    }
    this.#searched = this.pending;
    return false;
  }

  /** What lies beyond the limit is not looked at: the reason is the same however the bytes come. */
  #parseWithinLimit(): number {
    if (this.pending <= this.#limits.head) return this.#parseHead(this.#at);
    const all = this.#end;
    this.#end = this.#at + this.#limits.head;
    const end = this.#parseHead(this.#at);
    if (end >= 0) this.#end = all;
    return end;
  }

  /** The offset after the head, 0 for incomplete, -1 with the fault. */
  #parseHead(start: number): number {
    const parser = this.#parser;
    const line = this.#line;
    const lines = this.#request
      ? line.request(this.bytes, start, this.#end)
      : line.response(this.bytes, start, this.#end);
    if (lines < 0) this.#fail(line.fault!);
    if (lines <= 0) return lines;
    const end = parser.parse(this.bytes, start, lines, this.#end);
    if (end < 0) this.#fail(parser.fault!);
    return end;
  }

  /** The head is syntactically whole and ends at `end`: what does it mean? */
  #understand(end: number): SignalKind {
    const { head } = this;
    const parser = this.#parser;
    const line = this.#line;
    const text = this.#latin1(this.bytes, this.#at, end);
    this.#at = end;
    head.text = text;
    head.count = parser.count;
    head.seen = parser.seen;
    head.framing = Framing.none;
    head.length = 0;
    head.minor = line.minor;
    head.keepAlive = line.minor === 1;
    head.upgrade = "";
    head.expects = false;
    if (head.options.length > 0) head.options = [];
    if (this.trailers.length > 0) this.trailers = [];
    let fault: Fault | undefined;
    if (this.#request) {
      head.method = text.slice(0, line.first);
      head.target = text.slice(line.first + 1, line.second);
      fault = understandRequest(head, this.#limits.bodyOnGet);
    } else {
      head.status = line.status;
      head.reason = text.slice(line.first, line.second);
      fault = understandResponse(head, this.toHead);
      if (fault === undefined && head.status === 101 && !this.upgradeAsked) fault = "unexpected-switch";
    }
    if (fault !== undefined) return this.#fail(fault);
    this.#state = this.#bodyState();
    return Signal.head;
  }

  #bodyState(): number {
    const { head } = this;
    switch (head.framing) {
      case Framing.length:
        this.#left = head.length;
        return State.bodyLength;
      case Framing.chunked:
        this.#chunks.begin();
        return State.chunkLine;
      case Framing.close:
        return State.bodyClose;
      default:
        return State.end;
    }
  }

  /** Bytes up to the next data; a message's trailers follow its last chunk. */
  #readChunkLine(): void {
    const { bytes } = this;
    const chunks = this.#chunks;
    while (this.#at < this.#end) {
      const step = chunks.step(bytes[this.#at++]!);
      if (step === Chunk.more) continue;
      this.#searched = 0;
      if (step === Chunk.fault) this.#fail(chunks.fault!);
      else this.#state = step === Chunk.last ? State.trailers : State.chunkData;
      return;
    }
  }

  /** The offset after the trailer section, 0 for incomplete, -1 with the reader's fault. */
  #parseTrailers(): number {
    this.#trailerReader ??= new TrailerReader(this.#names, this.#limits.fields);
    return this.#trailerReader.parse(this.bytes, this.#at, Math.min(this.#end, this.#at + this.#limits.head));
  }

  #readTrailers(): SignalKind {
    if (this.pending === 0) return this.#need();
    const { bytes } = this;
    const start = this.#at;
    // The ordinary end: no trailers.
    if (bytes[start] === CR && bytes[start + 1] === LF && this.pending >= 2) {
      this.#at += 2;
      this.#searched = 0;
      this.#state = State.end;
      return this.next();
    }
    if (this.#searched > 0 && !this.#worthParsing() && this.pending <= this.#limits.head) return this.#need();
    const end = this.#parseTrailers();
    const reader = this.#trailerReader!;
    if (end < 0) return this.#fail(reader.fault!);
    if (end === 0) {
      if (this.pending > this.#limits.head) return this.#fail("head-too-large");
      this.#searched = this.pending;
      return this.#need();
    }
    const trailers = reader.take(this.#latin1(bytes, start, end));
    if (trailers === undefined) return this.#fail("trailer-field");
    this.trailers = trailers;
    this.#at = end;
    this.#searched = 0;
    this.#state = State.end;
    return this.next();
  }
}

/** Node's Buffer has a `slice` that does not copy; this one does, whatever the bytes are. */
const copyOf = (bytes: Uint8Array, start: number, end: number): Uint8Array =>
  Uint8Array.prototype.slice.call(bytes, start, end);
