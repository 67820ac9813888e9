import type { DurationMs } from "../base/time.ts";
import type { Weighted } from "./hash.ts";

export interface Loaded extends Weighted {
  /** Connections that it has now. */
  readonly active: number;
}

/** No backend falls below this share of what its weight alone would give it: counts are always a bit old. */
const LEAST_SHARE = 0.05;

/**
 * Least connections for a table that is filled once per period: weights with which the next `arrivals`
 * connections bring every backend's count per weight as close together as they can (water filling).
 */
export function leastConnections(backends: readonly Loaded[], arrivals: number): Weighted[] {
  const takers = backends.filter((one) => one.weight > 0);
  const sum = takers.reduce((total, one) => total + one.weight, 0);
  if (sum === 0) return [];
  // Rising water: the backends with the least load per weight fill up first.
  const order = [...takers].sort((a, b) => a.active / a.weight - b.active / b.weight);
  let level = 0;
  let weight = 0;
  let active = 0;
  for (let i = 0; i < order.length; i++) {
    const one = order[i];
    if (!one) break;
    weight += one.weight;
    active += one.active;
    level = (active + arrivals) / weight;
    const next = order[i + 1];
    if (!next || level <= next.active / next.weight) break;
  }
  return takers.map((one) => {
    const fair = (arrivals * one.weight) / sum;
    return { name: one.name, weight: Math.max(one.weight * level - one.active, fair * LEAST_SHARE, 1e-9) };
  });
}

/** A backend that came back begins with a tenth of its weight and grows to all of it. */
export function slowStart(weight: number, since: DurationMs, span: DurationMs): number {
  if (span <= 0 || since >= span) return weight;
  return weight * Math.max(0.1, since / span);
}
