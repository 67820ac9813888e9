import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { formatConfigIssue } from "../base/errors.ts";
import { explainIssues } from "./explain/issues.ts";
import { siteJsonSchema } from "./json-schema.ts";
import { examineSite, examineSource } from "./load.ts";
import { siteFileReference } from "./reference.ts";
import { siteSchema } from "./schema/site.ts";
import { readYaml } from "./source/yaml.ts";

const root = new URL("../../", import.meta.url).pathname;
const read = (path: string): string => readFileSync(join(root, path), "utf8");

describe("generated documents are current (npm run docs)", () => {
  it("the reference of the site file", () =>
    expect(read("docs/reference/site-file.md")).toBe(siteFileReference()));
  it("the JSON Schema for editors", () =>
    expect(JSON.parse(read("docs/reference/site.schema.json"))).toEqual(
      JSON.parse(JSON.stringify(siteJsonSchema())),
    ));
});

describe("the JSON Schema", () => {
  it("knows the keys, their defaults and what they mean, and none of our own notes", () => {
    const text = JSON.stringify(siteJsonSchema());
    expect(text).toContain('"Advertisement interval."');
    expect(text).toContain('"additionalProperties":false');
    expect(text).not.toMatch(/"(expected|secret)":(true|"a)/);
  });
});

/** Fenced YAML of a document, with the line on which each begins. */
function yamlBlocks(path: string): { readonly line: number; readonly text: string }[] {
  const text = read(path);
  return [...text.matchAll(/^```yaml\n(.*?)^```$/gms)].map((match) => ({
    line: text.slice(0, match.index).split("\n").length,
    text: match[1] ?? "",
  }));
}

/** A whole site is checked as a file is; a part of one against its own part of the schema. */
function mistakes(text: string): string[] {
  const source = readYaml("block", text);
  const value = source.value as Record<string, unknown> | undefined;
  if (source.issues.length > 0 || value === undefined) return source.issues.map(formatConfigIssue);
  if ("site" in value) return examineSource(source).issues.map(formatConfigIssue);
  const parsed = siteSchema.partial().safeParse(value);
  if (parsed.success) return [];
  return explainIssues(siteSchema, parsed.error.issues, value).map(
    ({ path, message }) => `${path.join(".")}: ${message}`,
  );
}

const documents = ["docs/guide", "docs/reference", "src"].flatMap((directory) =>
  existsSync(join(root, directory))
    ? readdirSync(join(root, directory), { recursive: true })
        .map((name) => join(directory, String(name)))
        .filter((name) => name.endsWith(".md"))
    : [],
);

describe("every piece of a site file in a document loads", () => {
  const blocks = ["README.md", ...documents].flatMap((path) =>
    yamlBlocks(path).map(({ line, text }) => [`${path}:${line}`, text] as const),
  );
  it("and there are some", () => expect(blocks.length).toBeGreaterThan(5));
  it.each(blocks)("%s", (_, text) => expect(mistakes(text)).toEqual([]));
  it("or the test would tell", () => {
    expect(mistakes("pools: { apps: { backend: {} } }")).toEqual([
      'pools.apps.backend: unknown key "backend"',
    ]);
  });
});

describe("every example is a good site without a warning", { timeout: 30_000 }, () => {
  const files = readdirSync(join(root, "examples")).flatMap((name) =>
    ["site.yaml", "site.ts"]
      .map((file) => join("examples", name, file))
      .filter((path) => existsSync(join(root, path))),
  );
  it.each(files)("%s", async (path) => {
    const { issues, warnings } = await examineSite(join(root, path));
    expect([...issues, ...warnings].map(formatConfigIssue)).toEqual([]);
  });
});
