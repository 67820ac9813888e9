import { HEX, TARGET, TOKEN } from "./wire-characters.ts";
import type { Fault } from "./wire-faults.ts";
import { FieldParser } from "./wire-fields.ts";
import { Framing, Head, STRIDE } from "./wire-head.ts";
import { Field, type FieldNames } from "./wire-names.ts";
import { understandRequest, understandResponse } from "./wire-semantics.ts";

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

export interface Trailer {
  readonly name: string;
  readonly value: string;
}

const State = {
  start: 0,
  bodyLength: 1,
  bodyClose: 2,
  chunkSize: 3,
  chunkExtension: 4,
  chunkSizeLf: 5,
  chunkData: 6,
  chunkCr: 7,
  chunkLf: 8,
  trailers: 9,
  end: 10,
  fault: 11,
  /** After a complete message with an upgrade: what follows is not HTTP. */
  raw: 12,
} as const;

const NOTHING = new Uint8Array(0);
const CR = 0x0d;
const LF = 0x0a;
const SP = 0x20;
/** Extensions are dropped; this many bytes of them a message are read (no client needs them). */
const MAX_EXTENSIONS = 1024;
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
  #digits = 0;
  #extensions = 0;
  /** Ends of the first two parts of the start line, from the head's first byte. */
  #methodEnd = 0;
  #targetEnd = 0;
  #trailerParser: FieldParser | undefined;

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
          this.#give(Math.min(this.#end, this.#at + this.#left));
          this.#left -= this.bodyEnd - this.bodyStart;
          if (this.#left === 0) this.#state = State.chunkCr;
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
          this.#readChunkByte(this.bytes[this.#at++]!);
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
      return this.#fail(this.#trailerParser!.fault!);
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
    const lines = this.#request ? this.#parseRequestLine(start) : this.#parseStatusLine(start);
    if (lines <= 0) return lines;
    const end = parser.parse(this.bytes, start, lines, this.#end);
    if (end < 0) this.#fail(parser.fault!);
    return end;
  }

  #parseRequestLine(start: number): number {
    const b = this.bytes;
    const end = this.#end;
    let i = start;
    while (i < end && TOKEN[b[i]!] === 1) i++;
    if (i - start > 32) return this.#broken("method");
    if (i >= end) return 0;
    if (b[i] !== SP || i === start) return this.#broken("method");
    const methodEnd = i;
    i++;
    while (i < end && TARGET[b[i]!] === 1) i++;
    if (i >= end) return 0;
    if (b[i] !== SP || i === methodEnd + 1) return this.#broken(b[i] === 0x23 ? "target-fragment" : "target");
    const targetEnd = i;
    i++;
    const minor = this.#version(i);
    if (minor < 0) return minor === -2 ? 0 : -1;
    i += 8;
    if (i + 1 >= end) return i >= end || b[i] === CR ? 0 : this.#broken(b[i] === LF ? "bare-lf" : "version");
    if (b[i] !== CR) return this.#broken(b[i] === LF ? "bare-lf" : "version");
    if (b[i + 1] !== LF) return this.#broken("bare-cr");
    this.head.minor = minor;
    this.#methodEnd = methodEnd - start;
    this.#targetEnd = targetEnd - start;
    return i + 2;
  }

  /** `HTTP/1.0` or `HTTP/1.1` at `i`: the minor version, -2 for missing bytes, -1 with the fault. */
  #version(i: number): number {
    const b = this.bytes;
    for (let k = 0; k < 8; k++) {
      if (i + k >= this.#end) return -2;
      const c = b[i + k];
      if (k === 7 ? c !== 0x30 && c !== 0x31 : c !== VERSION.charCodeAt(k)) return this.#broken("version");
    }
    return b[i + 7]! - 0x30;
  }

  #parseStatusLine(start: number): number {
    const b = this.bytes;
    const end = this.#end;
    const minor = this.#version(start);
    if (minor < 0) return minor === -2 ? 0 : -1;
    let i = start + 8;
    if (i + 5 > end) return 0;
    let status = 0;
    for (let k = 1; k <= 3; k++) {
      const digit = b[i + k]! - 0x30;
      if (digit < 0 || digit > 9) return this.#broken("status-line");
      status = status * 10 + digit;
    }
    if (b[i] !== SP || status < 100 || status > 599) return this.#broken("status-line");
    i += 4;
    // The space after the status may be missing where there is no reason phrase.
    if (b[i] !== SP && b[i] !== CR) return this.#broken("status-line");
    const reasonStart = b[i] === SP ? i + 1 : i;
    i = reasonStart;
    while (i < end && b[i] !== CR && b[i] !== LF) i++;
    if (i + 1 >= end) return 0;
    if (b[i] !== CR || b[i + 1] !== LF) return this.#broken(b[i] === LF ? "bare-lf" : "bare-cr");
    this.head.minor = minor;
    this.head.status = status;
    this.#methodEnd = reasonStart - start;
    this.#targetEnd = i - start;
    return i + 2;
  }

  #broken(fault: Fault): -1 {
    this.#fail(fault);
    return -1;
  }

  /** The head is syntactically whole and ends at `end`: what does it mean? */
  #understand(end: number): SignalKind {
    const { head } = this;
    const parser = this.#parser;
    const text = this.#latin1(this.bytes, this.#at, end);
    this.#at = end;
    head.text = text;
    head.count = parser.count;
    head.seen = parser.seen;
    head.framing = Framing.none;
    head.length = 0;
    head.keepAlive = head.minor === 1;
    head.upgrade = "";
    head.expects = false;
    if (head.options.length > 0) head.options = [];
    if (this.trailers.length > 0) this.trailers = [];
    let fault: Fault | undefined;
    if (this.#request) {
      head.method = text.slice(0, this.#methodEnd);
      head.target = text.slice(this.#methodEnd + 1, this.#targetEnd);
      fault = understandRequest(head, this.#limits.bodyOnGet);
    } else {
      head.reason = text.slice(this.#methodEnd, this.#targetEnd);
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
        this.#left = 0;
        this.#digits = 0;
        this.#extensions = 0;
        return State.chunkSize;
      case Framing.close:
        return State.bodyClose;
      default:
        return State.end;
    }
  }

  #readChunkByte(c: number): void {
    switch (this.#state) {
      case State.chunkSize: {
        const digit = HEX[c]!;
        if (digit < 16) {
          this.#left = this.#left * 16 + digit;
          // Twelve digits are 256 TiB; sizes beyond lose bits in some readers, and many zeros hide them.
          if (++this.#digits > 12) this.#fail("chunk-size");
        } else if (this.#digits === 0) this.#fail(c === LF ? "bare-lf" : "chunk-size");
        else if (c === CR) this.#state = State.chunkSizeLf;
        else if (c === 0x3b) this.#state = State.chunkExtension;
        else this.#fail(c === LF ? "bare-lf" : "chunk-size");
        return;
      }
      case State.chunkExtension:
        if (c === CR) this.#state = State.chunkSizeLf;
        else if (c < SP || c === 0x7f || ++this.#extensions > MAX_EXTENSIONS) this.#fail("chunk-extension");
        return;
      case State.chunkSizeLf:
        if (c !== LF) this.#fail("bare-cr");
        else this.#state = this.#left === 0 ? State.trailers : State.chunkData;
        this.#digits = 0;
        this.#searched = 0;
        return;
      case State.chunkCr:
        if (c === CR) this.#state = State.chunkLf;
        else this.#fail("chunk-end");
        return;
      default:
        if (c === LF) this.#state = State.chunkSize;
        else this.#fail("chunk-end");
    }
  }

  /** The offset after the trailer section, 0 for incomplete, -1 with the parser's fault. */
  #parseTrailers(): number {
    // A parser of its own: the head's fields stay readable until the message has ended.
    this.#trailerParser ??= new FieldParser(this.#names, Math.min(this.#limits.fields, 32));
    const end = Math.min(this.#end, this.#at + this.#limits.head);
    return this.#trailerParser.parse(this.bytes, this.#at, this.#at, end);
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
    const parser = this.#trailerParser!;
    if (end < 0) return this.#fail(parser.fault!);
    if (end === 0) {
      if (this.pending > this.#limits.head) return this.#fail("head-too-large");
      this.#searched = this.pending;
      return this.#need();
    }
    const text = this.#latin1(bytes, start, end);
    for (let f = 0; f < parser.count * STRIDE; f += STRIDE) {
      if (FORBIDDEN_TRAILERS.has(parser.fields[f + 4]!)) return this.#fail("trailer-field");
      this.trailers.push({
        name: text.slice(parser.fields[f], parser.fields[f + 1]),
        value: text.slice(parser.fields[f + 2], parser.fields[f + 3]),
      });
    }
    this.#at = end;
    this.#searched = 0;
    this.#state = State.end;
    return this.next();
  }
}

const VERSION = "HTTP/1.";

/** Node's Buffer has a `slice` that does not copy; this one does, whatever the bytes are. */
const copyOf = (bytes: Uint8Array, start: number, end: number): Uint8Array =>
  Uint8Array.prototype.slice.call(bytes, start, end);
