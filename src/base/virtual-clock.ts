import { type Clock, type DurationMs, type MonotonicMs, type Timer, addTime, instant } from "./time.ts";

interface Pending {
  at: MonotonicMs;
  order: number;
  fire: () => void;
}

/**
 * A clock that moves only when told to: for simulation. Timers fire in the order of their instants,
 * those of one instant in the order in which they were set.
 */
export class VirtualClock implements Clock {
  #now: MonotonicMs;
  #order = 0;
  readonly #pending = new Set<Pending>();
  readonly #wallOrigin: number;

  constructor(start = 0, wallOrigin = 0) {
    this.#now = instant(start);
    this.#wallOrigin = wallOrigin;
  }

  monotonic(): MonotonicMs {
    return this.#now;
  }
  wall(): number {
    return this.#wallOrigin + this.#now;
  }
  setTimer(at: MonotonicMs, fire: () => void): Timer {
    const entry: Pending = { at, order: this.#order++, fire };
    this.#pending.add(entry);
    return { cancel: () => this.#pending.delete(entry) };
  }

  /** Moves to `until`, firing what falls due on the way, what a timer sets included. */
  advanceTo(until: MonotonicMs): void {
    for (;;) {
      const next = this.#next();
      if (next === undefined || next.at > until) break;
      this.#pending.delete(next);
      if (next.at > this.#now) this.#now = next.at;
      next.fire();
    }
    if (until > this.#now) this.#now = until;
  }
  advance(span: DurationMs): void {
    this.advanceTo(addTime(this.#now, span));
  }
  /** The instant of the next timer, or undefined where none is set. */
  nextTimer(): MonotonicMs | undefined {
    return this.#next()?.at;
  }

  #next(): Pending | undefined {
    let best: Pending | undefined;
    for (const entry of this.#pending) {
      if (best === undefined || entry.at < best.at || (entry.at === best.at && entry.order < best.order)) {
        best = entry;
      }
    }
    return best;
  }
}
