import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { expect, it } from "vitest";
import { buildProgram } from "./program.ts";

const SOURCE = new URL("..", import.meta.url).pathname;

/** What follows the program's name in sentences and in names of the kernel's tables. */
const PROSE = new Set([
  "and",
  "as",
  "brain",
  "cannot",
  "does",
  "is",
  "or",
  "prerouting",
  "puts",
  "sets",
  "site",
  "tls",
  "uses",
]);

function literals(file: string): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node))
      found.push(node.text);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.Latest));
  return found;
}

it("every command that the program tells somebody to run is one", () => {
  const known = new Set(buildProgram().commands.map((command) => command.name()));
  const unknown = new Set<string>();
  const named = new Set<string>();
  for (const file of readdirSync(SOURCE, { recursive: true, encoding: "utf8" })) {
    if (!file.endsWith(".ts") || file.endsWith(".test.ts")) continue;
    for (const text of literals(join(SOURCE, file)))
      for (const [, word = ""] of text.matchAll(/(?<![\w.@/-])nines ([a-z]+)\b(?![./])/g)) {
        if (known.has(word)) named.add(word);
        else if (!PROSE.has(word)) unknown.add(`${file}: nines ${word}`);
      }
  }
  expect([...unknown]).toEqual([]);
  expect(named.size).toBeGreaterThan(5);
});
