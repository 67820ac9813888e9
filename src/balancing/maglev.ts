import { type Weighted, eligible, hashName } from "./hash.ts";

/** Slots of a table; a prime, so that every step walks through all of them. */
export const MAGLEV_SLOTS = 1021;

/**
 * Weighted Maglev hashing (Eisenbud et al., NSDI 2016, 3.4): a table of slots, each holding a backend's name.
 * Backends take turns claiming the next free slot of a permutation of their own; one with half the greatest
 * weight takes every second turn. The table depends only on names, weights, size and seed, so that all nodes
 * make the same; when a backend goes, few slots besides its own change hands.
 *
 * `size` must be prime. Answers an empty table where no backend has a weight.
 */
export function maglev(backends: readonly Weighted[], size: number, seed: number): string[] {
  const takers = eligible(backends);
  if (takers.length === 0) return [];
  const greatest = Math.max(...takers.map((one) => one.weight));
  const state = takers.map((one) => ({
    name: one.name,
    weight: one.weight,
    at: hashName(one.name, seed) % size,
    step: (hashName(one.name, seed ^ 0x5bd1e995) % (size - 1)) + 1,
    /** A backend's turn has come when round * weight reaches this. */
    due: 0,
  }));
  const table: (string | undefined)[] = Array.from({ length: size }, () => undefined);
  for (let round = 1, filled = 0; filled < size; round++) {
    for (const one of state) {
      if (filled === size) break;
      if (round * one.weight < one.due) continue;
      one.due += greatest;
      while (table[one.at] !== undefined) one.at = (one.at + one.step) % size;
      table[one.at] = one.name;
      filled++;
    }
  }
  return table as string[];
}
