/**
 * A pair (or more) of which one serves and another takes over: what multiplying nines forgets. All times in
 * hours, like MTBF and MTTR.
 */
export interface SwitchoverTimes {
  /** Until the failure is noticed, e.g. the Active-down interval. */
  readonly detect: number;
  /** Until it is decided who takes over, e.g. the skew time of further candidates. */
  readonly elect: number;
  /** Until addresses, routes or records point at the successor. */
  readonly move: number;
  /** Until clients have reconnected, e.g. a DNS TTL. */
  readonly recover: number;
}

export interface SwitchoverInput {
  readonly mtbf: number;
  readonly mttr: number;
  readonly times: SwitchoverTimes;
  /** The chance that a switchover works when nothing is latently wrong; best from drills. */
  readonly coverage: number;
  /** How long a failed switchover takes a human. */
  readonly manual: number;
  /** Share of failures that strike both at once. */
  readonly beta: number;
  /** Rate at which the standby fails unnoticed, per hour; and how often a drill would notice, in hours. */
  readonly latent?: { readonly rate: number; readonly drillEvery: number } | undefined;
  /** Whether there is one repair crew for both. */
  readonly oneCrew?: boolean | undefined;
}

/** Unavailability by cause; they add up to `total`. */
export interface SwitchoverResult {
  readonly naive: number;
  readonly switching: number;
  readonly uncovered: number;
  readonly both: number;
  readonly common: number;
  readonly total: number;
  /** Coverage after latent faults of the standby. */
  readonly coverage: number;
  readonly switchTime: number;
}

export const switchTime = (times: SwitchoverTimes): number =>
  times.detect + times.elect + times.move + times.recover;

/** The chance that a switchover works, latent faults included: they are found half a drill interval late. */
export function effectiveCoverage(
  coverage: number,
  latent?: { readonly rate: number; readonly drillEvery: number },
): number {
  const lost = latent === undefined ? 0 : (latent.rate * latent.drillEvery) / 2;
  return Math.max(0, coverage - lost);
}

export function switchover(input: SwitchoverInput): SwitchoverResult {
  const rate = 1 / input.mtbf;
  const coverage = effectiveCoverage(input.coverage, input.latent);
  const time = switchTime(input.times);
  const single = input.mttr / (input.mtbf + input.mttr);
  const switching = rate * coverage * time;
  const uncovered = rate * (1 - coverage) * (time + input.manual);
  const both = (rate * input.mttr) ** 2 * (input.oneCrew === true ? 2 : 1);
  const common = input.beta * rate * input.mttr;
  const total = Math.min(1, switching + uncovered + both + common);
  return { naive: single ** 2, switching, uncovered, both, common, total, coverage, switchTime: time };
}
