import { TARGET, TOKEN } from "./wire-characters.ts";
import type { Fault } from "./wire-faults.ts";

const CR = 0x0d;
const LF = 0x0a;
const SP = 0x20;
const VERSION = "HTTP/1.";
/** No registered method is longer than 17 letters. */
const METHOD_MOST = 32;

/** Reads the first line of a request or a response (RFC 9112, 3 and 4). One instance a reader, nothing allocated. */
export class StartLine {
  /** HTTP/1.minor. */
  minor = 1;
  /** Of a response. */
  status = 0;
  /** Ends of the method and of the target, or start and end of the reason; from the line's first byte. */
  first = 0;
  second = 0;
  fault: Fault | undefined;

  /** The offset after the line, 0 where bytes are missing, -1 with `fault`. */
  request(b: Uint8Array, start: number, end: number): number {
    let i = start;
    while (i < end && TOKEN[b[i]!] === 1) i++;
    if (i - start > METHOD_MOST) return this.#fail("method");
    if (i >= end) return 0;
    if (b[i] !== SP || i === start) return this.#fail("method");
    const methodEnd = i;
    i++;
    while (i < end && TARGET[b[i]!] === 1) i++;
    if (i >= end) return 0;
    if (b[i] !== SP || i === methodEnd + 1) return this.#fail(b[i] === 0x23 ? "target-fragment" : "target");
    const targetEnd = i;
    i++;
    const minor = this.#version(b, i, end);
    if (minor < 0) return minor === -2 ? 0 : -1;
    i += 8;
    if (i + 1 >= end) return i >= end || b[i] === CR ? 0 : this.#fail(b[i] === LF ? "bare-lf" : "version");
    if (b[i] !== CR) return this.#fail(b[i] === LF ? "bare-lf" : "version");
    if (b[i + 1] !== LF) return this.#fail("bare-cr");
    this.minor = minor;
    this.first = methodEnd - start;
    this.second = targetEnd - start;
    return i + 2;
  }

  /** The same of a response. */
  response(b: Uint8Array, start: number, end: number): number {
    const minor = this.#version(b, start, end);
    if (minor < 0) return minor === -2 ? 0 : -1;
    let i = start + 8;
    if (i + 5 > end) return 0;
    let status = 0;
    for (let k = 1; k <= 3; k++) {
      const digit = b[i + k]! - 0x30;
      if (digit < 0 || digit > 9) return this.#fail("status-line");
      status = status * 10 + digit;
    }
    if (b[i] !== SP || status < 100 || status > 599) return this.#fail("status-line");
    i += 4;
    // The space after the status may be missing where there is no reason phrase.
    if (b[i] !== SP && b[i] !== CR) return this.#fail("status-line");
    const reasonStart = b[i] === SP ? i + 1 : i;
    i = reasonStart;
    while (i < end && b[i] !== CR && b[i] !== LF) i++;
    if (i + 1 >= end) return 0;
    if (b[i] !== CR || b[i + 1] !== LF) return this.#fail(b[i] === LF ? "bare-lf" : "bare-cr");
    this.minor = minor;
    this.status = status;
    this.first = reasonStart - start;
    this.second = i - start;
    return i + 2;
  }

  /** `HTTP/1.0` or `HTTP/1.1` at `i`: the minor version, -2 for missing bytes, -1 with the fault. */
  #version(b: Uint8Array, i: number, end: number): number {
    for (let k = 0; k < 8; k++) {
      if (i + k >= end) return -2;
      const c = b[i + k];
      if (k === 7 ? c !== 0x30 && c !== 0x31 : c !== VERSION.charCodeAt(k)) return this.#fail("version");
    }
    return b[i + 7]! - 0x30;
  }

  #fail(fault: Fault): -1 {
    this.fault = fault;
    return -1;
  }
}
