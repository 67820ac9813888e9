/** Randomness, passed in. Machines get a seeded one in simulation. */
export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
}

export const systemRandom: Random = { next: () => Math.random() };

/** mulberry32: 32 bits of state, enough for simulation and jitter; not for secrets. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return {
    next() {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = state;
      t = Math.imul(t ^ (t >>> 15), t | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    },
  };
}

/** A whole number in [low, high], both included. */
export const randomInt = (random: Random, low: number, high: number): number =>
  low + Math.floor(random.next() * (high - low + 1));

export const chance = (random: Random, probability: number): boolean => random.next() < probability;
