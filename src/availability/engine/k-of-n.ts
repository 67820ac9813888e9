/** Members that differ: the distribution of how many are up, and of how much capacity is up. */

/** `result[j]` is the chance that exactly j members are up. O(n^2), all terms positive: no cancellation. */
export function upDistribution(availabilities: readonly number[]): Float64Array {
  const chance = new Float64Array(availabilities.length + 1);
  chance[0] = 1;
  let seen = 0;
  for (const a of availabilities) {
    seen++;
    for (let j = seen; j > 0; j--) chance[j] = chance[j]! * (1 - a) + chance[j - 1]! * a;
    chance[0] *= 1 - a;
  }
  return chance;
}

/** The chance that fewer than `k` are up: the small number, summed without subtracting from 1. */
export function fewerThan(k: number, availabilities: readonly number[]): number {
  const chance = upDistribution(availabilities);
  let sum = 0;
  for (let j = 0; j < Math.min(k, chance.length); j++) sum += chance[j]!;
  return sum;
}
