import type { AdminState, HealthState } from "../contracts/forwarding.ts";

/** `maintenance: true` in the site file cannot be undone by a command: it holds until the file says otherwise. */
export const effectiveAdmin = (inSiteFile: boolean, operator: AdminState): AdminState =>
  inSiteFile ? "maintenance" : operator;

/** A backend of which nothing is known yet takes its share, as one that is up. */
export const effectiveWeight = (weight: number, health: HealthState, admin: AdminState): number =>
  admin === "enabled" && health !== "down" ? weight : 0;

/** How the backends of this node that are checked are, all pools together. */
export interface Checked {
  readonly count: number;
  /** Different addresses among them. */
  readonly hosts: number;
  /** Those whose last check that said something was bad. */
  readonly bad: number;
}

/**
 * Every check of every pool fails at once: then it is more likely that this node is cut off than that all
 * backends died in one moment. Told only where two different hosts are checked: one alone may simply be dead.
 */
export const isIsolated = ({ count, hosts, bad }: Checked): boolean => hosts >= 2 && bad === count;
