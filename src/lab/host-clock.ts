import { SystemClock } from "../base/system-clock.ts";
import type { Clock, MonotonicMs, Timer } from "../base/time.ts";

/**
 * CLOCK_MONOTONIC itself, in milliseconds since boot: the processes of a lab share one kernel, so the
 * prober's, the backends' and the observer's instants can be compared, which `performance.now` cannot.
 */
export class HostClock implements Clock {
  readonly #wall = new SystemClock();
  monotonic(): MonotonicMs {
    return (Number(process.hrtime.bigint()) / 1e6) as MonotonicMs;
  }
  wall(): number {
    return this.#wall.wall();
  }
  setTimer(at: MonotonicMs, fire: () => void): Timer {
    const handle = setTimeout(fire, Math.max(0, Math.ceil(at - this.monotonic())));
    return { cancel: () => clearTimeout(handle) };
  }
}

/** The lab's clock; only shells read it. */
export const hostClock = new HostClock();
