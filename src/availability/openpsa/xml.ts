/**
 * A strict pull parser for the XML that models are written in: elements, attributes, text, comments, CDATA.
 * No document type, hence no entities but the five and character numbers: nothing in a file can grow, refer
 * elsewhere or loop. Depth and length are bounded.
 */
export interface XmlOpen {
  readonly kind: "open";
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  /** From 1. */
  readonly line: number;
}
export type XmlToken =
  | XmlOpen
  | { readonly kind: "close"; readonly name: string }
  | { readonly kind: "text"; readonly text: string };

export class XmlError extends Error {
  readonly line: number;
  readonly column: number;
  constructor(message: string, line: number, column: number) {
    super(message);
    this.line = line;
    this.column = column;
  }
}

/** Deeper than any model written by a person or a program needs; keeps the readers' recursion harmless. */
const MAX_DEPTH = 256;
const MAX_ATTRIBUTES = 64;
const NO_ATTRIBUTES: ReadonlyMap<string, string> = new Map();
const ENTITIES: Readonly<Record<string, string>> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

const isSpace = (code: number): boolean => code === 32 || code === 10 || code === 9 || code === 13;
/** Letters, digits, `_`, `-`, `.`, `:` and everything beyond ASCII. */
const isName = (code: number): boolean =>
  (code >= 97 && code <= 122) ||
  (code >= 65 && code <= 90) ||
  (code >= 48 && code <= 58) ||
  code === 95 ||
  code === 45 ||
  code === 46 ||
  code > 127;

export class XmlReader {
  readonly #text: string;
  #at = 0;
  #line = 1;
  #counted = 0;
  readonly #path: string[] = [];
  /** The close of an element written as `<a/>`. */
  #pendingClose: string | undefined;
  #rootSeen = false;

  constructor(text: string) {
    this.#text = text;
    if (text.startsWith("\uFEFF")) this.#at = 1;
  }

