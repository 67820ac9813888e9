import type { z } from "zod";
import { siteSchema } from "../schema/site.ts";
import { type Schema, expectedText, optionsOf, shapeOf, unwrap } from "./schema.ts";

/** Names of keys by what their values are, from the schema: so a value without its unit can be told with it. */
function collect(wanted: string): Set<string> {
  const found = new Set<string>();
  const others = new Set<string>();
  const seen = new Set<unknown>();
  const visit = (schema: Schema, key: string): void => {
    const bare = unwrap(schema);
    if (key !== "") (expectedText(bare).startsWith(wanted) ? found : others).add(key);
    if (seen.has(bare)) return;
    seen.add(bare);
    const { def } = bare._zod;
    for (const [name, child] of Object.entries(shapeOf(bare) ?? {})) visit(child, name);
    if (def.type === "record") visit(def.valueType as Schema, "");
    if (def.type === "array") visit(def.element as Schema, "");
    if (def.type === "union") for (const option of optionsOf(bare)) visit(option, key);
  };
  visit(siteSchema as z.core.$ZodType as Schema, "");
  return new Set([...found].filter((key) => !others.has(key)));
}

let durations: ReadonlySet<string> | undefined;
let sizes: ReadonlySet<string> | undefined;

/** Keys that hold a duration wherever they stand. */
export const durationKeys = (): ReadonlySet<string> => (durations ??= collect("a duration"));
/** Keys that hold a size in bytes wherever they stand. */
export const sizeKeys = (): ReadonlySet<string> => (sizes ??= collect("a size"));
