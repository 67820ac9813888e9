import type { Loaded } from "./least-requests.ts";

/**
 * Consistent hashing with bounded loads: the backends in the order of the key's preference, and the first
 * whose requests in flight stay within `factor` times its share of all. -1 where there is none at all.
 */
export function boundedLoad(order: readonly number[], backends: readonly Loaded[], factor = 1.25): number {
  let inflight = 1;
  let weight = 0;
  for (const backend of backends) {
    inflight += backend.inflight;
    weight += backend.weight;
  }
  let first = -1;
  for (const i of order) {
    const backend = backends[i]!;
    if (backend.weight <= 0) continue;
    if (first < 0) first = i;
    if (backend.inflight + 1 <= Math.ceil((factor * inflight * backend.weight) / weight)) return i;
  }
  return first;
}
