import { Field } from "./wire-names.ts";

/** How a message's body ends (RFC 9112 6.3). */
export const Framing = { none: 0, length: 1, chunked: 2, close: 3 } as const;
export type FramingKind = (typeof Framing)[keyof typeof Framing];

/** Numbers per field in `Head.fields`: name start, name end, value start, value end, id, line end. */
export const STRIDE = 6;

/**
 * The head of a request or response: one latin1 string, and where in it the fields are. Owned by the reader
 * that made it and overwritten by that reader's next message; strings taken from it stay.
 */
export class Head {
  /** From the first byte of the start line to the empty line, both included. */
  text = "";
  /** Offsets in `text`, STRIDE numbers a field. The line end is after its CRLF. */
  fields: number[] = [];
  count = 0;
  /** A bit per field id below 31 that appears. */
  seen = 0;
  /** Minor version: HTTP/1.minor. */
  minor = 1;

  method = "";
  /** Requests: origin form, `*`, or the authority of CONNECT. */
  target = "";
  /** Requests: host and port as sent, in Host or in the absolute target. */
  authority = "";

  status = 0;
  reason = "";

  framing: FramingKind = Framing.none;
  /** Bytes of the body where framing is length. */
  length = 0;
  /** Whether the sender would keep the connection. */
  keepAlive = true;
  /** The protocol of a valid Upgrade, lower case; empty without one. */
  upgrade = "";
  /** Expect: 100-continue. */
  expects = false;
  /** Names that Connection lists beside close, keep-alive and upgrade, lower case. */
  options: string[] = [];

  has(id: number): boolean {
    return id < 31 ? (this.seen & (1 << id)) !== 0 : this.find(id) >= 0;
  }

  /** Index into `fields` of the first field with this id, from `from` on; -1 where there is none. */
  find(id: number, from = 0): number {
    const { fields } = this;
    const end = this.count * STRIDE;
    for (let at = from; at < end; at += STRIDE) if (fields[at + 4] === id) return at;
    return -1;
  }

  /** The first field's value. */
  get(id: number): string | undefined {
    if (id < 31 && (this.seen & (1 << id)) === 0) return undefined;
    const at = this.find(id);
    return at < 0 ? undefined : this.valueAt(at);
  }

  /** All values of a field, joined by `, ` (RFC 9110 5.3); Cookie by `; `. */
  all(id: number): string | undefined {
    let joined: string | undefined;
    if (id < 31 && (this.seen & (1 << id)) === 0) return undefined;
    for (let at = this.find(id); at >= 0; at = this.find(id, at + STRIDE)) {
      const value = this.valueAt(at);
      joined = joined === undefined ? value : joined + (id === Field.cookie ? "; " : ", ") + value;
    }
    return joined;
  }

  nameAt(at: number): string {
    return this.text.slice(this.fields[at], this.fields[at + 1]);
  }

  valueAt(at: number): string {
    return this.text.slice(this.fields[at + 2], this.fields[at + 3]);
  }

  /** A copy that outlives the reader's next message. */
  clone(): Head {
    const copy = new Head();
    Object.assign(copy, this);
    copy.fields = this.fields.slice(0, this.count * STRIDE);
    copy.options = [...this.options];
    return copy;
  }
}
