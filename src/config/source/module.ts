import { register } from "node:module";
import { pathToFileURL } from "node:url";
import { tsImport } from "tsx/esm/api";
import { messageOf } from "../../base/errors.ts";
import type { Clock } from "../../base/time.ts";
import { addTime, seconds } from "../../base/time.ts";
import { type Path, Positions } from "./positions.ts";
import type { Source } from "./source.ts";

/** A site file is data that is computed; one that takes longer waits for something it should not. */
const DEADLINE = seconds(15);

let resolvesNines = false;

/** `import { defineSite } from "nines"` works wherever the site file lies, installed beside it or not. */
function resolveNines(): void {
  if (resolvesNines) return;
  resolvesNines = true;
  const self = new URL(
    import.meta.url.endsWith(".ts") ? "../../index.ts" : "../../index.js",
    import.meta.url,
  );
  const hook = `export async function resolve(name, context, next) {
    const found = await next(name === "nines" ? ${JSON.stringify(self.href)} : name, context);
    const own = /^file:.*[.][tj]s([?]|$)/.test(found.url) && !found.url.includes("/node_modules/");
    return own && found.format !== "builtin" ? { ...found, format: "module" } : found;
  }`;
  register(`data:text/javascript,${encodeURIComponent(hook)}`);
}

function timeLimit(clock: Clock): { readonly passed: Promise<never>; cancel(): void } {
  let cancel = (): void => {};
  const passed = new Promise<never>((_, reject) => {
    const timer = clock.setTimer(addTime(clock.monotonic(), DEADLINE), () =>
      reject(new Error(`it did not end within ${DEADLINE / 1000} s`)),
    );
    cancel = () => timer.cancel();
  });
  return { passed, cancel: () => cancel() };
}

/**
 * Reads a site from a TypeScript or JavaScript module, its imports included, afresh at every call: a
 * reload sees what has changed. The default export is the site, or a promise of it.
 */
export async function readModule(
  file: string,
  absolute: string,
  text: string,
  clock: Clock,
): Promise<Source> {
  const nothing = (message: string, hint?: string): Source => ({
    file,
    positions: new Positions(),
    issues: [{ file, line: 1, column: 1, path: "", message, ...(hint === undefined ? {} : { hint }) }],
  });
  const limit = timeLimit(clock);
  try {
    resolveNines();
    const url = pathToFileURL(absolute).href;
    const loaded = tsImport(url, { parentURL: import.meta.url, tsconfig: false }) as Promise<{
      default?: unknown;
    }>;
    const module = await Promise.race([loaded, limit.passed]);
    // A CommonJS module's exports arrive inside another default.
    const value = await Promise.race([unwrap(module.default), limit.passed]);
    if (value === undefined)
      return nothing("the module has no default export", "write: export default defineSite({ ... })");
    return { file, value, positions: guessPositions(text, value), issues: [] };
  } catch (error) {
    return nothing(`the module could not be run: ${messageOf(error)}`);
  } finally {
    limit.cancel();
  }
}

function unwrap(value: unknown): unknown {
  const isNested = typeof value === "object" && value !== null && "__esModule" in value && "default" in value;
  return isNested ? value.default : value;
}

/**
 * A program has no position per value, but most sites are literals: each key is looked for after the
 * one above it. Where it is not found, the nearest ancestor's position stands.
 */
function guessPositions(text: string, value: unknown): Positions {
  const positions = new Positions();
  const lineStarts = [0];
  for (let i = 0; i < text.length; i++) if (text[i] === "\n") lineStarts.push(i + 1);
  const at = (offset: number) => {
    let line = lineStarts.findLastIndex((start) => start <= offset);
    if (line < 0) line = 0;
    return { line: line + 1, column: offset - (lineStarts[line] ?? 0) + 1 };
  };
  const visit = (current: unknown, path: Path, from: number): number => {
    if (typeof current !== "object" || current === null || path.length > 16) return from;
    let cursor = from;
    for (const [key, child] of Object.entries(current)) {
      const childPath = [...path, Array.isArray(current) ? Number(key) : key];
      const found = Array.isArray(current) ? cursor : findKey(text, key, cursor);
      if (found !== undefined && !Array.isArray(current)) {
        positions.set(childPath, at(found), at(found));
        cursor = found + key.length;
      }
      if (found !== undefined) cursor = visit(child, childPath, cursor);
    }
    return cursor;
  };
  visit(value, [], 0);
  return positions;
}

function findKey(text: string, key: string, from: number): number | undefined {
  const escaped = key.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const pattern = new RegExp(`(?<![\\w$-])["']?${escaped}["']?\\s*[:,}]`, "g");
  pattern.lastIndex = from;
  return pattern.exec(text)?.index;
}
