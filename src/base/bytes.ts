/**
 * Reading and writing network bytes without Node's Buffer, so that wire formats stay pure.
 * Everything is big endian unless the name says otherwise.
 */

/** Reads forward over bytes. A read past the end returns undefined and moves nothing: it never throws. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  get offset(): number {
    return this.#at;
  }
  get remaining(): number {
    return this.#bytes.length - this.#at;
  }
  u8(): number | undefined {
    return this.remaining < 1 ? undefined : this.#view.getUint8(this.#at++);
  }
  u16(): number | undefined {
    if (this.remaining < 2) return undefined;
    const value = this.#view.getUint16(this.#at);
    this.#at += 2;
    return value;
  }
  u32(): number | undefined {
    if (this.remaining < 4) return undefined;
    const value = this.#view.getUint32(this.#at);
    this.#at += 4;
    return value;
  }
  /** A view of the next `length` bytes, not a copy. */
  bytes(length: number): Uint8Array | undefined {
    if (length < 0 || this.remaining < length) return undefined;
    const value = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += length;
    return value;
  }
}

/** Writes forward, growing as needed. */
export class ByteWriter {
  #bytes: Uint8Array;
  #view: DataView;
  #at = 0;
  constructor(capacity = 64) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }
  get length(): number {
    return this.#at;
  }
  u8(value: number): this {
    this.#room(1);
    this.#view.setUint8(this.#at, value);
    this.#at += 1;
    return this;
  }
  u16(value: number): this {
    this.#room(2);
    this.#view.setUint16(this.#at, value);
    this.#at += 2;
    return this;
  }
  u32(value: number): this {
    this.#room(4);
    this.#view.setUint32(this.#at, value);
    this.#at += 4;
    return this;
  }
  u64(value: bigint): this {
    this.#room(8);
    this.#view.setBigUint64(this.#at, value);
    this.#at += 8;
    return this;
  }
  bytes(value: Uint8Array): this {
    this.#room(value.length);
    this.#bytes.set(value, this.#at);
    this.#at += value.length;
    return this;
  }
  zeros(count: number): this {
    this.#room(count);
    this.#at += count;
    return this;
  }
  /** Overwrites two bytes already written, e.g. a length or a checksum. */
  patchU16(offset: number, value: number): this {
    this.#view.setUint16(offset, value);
    return this;
  }
  /** A view of what was written; do not write on after taking it. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }
  #room(more: number): void {
    if (this.#at + more <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#at + more));
    grown.set(this.#bytes);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

/**
 * The Internet checksum's sum (RFC 1071), not yet inverted; feed the result back in as `start` to go on
 * over several pieces, each but the last of even length.
 */
export function checksumAdd(bytes: Uint8Array, start = 0): number {
  let sum = start;
  const even = bytes.length & ~1;
  for (let i = 0; i < even; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  if (even !== bytes.length) sum += (bytes[even] ?? 0) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

/** The checksum field's value for a sum. A message that carries a right checksum sums to 0xffff. */
export const checksumFinish = (sum: number): number => ~sum & 0xffff;

export const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");

export function fromHex(text: string): Uint8Array {
  const digits = text.replaceAll(/[^0-9a-fA-F]/g, "");
  const bytes = new Uint8Array(digits.length >> 1);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

export function bytesEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
