/** What drills have measured, taken from their reports and preferred to what is computed or assumed. */
import type { DrillReport, DrillRun } from "../../contracts/drills.ts";

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

/** The longest gap of new connections or requests in a run; ms. */
export const gapOf = (run: DrillRun): number =>
  Math.max(
    0,
    ...run.probes.filter(({ kind }) => kind === "connect" || kind === "http").map((p) => p.longestGap),
  );

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

export interface GapComparison {
  readonly drill: string;
  readonly predicted: number;
  readonly measured: number;
  readonly runs: number;
  /** Within 20 % or 50 ms, whichever is more. */
  readonly agrees: boolean;
}

/** Predicted beside drilled, for the drills that the model speaks about. `detect`, `skew`, `move` in ms. */
export function compareGaps(
  reports: readonly DrillReport[],
  times: { readonly detect: number; readonly skew: number; readonly move: number },
): GapComparison[] {
  const predictions: Readonly<Record<string, number>> = {
    "power-cut": times.detect + times.move,
    // The node itself sees its link go and releases by priority 0: only the skew time is waited.
    "link-down-front": times.skew + times.move,
    "link-down-back": times.skew + times.move,
    "link-flap": times.skew + times.move,
    // A node whose processes are gone or hang still forwards: its kernel does, until the new one announces.
    "kill-all": 0,
    hang: 0,
    "hung-resolver": 0,
    "redundancy-killed": 0,
    "adverts-one-way": 0,
    partition: 0,
    "address-deleted": 0,
    switchover: 0,
    failback: 0,
    "brain-killed": 0,
    "both-brains-killed": 0,
    "ruleset-flushed": 0,
    "foreign-mark": 0,
  };
  const gaps = new Map<string, number[]>();
  for (const run of reports.flatMap((report) => report.runs))
    if (run.subject === "nines" && run.verdict !== "skipped" && Object.hasOwn(predictions, run.drill))
      gaps.set(run.drill, [...(gaps.get(run.drill) ?? []), gapOf(run)]);
  return [...gaps].map(([drill, values]) => {
    const predicted = predictions[drill] ?? 0;
    const measured = median(values);
    const agrees = Math.abs(predicted - measured) <= Math.max(0.2 * measured, 50);
    return { drill, predicted, measured, runs: values.length, agrees };
  });
}
