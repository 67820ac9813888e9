/** nf_tables' attributes: big endian values, nests within nests. */
import { NetlinkWriter, attrString, attrU32Be, attrU64Be, forEachAttribute } from "../wire-netlink.ts";

/** The body of one message: nfgenmsg (family, version 0, resource), then attributes. */
export class AttributeWriter {
  readonly #writer: NetlinkWriter;

  constructor(family: number, resource = 0, capacity = 128) {
    this.#writer = new NetlinkWriter(capacity).u8(family).u8(0).u16Be(resource);
  }
  get length(): number {
    return this.#writer.length;
  }
  u8(type: number, value: number): this {
    this.#writer.attrU8(type, value);
    return this;
  }
  /** Signed values are written as their two's complement. */
  u32(type: number, value: number): this {
    this.#writer.attrU32Be(type, value >>> 0);
    return this;
  }
  u64(type: number, value: bigint): this {
    this.#writer.attrU64Be(type, value);
    return this;
  }
  bytes(type: number, value: Uint8Array): this {
    this.#writer.attr(type, value);
    return this;
  }
  /** With its final NUL. */
  string(type: number, value: string): this {
    this.#writer.attrString(type, value);
    return this;
  }
  nest(type: number, body: (writer: this) => void): this {
    const mark = this.#writer.nest(type);
    body(this);
    const length = this.#writer.length - mark;
    // The length is 16 bits wide: what does not fit must be split by the caller.
    if (length > 0xffff) throw new RangeError(`a netlink attribute of ${length} bytes`);
    this.#writer.endNest(mark);
    return this;
  }
  finish(): Uint8Array {
    return this.#writer.finish();
  }
}

/** The attributes of a message or of a nest, in order; a missing or short one gives undefined. */
export class Attributes {
  readonly #list: { readonly type: number; readonly value: Uint8Array }[] = [];

  constructor(bytes: Uint8Array, offset = 0) {
    forEachAttribute(bytes, offset, (type, value) => this.#list.push({ type, value }));
  }
  get(type: number): Uint8Array | undefined {
    return this.#list.find((one) => one.type === type)?.value;
  }
  all(type: number): Uint8Array[] {
    return this.#list.filter((one) => one.type === type).map((one) => one.value);
  }
  nest(type: number): Attributes | undefined {
    const value = this.get(type);
    return value && new Attributes(value);
  }
  u8(type: number): number | undefined {
    return this.get(type)?.[0];
  }
  u32(type: number): number | undefined {
    return attrU32Be(this.get(type));
  }
  u64(type: number): bigint | undefined {
    return attrU64Be(this.get(type));
  }
  string(type: number): string | undefined {
    return attrString(this.get(type));
  }
}
