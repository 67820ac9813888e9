import type { z } from "zod";
import { type Path, formatPath } from "../source/positions.ts";
import { nearest, suggest } from "./near.ts";
import {
  type Schema,
  chooseOption,
  expectedText,
  isOptional,
  metaOf,
  optionsOf,
  schemaAt,
  shapeOf,
  unwrap,
} from "./schema.ts";

/** A mistake or a warning before its position is looked up. */
export interface Finding {
  readonly path: Path;
  readonly message: string;
  readonly hint?: string | undefined;
  /** For an unknown key: the key that was probably meant. */
  readonly meant?: string | undefined;
  /** Whether the key itself is wrong, not its value. */
  readonly at?: "key" | "value" | undefined;
}

type Issue = z.core.$ZodIssue;

/** What stands in the file, in a few words and never a secret. */
export function foundText(value: unknown): string {
  if (value === undefined || value === null) return "nothing";
  if (typeof value === "string")
    return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  if (typeof value === "number" || typeof value === "bigint" || typeof value === "boolean")
    return String(value);
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list";
  if (typeof value === "object") return "a mapping";
  return `a ${typeof value}`;
}

const valueAt = (input: unknown, path: Path): unknown => {
  let value = input;
  for (const part of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<string, unknown>)[part];
  }
  return value;
};

/** A refinement may have written an index as text. */
function localPath(parts: readonly PropertyKey[], input: unknown): (string | number)[] {
  let value = input;
  return parts.map((part) => {
    const key = Array.isArray(value) ? Number(part) : typeof part === "symbol" ? String(part) : part;
    value = typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined;
    return key;
  });
}

/** zod's issues in the words of the site file, one finding per mistake. */
export function explainIssues(
  root: Schema,
  issues: readonly Issue[],
  input: unknown,
  base: Path = [],
): Finding[] {
  const findings = issues.flatMap((issue) => explainOne(root, issue, input, base));
  // A key written wrongly is one mistake, not a missing and an unknown one.
  const meant = new Set(
    findings.flatMap(({ path, meant: key }) =>
      key === undefined ? [] : [formatPath([...path.slice(0, -1), key])],
    ),
  );
  return findings.filter(
    ({ path, message }) => !(message.endsWith(" is missing") && meant.has(formatPath(path))),
  );
}

function explainOne(root: Schema, issue: Issue, input: unknown, base: Path): Finding[] {
  const local = localPath(issue.path, input);
  const path = [...base, ...local];
  const schema = schemaAt(root, local, input);
  const value = valueAt(input, local);
  if (schema && metaOf(schema, "secret") === true) return [secretFinding(path, value)];
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => unknownKey(schema, key, path, value));
    case "invalid_union":
      return explainUnion(schema, issue, value, path);
    case "invalid_key":
      return [
        {
          path,
          at: "key",
          message: `${foundText(local.at(-1))} is not a possible name`,
          hint: issue.issues[0]?.message,
        },
      ];
    case "custom":
      return [customFinding(issue.message, value, path)];
    default:
      return [wrongValue(schema, issue, value, path)];
  }
}

/** A custom message that does not say what was found is told it. */
function customFinding(message: string, value: unknown, path: Path): Finding {
  if (!message.startsWith("expected")) return { path, message };
  return { path, message: `found ${foundText(value)}, ${message}` };
}

function secretFinding(path: Path, value: unknown): Finding {
  const isInline = typeof value === "string" || typeof value === "number";
  return {
    path,
    message: isInline ? "a secret stands in the site file itself" : "this is not a reference to a secret",
    hint: "write { file: PATH } or { env: NAME }, and the secret there",
  };
}

function unknownKey(schema: Schema | undefined, key: string, path: Path, value: unknown): Finding {
  const known = schema ? knownKeys(schema, value) : [];
  const used = new Set(typeof value === "object" && value !== null ? Object.keys(value) : []);
  const free = known.filter((name) => !used.has(name));
  return {
    path: [...path, key],
    meant: nearest(key, free),
    at: "key",
    message: `unknown key ${JSON.stringify(key)}`,
    hint: suggest(key, nearest(key, free) === undefined ? known : free, "known keys here"),
  };
}

