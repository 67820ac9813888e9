import type { Random } from "../base/random.ts";

/** An index with probability in proportion to its weight; -1 where all weights are 0. */
export function weightedIndex(weights: readonly { readonly weight: number }[], random: Random): number {
  let total = 0;
  for (const { weight } of weights) total += weight;
  if (total <= 0) return -1;
  let at = random.next() * total;
  for (let i = 0; i < weights.length; i++) {
    at -= weights[i]!.weight;
    if (at < 0) return i;
  }
  return weights.findLastIndex(({ weight }) => weight > 0);
}

/**
 * The power of two choices: two backends by weight, the one with the smaller cost of them. The cost is
 * requests in flight, or for peak-EWMA latency times requests in flight.
 */
export function powerOfTwo<T extends { readonly weight: number }>(
  backends: readonly T[],
  cost: (backend: T) => number,
  random: Random,
): number {
  const a = weightedIndex(backends, random);
  const b = weightedIndex(backends, random);
  if (a < 0 || a === b) return a;
  return cost(backends[a]!) <= cost(backends[b]!) ? a : b;
}
