/** What drills have measured, taken from their reports and preferred to what is computed or assumed. */
import type { DrillReport, DrillRun, StreamKind } from "../../contracts/drills.ts";

/** Drills that make another node Active. */
const TAKEOVERS = new Set([
  "power-cut",
  "kill-all",
  "hang",
  "redundancy-killed",
  "switchover",
  "failback",
  "link-down-front",
  "link-down-back",
]);

export interface Measured {
  /** Median of the longest gap of new connections when the Active's power is cut; ms. */
  readonly takeover?: { readonly gap: number; readonly runs: number } | undefined;
  /** Jeffreys' estimate (good + 1/2) / (runs + 1): ten of ten is not certainty. */
  readonly coverage?: { readonly value: number; readonly good: number; readonly runs: number } | undefined;
  readonly date: string;
}

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1
    ? (sorted[Math.floor(middle)] ?? 0)
    : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
};

/** Streams of which every probe is a new connection. */
const FRESH: ReadonlySet<StreamKind> = new Set<StreamKind>(["connect", "http", "resolver"]);
const freshOf = (run: DrillRun) => run.probes.filter(({ kind }) => FRESH.has(kind));

/** The longest gap of new connections or requests in a run; ms. */
export const gapOf = (run: DrillRun): number => Math.max(0, ...freshOf(run).map((p) => p.longestGap));
/** From the fault until the last of them failed; ms. */
export const settledOf = (run: DrillRun): number =>
  Math.max(0, ...freshOf(run).flatMap(({ gaps }) => gaps.map(({ to }) => to)));

export function readMeasured(reports: readonly DrillReport[]): Measured | undefined {
  const runs = reports
    .flatMap((report) => report.runs)
    .filter((run) => run.subject === "nines" && run.verdict !== "skipped");
  if (runs.length === 0) return undefined;
  const cuts = runs.filter((run) => run.drill === "power-cut");
  const takeovers = runs.filter((run) => TAKEOVERS.has(run.drill));
  const good = takeovers.filter((run) => run.verdict === "passed").length;
  return {
    takeover: cuts.length === 0 ? undefined : { gap: median(cuts.map(gapOf)), runs: cuts.length },
    coverage:
      takeovers.length === 0
        ? undefined
        : { value: (good + 0.5) / (takeovers.length + 1), good, runs: takeovers.length },
    date:
      reports
        .map((report) => report.date)
        .sort()
        .at(-1) ?? "",
  };
}
