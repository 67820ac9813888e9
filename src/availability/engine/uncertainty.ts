/** What uncertain inputs make of the result: seeded trials, each a full evaluation of the diagrams. */
import { type Random, seededRandom } from "../../base/random.ts";
import type { Evaluator } from "./probability.ts";

export interface UncertaintyResult {
  readonly trials: number;
  readonly mean: number;
  readonly deviation: number;
  /** Interval that holds the mean's true value with 95 % confidence. */
  readonly meanInterval: readonly [number, number];
  /** Value at a share of the trials, 0..1. */
  quantile(share: number): number;
}

/** `trial` draws all probabilities anew and returns how to read them by tree node. */
export function sampleTop(
  evaluator: Evaluator,
  trial: (random: Random) => (node: number) => number,
  options: { readonly trials: number; readonly seed: number },
): UncertaintyResult {
  const random = seededRandom(options.seed);
  const values = new Float64Array(options.trials);
  for (let i = 0; i < options.trials; i++) values[i] = evaluator.probability(trial(random));
  return summarize(values);
}

export function summarize(values: Float64Array): UncertaintyResult {
  const trials = values.length;
  let mean = 0;
  let squares = 0;
  // Welford: the values may be of the order of 1e-12.
  values.forEach((value, i) => {
    const delta = value - mean;
    mean += delta / (i + 1);
    squares += delta * (value - mean);
  });
  const deviation = trials > 1 ? Math.sqrt(squares / (trials - 1)) : 0;
  const half = (1.959963984540054 * deviation) / Math.sqrt(trials);
  const sorted = values.slice().sort();
  return {
    trials,
    mean,
    deviation,
    meanInterval: [mean - half, mean + half],
    quantile: (share) => {
      const at = share * (trials - 1);
      const low = sorted[Math.floor(at)] ?? 0;
      return low + ((sorted[Math.ceil(at)] ?? low) - low) * (at - Math.floor(at));
    },
  };
}
