/** Promised beside measured: what the evidence allows to say about the model, with 95 % confidence. */
import { normalQuantile } from "../engine/random-variates.ts";
import type { Ledger, WindowFigures } from "./policy-ledger.ts";

export interface Evidence {
  readonly outages: number;
  /** Hours observed. */
  readonly hours: number;
  /** Outages a year: measured, its 95 % interval, promised. */
  readonly perYear: number;
  readonly perYearInterval: readonly [number, number];
  /** Share of time down: measured, its 95 % interval. */
  readonly unavailability: number;
  readonly interval: readonly [number, number];
  readonly verdict: "too early" | "agrees" | "worse" | "better";
  readonly words: string;
}

const YEAR = 8760;
const Z = normalQuantile(0.975);

/** Exact interval of a Poisson count (Garwood), quantiles of chi-square by Wilson and Hilferty. */
export function countInterval(count: number): readonly [number, number] {
  const quantile = (p: number, degrees: number): number => {
    const a = 2 / (9 * degrees);
    return degrees * (1 - a + normalQuantile(p) * Math.sqrt(a)) ** 3;
  };
  return [
    count === 0 ? 0 : quantile(0.025, 2 * count) / 2,
    count === 0 ? -Math.log(0.025) : quantile(0.975, 2 * count + 2) / 2,
  ];
}

/** `promised.unavailability` and outages a year as the planner has them. */
export function weigh(
  ledger: Ledger,
  window: WindowFigures,
  promised: { readonly unavailability: number; readonly outagesPerYear?: number | undefined },
): Evidence {
  const hours = window.observed / 3_600_000;
  const count = window.outages.length;
  const down = window.down / 3_600_000;
  const years = hours / YEAR;
  const [low, high] = countInterval(count);
  const unavailability = hours === 0 ? 0 : down / hours;
  // Outages come as a Poisson stream and last about exponentially long: both contribute 1/n to the variance
  // of the logarithm. With none seen, up to 3.7 of the promised length may have been missed.
  const spread = Math.exp(Z * Math.sqrt(2 / Math.max(count, 1)));
  const promisedLength =
    promised.outagesPerYear === undefined || promised.outagesPerYear === 0
      ? 1
      : (promised.unavailability * YEAR) / promised.outagesPerYear;
  const interval: readonly [number, number] =
    hours === 0
      ? [0, 1]
      : count === 0
        ? [0, Math.min(1, (high * promisedLength) / hours)]
        : [unavailability / spread, Math.min(1, unavailability * spread)];
  const expected = promised.outagesPerYear === undefined ? undefined : promised.outagesPerYear * years;
  const tooMany = expected !== undefined && expected < low;
  const tooFew = expected !== undefined && expected > high;
  const base = { outages: count, hours, perYear: years === 0 ? 0 : count / years, unavailability, interval };
  const perYearInterval: readonly [number, number] =
    years === 0 ? [0, Number.POSITIVE_INFINITY] : [low / years, high / years];
  const say = (verdict: Evidence["verdict"], words: string): Evidence => ({
    ...base,
    perYearInterval,
    verdict,
    words,
  });
  if (hours < 24) return say("too early", "less than a day was observed");
  if (promised.unavailability < interval[0])
    return say("worse", "the evidence contradicts the model: it was down longer than the plan allows for");
  if (tooMany)
    return say("worse", "the evidence contradicts the model: outages come more often than planned");
  if (promised.unavailability > interval[1])
    return say("better", "the evidence contradicts the model: it was up more than the plan expects");
  if (tooFew)
    return say("better", "the evidence contradicts the model: outages come less often than planned");
  if (count === 0 && (expected ?? 0) < 1)
    return say("too early", "nothing has happened, and nothing was expected yet");
  return say("agrees", "the evidence agrees with the model");
}
