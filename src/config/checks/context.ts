import type { Finding } from "../explain/issues.ts";
import { suggest } from "../explain/near.ts";
import type { Site } from "../schema/site.ts";
import type { Path } from "../source/positions.ts";

/**
 * What a cross-check sees. Where the schema has refused a part of the file, `site` is without it, while
 * `declared` still has its name: one mistake is then not told a second time as a name that is missing.
 */
export interface CheckContext {
  readonly site: Site;
  readonly declared: {
    readonly nodes: ReadonlySet<string>;
    readonly pools: ReadonlySet<string>;
    readonly virtualRouters: ReadonlySet<string>;
  };
  readonly error: (path: Path, message: string, hint?: string, at?: Finding["at"]) => void;
  readonly warning: (path: Path, message: string, hint?: string, at?: Finding["at"]) => void;
}

export type Check = (context: CheckContext) => void;

export interface CheckResult {
  readonly errors: readonly Finding[];
  readonly warnings: readonly Finding[];
}

export function runChecks(checks: readonly Check[], site: Site, raw: unknown): CheckResult {
  const errors: Finding[] = [];
  const warnings: Finding[] = [];
  const names = (room: string): ReadonlySet<string> => {
    const value = (raw as Record<string, unknown> | null)?.[room];
    return new Set(typeof value === "object" && value !== null ? Object.keys(value) : []);
  };
  const context: CheckContext = {
    site,
    declared: { nodes: names("nodes"), pools: names("pools"), virtualRouters: names("virtualRouters") },
    error: (path, message, hint, at) => errors.push({ path, message, hint, at }),
    warning: (path, message, hint, at) => warnings.push({ path, message, hint, at }),
  };
  for (const check of checks) check(context);
  return { errors, warnings };
}

/** Refuses a name that nothing in the site has. */
export function mustExist(
  context: CheckContext,
  kind: "node" | "pool" | "virtual router",
  name: string,
  path: Path,
  at: Finding["at"] = "value",
): void {
  const room = kind === "node" ? "nodes" : kind === "pool" ? "pools" : "virtualRouters";
  const declared = context.declared[room];
  if (!declared.has(name))
    context.error(path, `there is no ${kind} "${name}"`, suggest(name, declared, `${kind}s`), at);
}
