import type { AdminState, HealthState } from "../contracts/forwarding.ts";

/** `maintenance: true` in the site file cannot be undone by a command: it holds until the file says otherwise. */
export const effectiveAdmin = (inSiteFile: boolean, operator: AdminState): AdminState =>
  inSiteFile ? "maintenance" : operator;

/** A backend of which nothing is known yet takes its share, as one that is up. */
export const effectiveWeight = (weight: number, health: HealthState, admin: AdminState): number =>
  admin === "enabled" && health !== "down" ? weight : 0;

export interface LastVerdict {
  readonly address: string;
  readonly checked: boolean;
  /** Of the last check that said something; undefined before the first. */
  readonly good: boolean | undefined;
  readonly reason: string;
}

/**
 * Every check of every pool fails at once: then it is more likely that this node is cut off than that all
 * backends died in one moment. Told only where two different hosts are checked: one alone may simply be dead.
 */
export function isolation(verdicts: readonly LastVerdict[]): string | undefined {
  const checked = verdicts.filter((verdict) => verdict.checked);
  if (new Set(checked.map((verdict) => verdict.address)).size < 2) return undefined;
  if (!checked.every((verdict) => verdict.good === false)) return undefined;
  return `all ${checked.length} checks fail at once (${checked[0]?.reason}): perhaps this node is isolated`;
}
