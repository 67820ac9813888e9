import { readFile } from "node:fs/promises";
import { extname, resolve } from "node:path";
import { ConfigError, type ConfigIssue, messageOf } from "../base/errors.ts";
import { SystemClock } from "../base/system-clock.ts";
import type { Clock } from "../base/time.ts";
import { runChecks } from "./checks/context.ts";
import { allChecks } from "./checks/index.ts";
import { danglingReferences, declaredNames } from "./checks/references.ts";
import { siteDigest } from "./digest.ts";
import { type Finding, explainIssues } from "./explain/issues.ts";
import { type Site, siteSchema } from "./schema/site.ts";
import { type Path, Positions, formatPath } from "./source/positions.ts";
import type { Source } from "./source/source.ts";
import { readYaml } from "./source/yaml.ts";

/** A site file that is right. */
export interface LoadedSite {
  /** The path as it was given. */
  readonly file: string;
  readonly site: Site;
  /** SHA-256 of what the file says; nodes compare theirs. */
  readonly digest: string;
  readonly positions: Positions;
  /** What is probably not meant but can be run. */
  readonly warnings: readonly ConfigIssue[];
}

/** All that there is to say about a site file. `loaded` is there where `issues` is empty. */
export interface SiteReport {
  readonly issues: readonly ConfigIssue[];
  readonly warnings: readonly ConfigIssue[];
  readonly loaded?: LoadedSite;
}

/** Reads a site file, or throws a ConfigError with every mistake in it. */
export async function loadSite(file: string, clock?: Clock): Promise<LoadedSite> {
  const report = await examineSite(file, clock);
  if (!report.loaded) throw new ConfigError(report.issues);
  return report.loaded;
}

/** Reads a site file and says everything that is wrong with it, at once. Throws nothing. */
export async function examineSite(file: string, clock: Clock = new SystemClock()): Promise<SiteReport> {
  const source = await readSource(file, clock);
  if (source.value === undefined) return { issues: source.issues, warnings: [] };
  return examineSource(source);
}

async function readSource(file: string, clock: Clock): Promise<Source> {
  const nothing = (message: string, hint?: string): Source => ({
    file,
    positions: new Positions(),
    issues: [{ file, line: 1, column: 1, path: "", message, ...(hint === undefined ? {} : { hint }) }],
  });
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    return nothing(`the file cannot be read: ${messageOf(error)}`);
  }
  switch (extname(file)) {
    case ".yaml":
    case ".yml":
    case ".json":
      return readYaml(file, text);
    case ".ts":
    case ".mts":
    case ".js":
    case ".mjs": {
      const { readModule } = await import("./source/module.ts");
      return readModule(file, resolve(file), text, clock);
    }
    default:
      return nothing(
        "what kind of file this is cannot be told",
        "a site file ends with .yaml, .ts, .mts or .js",
      );
  }
}

/** The part that needs no file: also for tests and for what an editor holds. */
export function examineSource(source: Source): SiteReport {
  const issue = ({ path, message, hint, at }: Finding): ConfigIssue => {
    const where = at === "key" ? source.positions.key(path) : source.positions.value(path);
    const told = { file: source.file, ...where, path: formatPath(path), message };
    return hint === undefined ? told : { ...told, hint };
  };
  const { site, findings } = parseSite(source.value);
  const declared = declaredNames(source.value);
  const checked = site ? runChecks(allChecks, site, declared) : { errors: [], warnings: [] };
  const told = new Set(findings.map(({ path }) => formatPath(path)));
  const dangling = danglingReferences(siteSchema, source.value, declared);
  const errors = [...dangling, ...checked.errors].filter(({ path }) => !told.has(formatPath(path)));
  const issues = inOrder([...source.issues, ...[...findings, ...errors].map(issue)]);
  const warnings = inOrder(checked.warnings.map(issue));
  if (!site || issues.length > 0) return { issues, warnings };
  const { file, positions } = source;
  return { issues, warnings, loaded: { file, site, digest: siteDigest(source.value), positions, warnings } };
}

const inOrder = (issues: readonly ConfigIssue[]): ConfigIssue[] =>
  [...issues].sort((a, b) => a.line - b.line || a.column - b.column);

/**
 * The schema's mistakes, and as much of the site as is right: what the schema refuses is left out and the
 * rest read again, so that the cross-checks find their mistakes in the same run.
 */
function parseSite(input: unknown): { readonly site?: Site; readonly findings: readonly Finding[] } {
  const findings: Finding[] = [];
  let current = input;
  for (let round = 0; round < 4; round++) {
    const parsed = siteSchema.safeParse(current);
    if (parsed.success) return { site: parsed.data, findings };
    const told = explainIssues(siteSchema, parsed.error.issues, current);
    const known = new Set(findings.map((finding) => formatPath(finding.path)));
    findings.push(...told.filter((finding) => !known.has(formatPath(finding.path))));
    const smaller = withoutMistakes(current, told);
    if (smaller === undefined) break;
    current = smaller;
  }
  return { findings };
}

/** A copy without the named objects (`pools.apps`) that have a mistake; undefined where nothing is left. */
function withoutMistakes(input: unknown, findings: readonly Finding[]): unknown {
  if (typeof input !== "object" || input === null || Array.isArray(input)) return undefined;
  const copy: Record<string, unknown> = {};
  for (const [room, objects] of Object.entries(input))
    copy[room] = typeof objects === "object" && objects !== null ? { ...(objects as object) } : objects;
  for (const { path } of findings) remove(copy, path);
  // A name that is missing or wrong hinders no other check.
  if (copy["site"] === undefined) copy["site"] = "unnamed";
  if (copy["nodes"] === undefined) copy["nodes"] = {};
  return copy;
}

function remove(from: Record<string, unknown>, path: Path): void {
  const [room, name, key] = path;
  if (room === undefined) return;
  const objects = from[room];
  if (name === undefined || typeof objects !== "object" || objects === null) delete from[room];
  else {
    const named = objects as Record<string | number, unknown>;
    const object = named[name];
    // What a router tracks is read without it; nearly everything else needs the part that is wrong.
    if ((key === "track" || key === "hooks") && typeof object === "object")
      named[name] = { ...object, [key]: undefined };
    else delete named[name];
  }
}
