/** docs/reference/site-file.md, from the schema: nothing in it is written by hand but the examples. */
import type { z } from "zod";
import {
  type Schema,
  defaultOf,
  expectedText,
  isOptional,
  markersOf,
  metaOf,
  optionsOf,
  shapeOf,
  unwrap,
} from "./explain/schema.ts";
import { examples } from "./reference-examples.ts";
import { siteSchema } from "./schema/site.ts";

interface Section {
  readonly title: string;
  readonly schema: Schema;
}

const anchor = (title: string): string =>
  title
    .toLowerCase()
    .replaceAll(/[^\w -]/g, "")
    .replaceAll(" ", "-");
const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");
const code = (text: string): string => `\`${text}\``;

/** The part of a value that has keys of its own: the value, a list's items, a mapping's values. */
function nested(title: string, schema: Schema): Section | undefined {
  const bare = unwrap(schema);
  const { def } = bare._zod;
  if (def.type === "object") return { title, schema: bare };
  if (def.type === "array") return nested(`${title}[]`, def.element as Schema);
  if (def.type === "record") return nested(`${title}.NAME`, def.valueType as Schema);
  if (def.type !== "union") return undefined;
  const options = optionsOf(bare);
  const inside = options.flatMap((option) => nested(title, option) ?? []);
  if (inside.length === 0) return undefined;
  return inside.length === 1 ? inside[0] : { title, schema: bare };
}

function defaultText(schema: Schema): string {
  if (!isOptional(schema)) return "**required**";
  const value = defaultOf(schema);
  if (value === undefined) return "";
  const isEmpty = typeof value === "object" && value !== null && Object.keys(value).length === 0;
  if (isEmpty) return Array.isArray(value) ? "none" : shapeOf(schema) ? "" : "none";
  return code(typeof value === "string" ? (value === "" ? '""' : value) : JSON.stringify(value));
}

/** What may be written, with a link to where its own keys are told. */
function typeText(schema: Schema, titles: ReadonlyMap<Schema, string>): string {
  const bare = unwrap(schema);
  const link = (part: Schema, text: string): string => {
    const title = titles.get(unwrap(part));
    return title === undefined ? text : `[${text}](#${anchor(title)})`;
  };
  const { def } = bare._zod;
  if (def.type === "object") return link(bare, "a mapping");
  if (def.type === "array") return `a list: ${typeText(def.element as Schema, titles)}`;
  if (def.type === "record") return `a mapping of names: ${typeText(def.valueType as Schema, titles)}`;
  if (def.type === "custom") return "a function (site.ts)";
  // How durations and sizes are written is said once, above.
  if (def.type !== "union") return expectedText(bare).replace(/^(a duration|a size):.*/, "$1");
  if (titles.has(bare)) return link(bare, "a mapping");
  return [...new Set(optionsOf(bare).map((option) => typeText(option, titles)))].join(", or ");
}

function rows(shape: Readonly<Record<string, Schema>>, titles: ReadonlyMap<Schema, string>): string[] {
  const lines = Object.entries(shape).map(([key, schema]) => {
    const description = metaOf(schema, "description");
    // The innermost description of a text only repeats its type.
    const told = typeof description === "string" && description !== expectedText(schema) ? description : "";
    return `| ${code(key)} | ${cell(typeText(schema, titles))} | ${cell(defaultText(schema))} | ${cell(told)} |`;
  });
  return ["| key | what it holds | default | |", "| --- | --- | --- | --- |", ...lines, ""];
}

/** All sections in reading order. One that is used at several places stands once, where it comes first. */
function sections(): Section[] {
  const found: Section[] = [];
  const seen = new Set<unknown>();
  const visit = ({ title, schema }: Section): void => {
    if (seen.has(schema)) return;
    seen.add(schema);
    found.push({ title, schema });
    for (const option of optionsOf(schema)) {
      for (const [key, child] of Object.entries(shapeOf(option) ?? {})) {
        const inside = nested(title === "" ? key : `${title}.${key}`, child);
        if (inside) visit(inside);
      }
    }
  };
  visit({ title: "", schema: siteSchema as z.core.$ZodType as Schema });
  return found;
}

function sectionText({ title, schema }: Section, titles: ReadonlyMap<Schema, string>): string[] {
  const lines = title === "" ? [] : [`## ${title}`, ""];
  const example = examples[title];
  if (example !== undefined) lines.push("```yaml", example.trim(), "```", "");
  const options = optionsOf(schema).filter((option) => shapeOf(option));
  if (options.length === 1) return [...lines, ...rows(shapeOf(options[0] as Schema) ?? {}, titles)];
  const markers = markersOf(options);
  const shapes = options.map((option) => shapeOf(option) ?? {});
  const common = Object.keys(shapes[0] ?? {}).filter((key) => shapes.every((shape) => key in shape));
  lines.push("One of these:", "");
  for (const [index, shape] of shapes.entries()) {
    const own = Object.fromEntries(Object.entries(shape).filter(([key]) => !common.includes(key)));
    lines.push(`**${markers[index]?.map(code).join(", ") ?? ""}**`, "", ...rows(own, titles));
  }
  if (common.length === 0) return lines;
  const shared = Object.fromEntries(common.map((key) => [key, shapes[0]?.[key] as Schema]));
  return [...lines, "With each of them:", "", ...rows(shared, titles)];
}

export function siteFileReference(): string {
  const all = sections();
  const titles = new Map(all.map(({ title, schema }) => [schema, title]));
  const intro = [
    "# The site file",
    "",
    "Generated from the schema by `npm run docs`; a test holds that it is current. [The guide](../guide/site-file.md)",
    "tells how to write one. NAME stands for a name of your own, `[]` for each item of a list. Durations are written",
    "`100ms`, `3s`, `5m`, `1h`, sizes `512B`, `16KiB`, `1MiB`. Unknown keys are errors.",
    "",
  ];
  const text = [...intro, ...all.flatMap((section) => sectionText(section, titles))].join("\n");
  return `${text.trimEnd()}\n`;
}