function knownKeys(schema: Schema, value: unknown): string[] {
  const shape = shapeOf(schema);
  if (shape) return Object.keys(shape);
  const options = optionsOf(schema);
  if (options.length <= 1) return [];
  const choice = chooseOption(options, value);
  const chosen = choice.kind === "option" ? options[choice.index] : undefined;
  return chosen ? knownKeys(chosen, value) : options.flatMap((option) => Object.keys(shapeOf(option) ?? {}));
}

function explainUnion(
  schema: Schema | undefined,
  issue: z.core.$ZodIssueInvalidUnion,
  value: unknown,
  path: Path,
): Finding[] {
  if (!schema)
    return [{ path, message: `found ${foundText(value)}, which fits nothing that may stand here` }];
  const options = optionsOf(schema);
  const choice = chooseOption(options, value);
  switch (choice.kind) {
    case "option": {
      const option = options[choice.index];
      const inner = issue.errors[choice.index];
      if (option && inner && inner.length > 0) return explainIssues(option, inner, value, path);
      return [wrongType(schema, value, path)];
    }
    case "several":
      return [
        {
          path,
          message: `${choice.keys.join(" and ")} exclude each other`,
          hint: "keep one of them",
        },
      ];
    case "none": {
      const keys = Object.keys(value as object);
      const slip = keys.find((key) => nearest(key, choice.markers) !== undefined);
      const hint =
        slip === undefined
          ? undefined
          : `instead of "${slip}", did you mean "${nearest(slip, choice.markers)}"?`;
      const message = `one of the keys ${choice.markers.join(", ")} is needed here`;
      return [
        {
          path: slip === undefined ? path : [...path, slip],
          at: slip === undefined ? "value" : "key",
          message,
          hint,
        },
      ];
    }
    default:
      return [wrongType(schema, value, path)];
  }
}

function wrongType(schema: Schema, value: unknown, path: Path): Finding {
  const expected = expectedText(schema);
  if (value === undefined) return missing(schema, path);
  const near = typeof value === "string" ? nearest(value, enumValues(schema)) : undefined;
  return {
    path,
    message: `found ${foundText(value)}, expected ${expected}`,
    hint: near === undefined ? typeHint(schema, value) : `did you mean "${near}"?`,
  };
}

const enumValues = (schema: Schema): string[] =>
  optionsOf(schema).flatMap((option) => {
    const { def } = unwrap(option)._zod;
    if (def.type === "enum") return Object.values(def.entries).map(String);
    return def.type === "literal" ? def.values.map(String) : [];
  });

function missing(schema: Schema, path: Path): Finding {
  return {
    path,
    message: `${String(path.at(-1) ?? "this")} is missing`,
    hint: `expected ${expectedText(schema)}`,
  };
}

function typeHint(schema: Schema, value: unknown): string | undefined {
  const { type } = unwrap(schema)._zod.def;
  if (type === "string" && typeof value === "number")
    return expectedText(schema).startsWith("a duration")
      ? `with its unit: ${value}s or ${value}ms`
      : "in quotes";
  if (type === "string" && Array.isArray(value)) return 'a text that begins with "[" needs quotes';
  if (type === "number" && typeof value === "string" && value.trim() !== "" && !Number.isNaN(Number(value)))
    return "write the number without quotes";
  if (type === "boolean" && typeof value === "string" && /^(yes|on|no|off)$/i.test(value))
    return /^(yes|on)$/i.test(value) ? "write true" : "write false";
  return undefined;
}

function wrongValue(schema: Schema | undefined, issue: Issue, value: unknown, path: Path): Finding {
  if (!schema) return { path, message: `found ${foundText(value)}: ${issue.message}` };
  if (value === undefined && !isOptional(schema)) return missing(schema, path);
  if (issue.code === "invalid_format")
    return { path, message: `found ${foundText(value)}, expected ${formatText(issue)}` };
  if ((issue.code === "too_small" || issue.code === "too_big") && issue.origin !== "number") {
    const limit = issue.code === "too_small" ? `at least ${issue.minimum}` : `at most ${issue.maximum}`;
    const what = issue.origin === "string" ? "characters" : "entries";
    return { path, message: `found ${foundText(value)}, expected ${limit} ${what}` };
  }
  return wrongType(schema, value, path);
}

function formatText(issue: z.core.$ZodIssueInvalidStringFormat): string {
  if (issue.format === "starts_with" && "prefix" in issue)
    return `a text that begins with ${String(issue.prefix)}`;
  return issue.message.startsWith("Invalid")
    ? `a text of the form ${issue.pattern ?? issue.format}`
    : issue.message;
}
