/**
 * Names of entries of other parts: `pool: apps` needs `pools.apps`. The schema says what a text refers to (`nameOf`), so
 * that every reference is checked, also in an object that has another mistake.
 */
import type { Finding } from "../explain/issues.ts";
import { suggest } from "../explain/near.ts";
import { type Schema, chooseOption, metaOf, optionsOf, unwrap } from "../explain/schema.ts";
import type { Named } from "../schema/common.ts";
import type { Path } from "../source/positions.ts";

/** The names that the file gives to its entries, those that are wrong otherwise included. */
export type Declared = Readonly<Record<Named, ReadonlySet<string>>>;

const KINDS: Readonly<Record<Named, string>> = {
  nodes: "node",
  pools: "pool",
  services: "service",
  virtualRouters: "virtual router",
};

export function declaredNames(raw: unknown): Declared {
  const names = (part: Named): ReadonlySet<string> => {
    const value = isMapping(raw) ? raw[part] : undefined;
    return new Set(isMapping(value) ? Object.keys(value) : []);
  };
  return {
    nodes: names("nodes"),
    pools: names("pools"),
    services: names("services"),
    virtualRouters: names("virtualRouters"),
  };
}

/** References to what is not there, anywhere in what the file says (before defaults, whatever else is wrong with it). */
export function danglingReferences(schema: Schema, raw: unknown, declared: Declared): Finding[] {
  const found: Finding[] = [];
  const check = (at: Schema, name: unknown, path: Path, where: Finding["at"]): void => {
    const part = metaOf(at, "refersTo") as Named | undefined;
    if (part === undefined || typeof name !== "string" || declared[part].has(name)) return;
    const kind = KINDS[part];
    found.push({
      path,
      message: `there is no ${kind} "${name}"`,
      hint: suggest(name, declared[part], `${kind}s`),
      at: where,
    });
  };
  const visit = (at: Schema, value: unknown, path: Path): void => {
    if (value === undefined || value === null) return;
    const bare = unwrap(at);
    const { def } = bare._zod;
    if (def.type === "union") {
      const options = optionsOf(bare);
      const choice = chooseOption(options, value);
      const option = choice.kind === "option" ? options[choice.index] : undefined;
      if (option) visit(option, value, path);
    } else if (def.type === "object" && isMapping(value)) {
      for (const [key, inner] of Object.entries(def.shape as Record<string, Schema>))
        visit(inner, value[key], [...path, key]);
    } else if (def.type === "record" && isMapping(value)) {
      for (const [key, one] of Object.entries(value)) {
        check(def.keyType as Schema, key, [...path, key], "key");
        visit(def.valueType as Schema, one, [...path, key]);
      }
    } else if (def.type === "array" && Array.isArray(value)) {
      for (const [index, one] of value.entries()) visit(def.element as Schema, one, [...path, index]);
    } else check(at, value, path, "value");
  };
  visit(schema, raw, []);
  return found;
}

const isMapping = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
