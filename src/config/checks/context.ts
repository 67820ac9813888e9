import type { Finding } from "../explain/issues.ts";
import type { Site } from "../schema/site.ts";
import type { Path } from "../source/positions.ts";
import type { Declared } from "./references.ts";

/**
 * What a cross-check sees. Where the schema has refused a part of the file, `site` is without it, while
 * `declared` still has its name: one mistake is then not told a second time as a name that is missing.
 */
export interface CheckContext {
  readonly site: Site;
  readonly declared: Declared;
  readonly error: (path: Path, message: string, hint?: string, at?: Finding["at"]) => void;
  readonly warning: (path: Path, message: string, hint?: string, at?: Finding["at"]) => void;
}

export type Check = (context: CheckContext) => void;

export interface CheckResult {
  readonly errors: readonly Finding[];
  readonly warnings: readonly Finding[];
}

export function runChecks(checks: readonly Check[], site: Site, declared: Declared): CheckResult {
  const errors: Finding[] = [];
  const warnings: Finding[] = [];
  const context: CheckContext = {
    site,
    declared,
    error: (path, message, hint, at) => errors.push({ path, message, hint, at }),
    warning: (path, message, hint, at) => warnings.push({ path, message, hint, at }),
  };
  for (const check of checks) check(context);
  return { errors, warnings };
}
