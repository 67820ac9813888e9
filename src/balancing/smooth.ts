import { type Weighted, eligible } from "./hash.ts";

/**
 * Smooth weighted round robin as a sequence of `length` picks: each pick raises everyone's credit by its
 * weight, takes the greatest and lowers that by the sum. Equal picks lie as far apart as they can, so a
 * counter that walks through the sequence never bursts onto one backend.
 */
export function smoothSequence(backends: readonly Weighted[], length: number): string[] {
  const takers = eligible(backends);
  const sum = takers.reduce((total, one) => total + one.weight, 0);
  const state = takers.map((one) => ({ ...one, credit: 0 }));
  const picks: string[] = [];
  let [best] = state;
  while (best && picks.length < length) {
    for (const one of state) {
      one.credit += one.weight;
      if (one.credit > best.credit) best = one;
    }
    best.credit -= sum;
    picks.push(best.name);
  }
  return picks;
}

/** The same, one pick at a time, for those that choose in user space. Keep it while the weights stay. */
export class SmoothPicker {
  readonly #state: { readonly name: string; readonly weight: number; credit: number }[];
  readonly #sum: number;
  constructor(backends: readonly Weighted[]) {
    this.#state = eligible(backends).map((one) => ({ ...one, credit: 0 }));
    this.#sum = this.#state.reduce((total, one) => total + one.weight, 0);
  }
  next(): string | undefined {
    let [best] = this.#state;
    for (const one of this.#state) {
      one.credit += one.weight;
      if (best && one.credit > best.credit) best = one;
    }
    if (best) best.credit -= this.#sum;
    return best?.name;
  }
}
