/** Distinguished encoding of ASN.1 (X.690): as much of it as OCSP needs, and strictly. */

export const TAG = {
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  generalizedTime: 0x18,
  sequence: 0x30,
} as const;

/** A context-specific tag: `explicit` ones hold another element. */
export const context = (number: number, constructed = true): number => (constructed ? 0xa0 : 0x80) | number;

const NOTHING = new Uint8Array(0);

/**
 * Reads element after element. What does not fit makes `bad` true, for all readers of the same bytes, and yields
 * nothing from there on, so that it is asked once, at the end. Never throws.
 */
export class DerReader {
  readonly #bytes: Uint8Array;
  readonly #fault: { bad: boolean };
  #at: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, at = 0, end = bytes.length, fault: { bad: boolean } = { bad: false }) {
    this.#bytes = bytes;
    this.#at = at;
    this.#end = end;
    this.#fault = fault;
  }

  get bad(): boolean {
    return this.#fault.bad;
  }
  /** Nothing is left, or nothing can be read any more. */
  get done(): boolean {
    return this.#fault.bad || this.#at >= this.#end;
  }
  /** Whether an element with this tag comes next. */
  is(tag: number): boolean {
    return !this.done && this.#bytes[this.#at] === tag;
  }
  /** The content of the next element. */
  content(tag: number): Uint8Array {
    const [from, to] = this.#take(tag);
    return this.#bytes.subarray(from, to);
  }
  /** The next element with its tag and length. */
  whole(tag: number): Uint8Array {
    const from = this.#at;
    const [, to] = this.#take(tag);
    return this.bad ? NOTHING : this.#bytes.subarray(from, to);
  }
  /** The elements within the next one. */
  enter(tag: number): DerReader {
    const [from, to] = this.#take(tag);
    return new DerReader(this.#bytes, from, to, this.#fault);
  }
  /** The bits of a BIT STRING of whole bytes. */
  bits(): Uint8Array {
    const content = this.content(TAG.bitString);
    if (content[0] !== 0) this.#fault.bad = true;
    return content.subarray(1);
  }

  #take(tag: number): readonly [number, number] {
    const bytes = this.#bytes;
    let at = this.#at + 1;
    let length = bytes[at++] ?? 0xff;
    if (length > 0x80) {
      const count = length - 0x80;
      length = 0;
      for (let i = 0; i < count && i < 5; i++) length = length * 256 + (bytes[at + i] ?? 0);
      // Of one length there is one encoding; four bytes are more than anybody sends.
      if (count > 4 || bytes[at] === 0 || length < 0x80) this.#fault.bad = true;
      at += count;
    } else if (length === 0x80) this.#fault.bad = true;
    if (this.#at >= this.#end || bytes[this.#at] !== tag || at + length > this.#end) this.#fault.bad = true;
    if (this.#fault.bad) return [0, 0];
    this.#at = at + length;
    return [at, at + length];
  }
}

/** One element of these parts. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const size: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) size.unshift(rest % 256);
  const head = length < 0x80 ? [tag, length] : [tag, 0x80 | size.length, ...size];
  const out = new Uint8Array(head.length + length);
  out.set(head);
  let at = head.length;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** An object identifier's content in its dotted form; empty where it is none. */
export function oidText(content: Uint8Array): string {
  const numbers: number[] = [];
  let value = 0;
  for (const byte of content) {
    value = value * 128 + (byte & 0x7f);
    if (byte >= 0x80) continue;
    if (numbers.length === 0) {
      const first = Math.min(2, Math.floor(value / 40));
      numbers.push(first, value - first * 40);
    } else numbers.push(value);
    value = 0;
  }
  return numbers.join(".");
}

const TIME = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/;

/** A GeneralizedTime's content in milliseconds since 1970, as RFC 5280 4.1.2.5.2 writes it; NaN for others. */
export function timeValue(content: Uint8Array): number {
  const [, year, month, day, hour, minute, second] =
    TIME.exec(String.fromCharCode(...content.subarray(0, 16))) ?? [];
  return Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second));
}
