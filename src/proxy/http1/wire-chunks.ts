import { HEX } from "./wire-characters.ts";
import type { Fault } from "./wire-faults.ts";

const CR = 0x0d;
const LF = 0x0a;
const SP = 0x20;
const SEMICOLON = 0x3b;
/** Extensions are dropped; this many bytes of them a message are read (no client needs them). */
const MAX_EXTENSIONS = 1024;
/** Twelve digits are 256 TiB; sizes beyond lose bits in some readers, and many zeros hide them. */
const MAX_DIGITS = 12;

/** What a byte between two chunks' data led to. */
export const Chunk = { more: 0, data: 1, last: 2, fault: 3 } as const;
export type ChunkStep = (typeof Chunk)[keyof typeof Chunk];

const At = { size: 0, extension: 1, sizeLf: 2, cr: 3, lf: 4 } as const;

/** Reads what stands between the data of a chunked body (RFC 9112 7.1), a byte at a time. */
export class ChunkLines {
  /** Bytes of data that follow, after `data`; the reader counts them down. */
  left = 0;
  fault: Fault | undefined;
  #at: number = At.size;
  #digits = 0;
  #extensions = 0;

  /** Before the first chunk of a message. */
  begin(): void {
    this.left = 0;
    this.#at = At.size;
    this.#digits = 0;
    this.#extensions = 0;
  }

  step(c: number): ChunkStep {
    switch (this.#at) {
      case At.size:
        return this.#size(c);
      case At.extension:
        if (c === CR) this.#at = At.sizeLf;
        else if (c < SP || c === 0x7f || ++this.#extensions > MAX_EXTENSIONS)
          return this.#fail("chunk-extension");
        return Chunk.more;
      case At.sizeLf:
        if (c !== LF) return this.#fail("bare-cr");
        this.#digits = 0;
        // The next byte that is not data ends it.
        this.#at = At.cr;
        return this.left === 0 ? Chunk.last : Chunk.data;
      case At.cr:
        if (c !== CR) return this.#fail("chunk-end");
        this.#at = At.lf;
        return Chunk.more;
      default:
        if (c !== LF) return this.#fail("chunk-end");
        this.#at = At.size;
        return Chunk.more;
    }
  }

  #size(c: number): ChunkStep {
    const digit = HEX[c]!;
    if (digit < 16) {
      this.left = this.left * 16 + digit;
      return ++this.#digits > MAX_DIGITS ? this.#fail("chunk-size") : Chunk.more;
    }
    if (this.#digits === 0) return this.#fail(c === LF ? "bare-lf" : "chunk-size");
    if (c === CR) this.#at = At.sizeLf;
    else if (c === SEMICOLON) this.#at = At.extension;
    else return this.#fail(c === LF ? "bare-lf" : "chunk-size");
    return Chunk.more;
  }

  #fail(fault: Fault): ChunkStep {
    this.fault = fault;
    return Chunk.fault;
  }
}
