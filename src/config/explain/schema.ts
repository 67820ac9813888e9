import type { z } from "zod";
import type { Path } from "../source/positions.ts";

/**
 * Looking into zod schemas: which part of the schema a path leads to, which branch of a union a value was
 * meant for, and how to tell a person what is expected there. Error messages and the reference page say
 * the same words because both come from here.
 */
export type Schema = z.core.$ZodTypes;

const inner = (schema: Schema): Schema | undefined => {
  const { def } = schema._zod;
  switch (def.type) {
    case "default":
    case "prefault":
    case "optional":
    case "nullable":
    case "readonly":
    case "nonoptional":
    case "catch":
      return def.innerType as Schema;
    case "pipe":
      return def.in as Schema;
    case "lazy":
      return def.getter() as Schema;
    default:
      return undefined;
  }
};

/** The schema of what is written: without defaults, optionality and transformations. */
export function unwrap(schema: Schema): Schema {
  let current = schema;
  for (let next = inner(current); next; next = inner(current)) current = next;
  return current;
}

/** Whether a key may be left out. */
export function isOptional(schema: Schema): boolean {
  const { type } = schema._zod.def;
  if (type === "optional" || type === "default" || type === "prefault") return true;
  const next = inner(schema);
  return next !== undefined && isOptional(next);
}

/** The value that stands in for a missing key, in the form in which it would be written. */
export function defaultOf(schema: Schema): unknown {
  const { def } = schema._zod;
  if (def.type === "default" || def.type === "prefault") return def.defaultValue;
  const next = inner(schema);
  return next && defaultOf(next);
}

/** What zod registered with describe() and meta(), the outermost first. */
export function metaOf(schema: Schema, key: "description" | "example" | "secret" | "refersTo"): unknown {
  const meta = (schema as unknown as z.ZodType).meta();
  if (meta?.[key] !== undefined) return meta[key];
  const next = inner(schema);
  return next && metaOf(next, key);
}

export const shapeOf = (schema: Schema): Readonly<Record<string, Schema>> | undefined => {
  const { def } = unwrap(schema)._zod;
  return def.type === "object" ? (def.shape as Readonly<Record<string, Schema>>) : undefined;
};

/** All options of a union, those of unions inside it included; the schema itself where it is none. */
export function optionsOf(schema: Schema): readonly Schema[] {
  const bare = unwrap(schema);
  const { def } = bare._zod;
  return def.type === "union" ? (def.options as readonly Schema[]) : [bare];
}

/** The keys that an option needs and that no other option knows: `tcp`, `http`, `exec`. */
export function markersOf(options: readonly Schema[]): readonly string[][] {
  const shapes = options.map((option) => shapeOf(option) ?? {});
  return shapes.map((shape, index) =>
    Object.keys(shape).filter(
      (key) =>
        !isOptional(shape[key] as Schema) && shapes.every((other, i) => i === index || !(key in other)),
    ),
  );
}

const kindOfValue = (value: unknown): string =>
  value === null ? "null" : Array.isArray(value) ? "array" : typeof value;

function kindOfSchema(schema: Schema): string {
  const bare = unwrap(schema);
  const { def } = bare._zod;
  if (def.type === "record" || def.type === "object") return "object";
  if (def.type === "literal") return kindOfValue(def.values[0]);
  if (def.type === "enum") return "string";
  return def.type;
}

export type Choice =
  | { readonly kind: "option"; readonly index: number }
  /** Keys of more than one option: they exclude each other. */
  | { readonly kind: "several"; readonly keys: readonly string[] }
  /** An object with no option's key; `markers` are the keys to choose from. */
  | { readonly kind: "none"; readonly markers: readonly string[] }
  | { readonly kind: "type" };

