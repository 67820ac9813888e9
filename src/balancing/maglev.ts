import { type Weighted, eligible, hashName } from "./hash.ts";

/** Slots of a table; a prime, so that every step walks through all of them. */
export const MAGLEV_SLOTS = 1021;

interface Walk {
  readonly start: number;
  readonly step: number;
}
/** By seed and size, then by name: the same names come again with every change. */
const remembered = new Map<string, Map<string, Walk>>();
/** Names remembered per seed and size; beyond it all are forgotten. */
const REMEMBERED = 16_384;

function walkOf(known: Map<string, Walk>, name: string, size: number, seed: number): Walk {
  let walk = known.get(name);
  if (!walk) {
    if (known.size >= REMEMBERED) known.clear();
    walk = {
      start: hashName(name, seed) % size,
      step: (hashName(name, seed ^ 0x5bd1e995) % (size - 1)) + 1,
    };
    known.set(name, walk);
  }
  return walk;
}

function walksOf(size: number, seed: number): Map<string, Walk> {
  const key = `${size} ${seed}`;
  let known = remembered.get(key);
  if (!known) {
    // Seeds belong to sites, of which a process has one; tests have many.
    if (remembered.size >= 16) remembered.clear();
    remembered.set(key, (known = new Map()));
  }
  return known;
}

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
  const known = walksOf(size, seed);
  const walks = takers.map(({ name }) => walkOf(known, name, size, seed));
  const at = Int32Array.from(walks, (one) => one.start);
  const step = Int32Array.from(walks, (one) => one.step);
  const weights = Float64Array.from(takers, (one) => one.weight);
  /** A backend's turn has come when round * weight reaches this. */
  const due = new Float64Array(takers.length);
  /** Numbers of takers, from 1; 0 is free. */
  const owners = new Uint32Array(size);
  for (let round = 1, filled = 0; filled < size; round++) {
    for (let i = 0; i < takers.length && filled < size; i++) {
      if (round * weights[i]! < due[i]!) continue;
      due[i]! += greatest;
      let slot = at[i]!;
      while (owners[slot] !== 0) {
        slot += step[i]!;
        if (slot >= size) slot -= size;
      }
      at[i] = slot;
      owners[slot] = i + 1;
      filled++;
    }
  }
  return Array.from(owners, (owner) => takers[owner - 1]!.name);
}
