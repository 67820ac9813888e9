import { FOLD, HOST, TOKEN, VALUE } from "./wire-characters.ts";
import type { Fault } from "./wire-faults.ts";
import { Field, type FieldNames, hashStep } from "./wire-names.ts";

const CR = 0x0d;
const LF = 0x0a;
const SP = 0x20;
const HTAB = 0x09;
const COLON = 0x3a;

/** Fields that may stand once only; a second one is refused, whatever it says. */
export const SINGLE =
  (1 << Field.host) |
  (1 << Field.contentLength) |
  (1 << Field.transferEncoding) |
  (1 << Field.expect) |
  (1 << Field.authorization) |
  (1 << Field.http2Settings) |
  (1 << Field.contentType);

/** Reads the field lines of a head or of a trailer section. One instance a reader; no allocation per line. */
export class FieldParser {
  readonly #names: FieldNames;
  readonly #limit: number;
  /** STRIDE numbers a field: name start, name end, value start, value end, id, line end; from `base`. */
  fields: number[] = [];
  count = 0;
  seen = 0;
  fault: Fault | undefined;

  constructor(names: FieldNames, limit: number) {
    this.#names = names;
    this.#limit = limit;
  }

  /**
   * Reads lines from `at` up to the empty line. Returns the offset after it, 0 where bytes are missing,
   * or -1 with `fault` set. Offsets are relative to `base`.
   */
  parse(b: Uint8Array, base: number, at: number, end: number): number {
    const fields = this.fields;
    let n = 0;
    let i = at;
    this.seen = 0;
    this.count = 0;
    for (;;) {
      if (i >= end) return 0;
      let c = b[i]!;
      if (c === CR) {
        if (i + 1 >= end) return 0;
        if (b[i + 1] !== LF) return this.#fail("bare-cr");
        this.count = n;
        return i + 2;
      }
      if (n >= this.#limit) return this.#fail("too-many-fields");
      const nameStart = i;
      let hash = 0;
      while (TOKEN[c] === 1) {
        hash = hashStep(hash, FOLD[c]!);
        if (++i >= end) return 0;
        c = b[i]!;
      }
      if (c !== COLON || i === nameStart) return this.#fail(badName(c, i === nameStart, n > 0));
      const nameEnd = i;
      do {
        if (++i >= end) return 0;
        c = b[i]!;
      } while (c === SP || c === HTAB);
      const valueStart = i;
      while (VALUE[c] === 1) {
        if (++i >= end) return 0;
        c = b[i]!;
      }
      if (c !== CR) return this.#fail(c === LF ? "bare-lf" : "field-value");
      if (i + 1 >= end) return 0;
      if (b[i + 1] !== LF) return this.#fail("bare-cr");
      let valueEnd = i;
      while (valueEnd > valueStart && (b[valueEnd - 1] === SP || b[valueEnd - 1] === HTAB)) valueEnd--;
      i += 2;
      const id = this.#names.find(hash, b, nameStart, nameEnd);
      if (id < 0) return this.#fail("underscore-name");
      if (id > 0 && id < 31) {
        const bit = 1 << id;
        if ((this.seen & bit & SINGLE) !== 0) return this.#fail("duplicate-field");
        this.seen |= bit;
      }
      const f = n * 6;
      fields[f] = nameStart - base;
      fields[f + 1] = nameEnd - base;
      fields[f + 2] = valueStart - base;
      fields[f + 3] = valueEnd - base;
      fields[f + 4] = id;
      fields[f + 5] = i - base;
      n++;
    }
  }

  #fail(fault: Fault): -1 {
    this.fault = fault;
    return -1;
  }
}

function badName(c: number, empty: boolean, notFirst: boolean): Fault {
  if (c === LF) return "bare-lf";
  if (c === CR) return "field-name";
  if (c === SP || c === HTAB) {
    if (!empty) return "space-before-colon";
    return notFirst ? "obs-fold" : "field-name";
  }
  return "field-name";
}

/** Host as RFC 9110 7.2 has it: a name, an IPv4 address or a bracketed IPv6 address, and maybe a port. */
export function isAuthority(text: string): boolean {
  let i = 0;
  const { length } = text;
  if (length === 0 || length > 261) return false;
  if (text.charCodeAt(0) === 0x5b) {
    const close = text.indexOf("]");
    if (close < 3 || !/^[0-9a-fA-F:.]+$/.test(text.slice(1, close))) return false;
    i = close + 1;
  } else {
    while (i < length && HOST[text.charCodeAt(i) & 255] === 1 && text.charCodeAt(i) < 256) i++;
    if (i === 0) return false;
  }
  if (i === length) return true;
  if (text.charCodeAt(i) !== COLON || length - i > 6 || length - i < 2) return false;
  for (let p = i + 1; p < length; p++) {
    const c = text.charCodeAt(p);
    if (c < 0x30 || c > 0x39) return false;
  }
  return true;
}