  /** The line of what was read last, from 1. */
  get line(): number {
    // Counted as far as needed: each character is looked at once over the whole file.
    for (;;) {
      const next = this.#text.indexOf("\n", this.#counted);
      if (next < 0 || next >= this.#at) return this.#line;
      this.#line++;
      this.#counted = next + 1;
    }
  }

  error(message: string): XmlError {
    const { line } = this;
    return new XmlError(message, line, this.#at - this.#counted + 1);
  }

  /** The next token; undefined at the end. White space between elements is passed over. */
  next(): XmlToken | undefined {
    if (this.#pendingClose !== undefined) {
      const name = this.#pendingClose;
      this.#pendingClose = undefined;
      this.#path.pop();
      return { kind: "close", name };
    }
    const text = this.#text;
    for (;;) {
      const start = this.#at;
      while (isSpace(text.charCodeAt(this.#at))) this.#at++;
      if (this.#at >= text.length) {
        if (this.#path.length > 0) throw this.error(`<${this.#path.at(-1)}> is never closed`);
        if (!this.#rootSeen) throw this.error("the file has no element");
        return undefined;
      }
      if (text.charCodeAt(this.#at) !== 60) {
        this.#at = start;
        return this.#characters();
      }
      const second = text.charCodeAt(this.#at + 1);
      if (second === 33) {
        if (text.startsWith("<!--", this.#at)) this.#skip("-->", "a comment");
        else if (text.startsWith("<![CDATA[", this.#at)) {
          const from = this.#at + 9;
          this.#skip("]]>", "a CDATA section");
          return { kind: "text", text: text.slice(from, this.#at - 3) };
        } else throw this.error("document types and entities are not accepted: remove <!...>");
      } else if (second === 63) this.#skip("?>", "a processing instruction");
      else if (second === 47) return this.#close();
      else return this.#open();
    }
  }

  #skip(end: string, what: string): void {
    const found = this.#text.indexOf(end, this.#at + 2);
    if (found < 0) throw this.error(`${what} is never closed`);
    this.#at = found + end.length;
  }

  #characters(): XmlToken {
    if (this.#path.length === 0) {
      while (isSpace(this.#text.charCodeAt(this.#at))) this.#at++;
      throw this.error("text outside of any element; is this an XML file?");
    }
    let end = this.#text.indexOf("<", this.#at);
    if (end < 0) end = this.#text.length;
    const raw = this.#text.slice(this.#at, end);
    const text = this.#decode(raw);
    this.#at = end;
    return { kind: "text", text };
  }

  #decode(raw: string): string {
    if (!raw.includes("&")) return raw;
    return raw.replaceAll(/&([^;&]{0,12})(;?)/g, (all, name: string, semicolon: string) => {
      const numeric = /^#(?:x([0-9a-fA-F]{1,6})|(\d{1,7}))$/.exec(name);
      const code = numeric
        ? Number.parseInt(numeric[1] ?? numeric[2] ?? "", numeric[1] === undefined ? 10 : 16)
        : Number.NaN;
      if (semicolon && code > 0 && code <= 0x10ffff) return String.fromCodePoint(code);
      if (semicolon && Object.hasOwn(ENTITIES, name)) return ENTITIES[name] ?? "";
      throw this.error(`unknown entity "${all}"; only &lt; &gt; &amp; &quot; &apos; and &#...; are known`);
    });
  }

  #name(what: string): string {
    const start = this.#at;
    while (isName(this.#text.charCodeAt(this.#at))) this.#at++;
    if (this.#at === start) throw this.error(`expected ${what}`);
    return this.#text.slice(start, this.#at);
  }

  #open(): XmlToken {
    const { line } = this;
    const text = this.#text;
    this.#at++;
    const name = this.#name("an element name after <");
    if (this.#path.length === 0 && this.#rootSeen) throw this.error("a second root element");
    let attributes: Map<string, string> | undefined;
    for (;;) {
      const before = this.#at;
      while (isSpace(text.charCodeAt(this.#at))) this.#at++;
      const code = text.charCodeAt(this.#at);
      if (code === 62) {
        this.#at++;
        break;
      }
      if (code === 47 && text.charCodeAt(this.#at + 1) === 62) {
        this.#at += 2;
        this.#pendingClose = name;
        break;
      }
      if (this.#at >= text.length) throw this.error(`<${name} is never closed`);
      if (this.#at === before) throw this.error(`expected a space, > or /> in <${name}>`);
      const key = this.#name(`an attribute, > or /> in <${name}>`);
      while (isSpace(text.charCodeAt(this.#at))) this.#at++;
      if (text.charCodeAt(this.#at) !== 61) throw this.error(`expected = after ${key}`);
      this.#at++;
      while (isSpace(text.charCodeAt(this.#at))) this.#at++;
      const quote = text.charAt(this.#at);
      if (quote !== '"' && quote !== "'") throw this.error(`expected a quoted value for ${key}`);
      const end = text.indexOf(quote, this.#at + 1);
      if (end < 0) throw this.error(`the value of ${key} is never closed`);
      const raw = text.slice(this.#at + 1, end);
      if (raw.includes("<")) throw this.error(`"<" in the value of ${key}`);
      attributes ??= new Map();
      if (attributes.has(key)) throw this.error(`${key} is given twice`);
      if (attributes.size >= MAX_ATTRIBUTES) throw this.error(`<${name}> has too many attributes`);
      attributes.set(key, this.#decode(raw));
      this.#at = end + 1;
    }
    if (this.#path.length >= MAX_DEPTH) throw this.error(`elements are nested deeper than ${MAX_DEPTH}`);
    this.#path.push(name);
    this.#rootSeen = true;
    return { kind: "open", name, attributes: attributes ?? NO_ATTRIBUTES, line };
  }

  #close(): XmlToken {
    this.#at += 2;
    const name = this.#name("an element name after </");
    while (isSpace(this.#text.charCodeAt(this.#at))) this.#at++;
    if (this.#text.charCodeAt(this.#at) !== 62) throw this.error(`expected > after </${name}`);
    this.#at++;
    const open = this.#path.pop();
    if (open !== name)
      throw this.error(
        open === undefined ? `</${name}> closes nothing` : `</${name}> where </${open}> is due`,
      );
    return { kind: "close", name };
  }
}

const ESCAPES: Readonly<Record<string, string>> = { "<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;" };
export const escapeXml = (text: string): string => text.replaceAll(/[<>&"]/g, (c) => ESCAPES[c] ?? c);
