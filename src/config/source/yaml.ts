import {
  type Document,
  LineCounter,
  type Node,
  type Pair,
  type YAMLError,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  parseDocument,
} from "yaml";
import type { ConfigIssue } from "../../base/errors.ts";
import { type Path, type Position, Positions, formatPath } from "./positions.ts";
import type { Source } from "./source.ts";

/** A site file is written by people: what is larger is a mistake or an attack by aliases of aliases. */
export const YAML_LIMITS = { bytes: 4 * 1024 * 1024, values: 100_000, depth: 64 } as const;

/** Our words for the mistakes that people make; the library's own serve for the rest. */
const wording: Partial<Record<YAMLError["code"], readonly [string, string?]>> = {
  DUPLICATE_KEY: ["this key stands here twice", "keep one of the two"],
  TAB_AS_INDENT: ["a tab is used to indent", "YAML is indented with spaces"],
  MULTIPLE_DOCS: ["a second document begins here", "a site is one document: remove the line ---"],
  BAD_ALIAS: ["this alias is not possible"],
  BAD_INDENT: ["the indentation does not fit what stands above", "items of one level begin in one column"],
  BLOCK_AS_IMPLICIT_KEY: ["a mapping inside a one-line value", 'quote a text that has ": " in it'],
  MISSING_CHAR: ["a bracket, a quote or a comma is missing", "[2001:db8::1]:80 and the like need quotes"],
  KEY_OVER_1024_CHARS: ["a key of more than 1024 characters"],
};

class TooLarge extends Error {}

/** Turns the parsed document into plain values, noting positions; aliases are expanded within bounds. */
class Converter {
  readonly positions = new Positions();
  readonly issues: ConfigIssue[] = [];
  readonly #file: string;
  readonly #document: Document.Parsed;
  readonly #lines: LineCounter;
  #values = 0;

  constructor(file: string, document: Document.Parsed, lines: LineCounter) {
    this.#file = file;
    this.#document = document;
    this.#lines = lines;
  }

  at(offset: number | undefined): Position {
    const { line, col } = this.#lines.linePos(offset ?? 0);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  }

  issue(offset: number | undefined, path: Path, message: string, hint?: string): void {
    const where = this.at(offset);
    this.issues.push({
      file: this.#file,
      ...where,
      path: formatPath(path),
      message,
      ...(hint === undefined ? {} : { hint }),
    });
  }

  convert(node: Node | null | undefined, path: Path, depth: number): unknown {
    if (++this.#values > YAML_LIMITS.values || depth > YAML_LIMITS.depth) throw new TooLarge();
    if (node === null || node === undefined) return null;
    if (isAlias(node)) {
      const target = node.resolve(this.#document);
      if (!target) {
        this.issue(node.range?.[0], path, `the alias *${node.source} has no anchor above it`);
        return null;
      }
      return this.convert(target, path, depth + 1);
    }
    if (isMap(node)) {
      const result: Record<string, unknown> = {};
      for (const pair of node.items) this.#pair(pair as Pair<Node, Node | null>, path, depth, result);
      return result;
    }
    if (isSeq(node)) {
      return node.items.map((item, index) => {
        const child = item as Node;
        const childPath = [...path, index];
        this.positions.set(childPath, this.at(child.range?.[0]));
        return this.convert(child, childPath, depth + 1);
      });
    }
    return isScalar(node) ? node.value : null;
  }

  #pair(pair: Pair<Node, Node | null>, path: Path, depth: number, into: Record<string, unknown>): void {
    const { key, value } = pair;
    const name = isScalar(key) ? key.value : undefined;
    if (typeof name !== "string" && typeof name !== "number") {
      this.issue(key.range?.[0], path, "a key is not a plain text", "a key is a name, perhaps in quotes");
      return;
    }
    if (name === "<<") {
      this.issue(key.range?.[0], path, "merge keys (<<) are not read", "a site.ts can compute such parts");
      return;
    }
    if (name === "__proto__") {
      this.issue(key.range?.[0], path, "__proto__ is not a possible name");
      return;
    }
    const text = String(name);
    const childPath = [...path, text];
    const keyAt = this.at(key.range?.[0]);
    this.positions.set(childPath, value?.range ? this.at(value.range[0]) : keyAt, keyAt);
    into[text] = this.convert(value, childPath, depth + 1);
  }
}

function tellSyntax(converter: Converter, problem: YAMLError): void {
  // One code for two mistakes: an indentation and a bracket that never closes.
  const code = problem.message.includes("end with a") ? "MISSING_CHAR" : problem.code;
  const [message, hint] = wording[code] ?? [problem.message];
  converter.issue(problem.pos[0], [], message, hint);
}

/** Reads YAML 1.2. Never throws; a file that cannot be read has no value and says why. */
export function readYaml(file: string, text: string): Source {
  const whole = { file, line: 1, column: 1, path: "" };
  const nothing = (message: string, hint?: string): Source => ({
    file,
    positions: new Positions(),
    issues: [{ ...whole, message, ...(hint === undefined ? {} : { hint }) }],
  });
  if (text.length > YAML_LIMITS.bytes)
    return nothing(`the file has ${text.length} characters; ${YAML_LIMITS.bytes} are read at most`);

  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const converter = new Converter(file, document, lines);
  for (const problem of document.errors) tellSyntax(converter, problem);
  for (const problem of document.warnings) tellSyntax(converter, problem);
  const { positions, issues } = converter;
  // With a key written twice, the rest still reads as it was meant.
  if (document.errors.some((problem) => problem.code !== "DUPLICATE_KEY")) return { file, positions, issues };
  try {
    const value = converter.convert(document.contents, [], 0);
    if (value === null && issues.length === 0) return nothing("the file is empty", "begin with: site: NAME");
    return { file, value, positions, issues };
  } catch (error) {
    if (!(error instanceof TooLarge)) throw error;
    return nothing(
      `more than ${YAML_LIMITS.values} values or ${YAML_LIMITS.depth} levels once its aliases are expanded`,
    );
  }
}
