import { TOKEN, VALUE } from "../http1/wire-characters.ts";
import type { Fault } from "../http1/wire-faults.ts";
import { SINGLE } from "../http1/wire-fields.ts";
import { type Head, STRIDE } from "../http1/wire-head.ts";
import { Field, type FieldNames } from "../http1/wire-names.ts";

/** Fields of a connection, which HTTP/2 has none of (RFC 9113 8.2.2). */
export const OF_THE_CONNECTION: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);

/** A field's name: a token without capitals (RFC 9113 8.2.1). */
export function isName(name: string): boolean {
  if (name.length === 0) return false;
  for (let i = 0; i < name.length; i++) {
    const c = name.charCodeAt(i);
    if (c > 255 || TOKEN[c] !== 1 || (c >= 0x41 && c <= 0x5a)) return false;
  }
  return true;
}

/** A field's value: no CR, LF, NUL or other control character, no white space at its ends. */
export function isValue(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const c = value.charCodeAt(i);
    if (c > 255 || VALUE[c] !== 1) return false;
  }
  return !/^[ \t]|[ \t]$/.test(value);
}

/**
 * Collects the fields of an HTTP/2 head as the lines that HTTP/1.1 would have, so that everything behind reads one
 * kind of head. What could not stand in such a line is a fault: nothing is cleaned up silently.
 */
export class FieldCollector {
  readonly #names: FieldNames;
  readonly #head: Head;
  #text: string;
  #cookies = "";

  constructor(names: FieldNames, head: Head, startLine: string) {
    this.#names = names;
    this.#head = head;
    this.#text = startLine;
  }

  add(name: string, value: string): Fault | undefined {
    if (!isName(name)) return "field-name";
    if (OF_THE_CONNECTION.has(name)) return "h2-connection-field";
    if (!isValue(value)) return "field-value";
    if (name === "te" && value !== "trailers") return "h2-connection-field";
    const id = this.#names.known(name);
    if (id === 0 && name.includes("_") && this.#names.known(name.replaceAll("_", "-")) !== 0) {
      return "underscore-name";
    }
    // RFC 9113 8.2.3: cookies may come in pieces, and become one again for HTTP/1.1.
    if (id === Field.cookie) {
      this.#cookies += this.#cookies === "" ? value : `; ${value}`;
      return undefined;
    }
    return this.#line(id, name, value);
  }

  #line(id: number, name: string, value: string): Fault | undefined {
    const head = this.#head;
    if (id > 0 && id < 31) {
      const bit = 1 << id;
      if ((head.seen & bit & SINGLE) !== 0) return "duplicate-field";
      head.seen |= bit;
    }
    const start = this.#text.length;
    this.#text += `${name}: ${value}\r\n`;
    const f = head.count * STRIDE;
    const { fields } = head;
    fields[f] = start;
    fields[f + 1] = start + name.length;
    fields[f + 2] = start + name.length + 2;
    fields[f + 3] = this.#text.length - 2;
    fields[f + 4] = id;
    fields[f + 5] = this.#text.length;
    head.count++;
    return undefined;
  }

  /** Completes the head's text; the fault where it is larger than allowed. */
  finish(limits: { readonly head: number; readonly fields: number }): Fault | undefined {
    if (this.#cookies !== "") this.#line(Field.cookie, "cookie", this.#cookies);
    const head = this.#head;
    head.text = `${this.#text}\r\n`;
    if (head.text.length > limits.head) return "head-too-large";
    return head.count > limits.fields ? "too-many-fields" : undefined;
  }
}
