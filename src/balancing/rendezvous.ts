import { type Weighted, eligible, hashName } from "./hash.ts";

/**
 * Weighted rendezvous hashing: every backend draws a number from the key and the greatest wins. When a backend
 * goes, only its own keys move. Costs one hash per backend and key; for long lists use a Maglev table.
 */
export const rendezvous = (key: string, backends: readonly Weighted[], seed: number): string | undefined =>
  rendezvousOrder(key, backends, seed)[0];

/** All backends, the best first: the next one is where a key goes when those before it fail. */
export function rendezvousOrder(key: string, backends: readonly Weighted[], seed: number): string[] {
  const keyHash = hashName(key, seed);
  return eligible(backends)
    .map(({ name, weight }) => {
      // In (0, 1), both ends excluded, so that the logarithm is finite and negative.
      const draw = (hashName(name, keyHash) + 0.5) / 4294967296;
      return { name, score: -weight / Math.log(draw) };
    })
    .sort((a, b) => b.score - a.score || (a.name < b.name ? -1 : 1))
    .map((one) => one.name);
}
