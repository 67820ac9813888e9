import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { YAML_LIMITS, readYaml } from "./yaml.ts";

const told = (text: string): string[] =>
  readYaml("site.yaml", text).issues.map((issue) => `${issue.line}:${issue.column} ${issue.message}`);

describe("YAML", () => {
  it("keeps the position of every key and value", () => {
    const { value, positions } = readYaml(
      "site.yaml",
      "site: a\nnodes:\n  lb1: { address: 10.0.0.1 }\nlist:\n  - x\n",
    );
    expect(value).toEqual({ site: "a", nodes: { lb1: { address: "10.0.0.1" } }, list: ["x"] });
    expect(positions.value(["nodes", "lb1", "address"])).toEqual({ line: 3, column: 19 });
    expect(positions.key(["nodes", "lb1", "address"])).toEqual({ line: 3, column: 10 });
    expect(positions.value(["list", 0])).toEqual({ line: 5, column: 5 });
    // What is not there stands where its parent stands.
    expect(positions.value(["nodes", "lb1", "zone"])).toEqual({ line: 3, column: 3 });
  });
  it.each([
    ["a key written twice", "a: 1\nb: 2\na: 3\n", "3:1 this key stands here twice"],
    ["a tab", "a:\n\tb: 1\n", "2:1 a tab is used to indent"],
    ["two documents", "a: 1\n---\nb: 2\n", "2:1 a second document begins here"],
    ["an alias of nothing", "a: *b\n", "1:4 the alias *b has no anchor above it"],
    ["a merge key", "a: &x { b: 1 }\nc:\n  <<: *x\n", "3:3 merge keys (<<) are not read"],
    ["a prototype", "a: { __proto__: { b: 1 } }\n", "1:6 __proto__ is not a possible name"],
    ["nothing at all", "# only a comment\n", "1:1 the file is empty"],
    ["an open bracket", "a: [1, 2", "1:9 a bracket, a quote or a comma is missing"],
    ["a tag", "a: !include other.yaml\n", "1:4 Unresolved tag: !include"],
  ])("tells %s", (_, text, expected) => {
    expect(told(text).join("\n")).toContain(expected);
  });
  it("expands aliases, but only so far", () => {
    expect(readYaml("s", "a: &x [1]\nb: *x\n").value).toEqual({ a: [1], b: [1] });
    const laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"];
    for (let i = 1; i < 9; i++)
      laughs.push(
        `a${i}: &a${i} [${Array(10)
          .fill(`*a${i - 1}`)
          .join(", ")}]`,
      );
    expect(told(laughs.join("\n"))).toEqual([
      `1:1 more than ${YAML_LIMITS.values} values or ${YAML_LIMITS.depth} levels once its aliases are expanded`,
    ]);
    expect(told("a: &x { b: *x }\n")[0]).toBeDefined();
    expect(told(`a: ${"[".repeat(70)}${"]".repeat(70)}`)[0]).toContain("levels");
  });
  it("never throws, whatever the text", () => {
    const piece = fc.constantFrom(
      "a",
      ":",
      " ",
      "\n",
      "-",
      "[",
      "{",
      "]",
      "}",
      "&a",
      "*a",
      "'",
      '"',
      "|",
      ">",
      "\t",
      "!",
      "%",
      "#",
      "?",
      "---",
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(piece, { maxLength: 40 }).map((parts) => parts.join("")),
        ),
        (text) => {
          const source = readYaml("s", text);
          expect(source.value !== undefined || source.issues.length > 0).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });
});