/** Which option of a union a value was meant for, told by its type and by the keys it has. */
export function chooseOption(options: readonly Schema[], value: unknown): Choice {
  const kind = kindOfValue(value);
  const fitting = options.flatMap((option, index) => {
    const bare = unwrap(option);
    const isUnion = bare._zod.def.type === "union";
    const kinds = isUnion ? optionsOf(bare).map(kindOfSchema) : [kindOfSchema(bare)];
    return kinds.includes(kind) ? [index] : [];
  });
  const [first, second] = fitting;
  if (first === undefined) return { kind: "type" };
  if (second === undefined) return { kind: "option", index: first };
  if (kind !== "object") {
    // Literals of one type: several fixed values. None of them fits, or there would be no error.
    return { kind: "type" };
  }
  const markers = markersOf(options);
  const present = fitting.filter((index) => markers[index]?.some((key) => key in (value as object)));
  if (present.length === 1) return { kind: "option", index: present[0] ?? 0 };
  if (present.length > 1) {
    const keys = present.flatMap((index) => markers[index]?.filter((key) => key in (value as object)) ?? []);
    return { kind: "several", keys };
  }
  return { kind: "none", markers: fitting.flatMap((index) => markers[index] ?? []) };
}

/** The schema that a path leads to; undefined where the path leaves the schema. */
export function schemaAt(root: Schema, path: Path, input: unknown): Schema | undefined {
  let schema: Schema = root;
  let value = input;
  for (const part of path) {
    let bare = unwrap(schema);
    while (bare._zod.def.type === "union") {
      const options = optionsOf(bare);
      const choice = chooseOption(options, value);
      const option = choice.kind === "option" ? options[choice.index] : undefined;
      if (!option) return undefined;
      bare = unwrap(option);
    }
    const { def } = bare._zod;
    let next: Schema | undefined;
    if (def.type === "object") next = def.shape[part] as Schema | undefined;
    else if (def.type === "record") next = def.valueType as Schema;
    else if (def.type === "array") next = def.element as Schema;
    if (!next) return undefined;
    schema = next;
    value =
      typeof value === "object" && value !== null ? (value as Record<string, unknown>)[part] : undefined;
  }
  return schema;
}

/** The bounds of a number, from its checks: ` from 1 to 255`. */
function boundsText(schema: Schema): string {
  let low: string | undefined;
  let high: string | undefined;
  for (const check of schema._zod.def.checks ?? []) {
    const def = check._zod.def as { check: string; value?: unknown; inclusive?: boolean };
    const value = String(def.value);
    if (def.check === "greater_than") low = def.inclusive === true ? value : `above ${value}`;
    if (def.check === "less_than") high = def.inclusive === true ? value : `below ${value}`;
  }
  if (low !== undefined && high !== undefined) return ` from ${low} to ${high}`;
  if (low !== undefined) return low.startsWith("above") ? ` ${low}` : `, at least ${low}`;
  return high === undefined ? "" : `, at most ${high}`;
}

/** What may be written here, in a few words: `a whole number from 1 to 255`. */
export function expectedText(schema: Schema): string {
  const bare = unwrap(schema);
  const { def } = bare._zod;
  switch (def.type) {
    case "string": {
      const expected = (bare as unknown as z.ZodType).meta()?.["expected"];
      return typeof expected === "string" ? expected : "a text";
    }
    case "number":
      return `${"format" in def && def.format === "safeint" ? "a whole number" : "a number"}${boundsText(bare)}`;
    case "boolean":
      return "true or false";
    case "literal":
      return def.values.map((value) => String(value)).join(" or ");
    case "enum":
      return `one of ${Object.values(def.entries).join(", ")}`;
    case "array":
      return `a list of ${plural(expectedText(def.element as Schema))}`;
    case "record":
      return "a mapping of names";
    case "object":
      return `a mapping with ${keyList(bare)}`;
    case "union":
      return unionText(optionsOf(bare));
    default:
      return `a ${def.type}`;
  }
}

function keyList(schema: Schema): string {
  const shape = shapeOf(schema) ?? {};
  const required = Object.keys(shape).filter((key) => !isOptional(shape[key] as Schema));
  const keys = required.length > 0 ? required : Object.keys(shape);
  return keys.slice(0, 6).join(", ");
}

function unionText(options: readonly Schema[]): string {
  const objects = options.filter((option) => shapeOf(option));
  if (objects.length > 1 && objects.length === options.length) {
    return `a mapping with one of ${markersOf(options).flat().join(", ")}`;
  }
  return [...new Set(options.map(expectedText))].join(", or ");
}

const plural = (text: string): string =>
  text.startsWith("a ") ? text.slice(2) : text.startsWith("an ") ? text.slice(3) : text;
