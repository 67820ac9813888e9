import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { parse } from "yaml";
import { ConfigError, OperationalError } from "../base/errors.ts";
import { SystemClock } from "../base/system-clock.ts";
import { type LoadedSite, examineSource, loadSite } from "../config/load.ts";
import { readModule } from "../config/source/module.ts";
import { readYaml } from "../config/source/yaml.ts";

/** A site file as it would be with `path=value` edits; values are YAML. Wrong edits are told like wrong files. */
export async function loadEditedSite(file: string, edits: readonly string[]): Promise<LoadedSite> {
  // First as it is, so that its own mistakes are told at their own places.
  const loaded = await loadSite(file);
  if (edits.length === 0) return loaded;
  const text = await readFile(file, "utf8");
  const source = /\.(ya?ml|json)$/.test(file)
    ? readYaml(file, text)
    : await readModule(file, resolve(file), text, new SystemClock());
  let { value } = source;
  for (const edit of edits) {
    const at = edit.indexOf("=");
    if (at <= 0) throw new OperationalError("NOT_FOUND", `--set needs path=value, not "${edit}"`);
    value = setPath(value, edit.slice(0, at).split("."), parse(edit.slice(at + 1)) as unknown);
  }
  const report = examineSource({ ...source, value });
  if (!report.loaded)
    throw new ConfigError(report.issues.map((issue) => ({ ...issue, file: `${file} with --set` })));
  return report.loaded;
}

function setPath(into: unknown, path: readonly string[], value: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return value;
  if (Array.isArray(into)) {
    const copy: unknown[] = [...(into as unknown[])];
    copy[Number(key)] = setPath(copy[Number(key)], rest, value);
    return copy;
  }
  const object = typeof into === "object" && into !== null ? (into as Record<string, unknown>) : {};
  return { ...object, [key]: setPath(object[key], rest, value) };
}
