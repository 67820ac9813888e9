import { type Weighted, eligible, hashName } from "./hash.ts";

/**
 * Weighted rendezvous hashing: every backend draws a number from the key and the greatest wins. When a backend
 * goes, only its own keys move. Costs one hash per backend and key; for long lists use a Maglev table.
 */
export const rendezvous = (key: string, backends: readonly Weighted[], seed: number): string | undefined =>
  rendezvousOrder(key, backends, seed)[0];

/** The index of the backend that wins a key, without an order of the others; -1 where nobody has a weight. */
export function rendezvousIndex<T extends { readonly name: string }>(
  key: string,
  backends: readonly T[],
  seed: number,
  weightOf: (backend: T) => number,
): number {
  const keyHash = hashName(key, seed);
  let best = -1;
  let most = 0;
  for (const [i, backend] of backends.entries()) {
    const weight = weightOf(backend);
    if (!(weight > 0)) continue;
    const score = scoreOf(backend.name, weight, keyHash);
    const wins = score > most || (score === most && backend.name < backends[best]!.name);
    if (best >= 0 && !wins) continue;
    best = i;
    most = score;
  }
  return best;
}

/** The draw is in (0, 1), both ends excluded, so that the logarithm is finite and negative. */
const scoreOf = (name: string, weight: number, keyHash: number): number =>
  -weight / Math.log((hashName(name, keyHash) + 0.5) / 4294967296);

/** All backends, the best first: the next one is where a key goes when those before it fail. */
export function rendezvousOrder(key: string, backends: readonly Weighted[], seed: number): string[] {
  const keyHash = hashName(key, seed);
  return eligible(backends)
    .map(({ name, weight }) => ({ name, score: scoreOf(name, weight, keyHash) }))
    .sort((a, b) => b.score - a.score || (a.name < b.name ? -1 : 1))
    .map((one) => one.name);
}
