/** What load-aware schedulers read of a backend. Weight 0 takes nothing. */
export interface Loaded {
  readonly weight: number;
  /** Requests in flight. */
  readonly inflight: number;
}

/** Fewest requests in flight per weight; the first after `start` among equals. -1 where nothing may be taken. */
export function leastRequests(backends: readonly Loaded[], start: number): number {
  let best = -1;
  let bestLoad = Number.POSITIVE_INFINITY;
  for (let k = 0; k < backends.length; k++) {
    const i = (start + k) % backends.length;
    const { weight, inflight } = backends[i]!;
    if (weight <= 0) continue;
    const load = (inflight + 1) / weight;
    if (load < bestLoad) [best, bestLoad] = [i, load];
  }
  return best;
}
