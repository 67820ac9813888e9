import type { Clock, MonotonicMs, Timer } from "./time.ts";

/** The clock of the host. Timers are rounded up to Node's whole milliseconds. */
export class SystemClock implements Clock {
  monotonic(): MonotonicMs {
    return performance.now() as MonotonicMs;
  }
  wall(): number {
    return Date.now();
  }
  setTimer(at: MonotonicMs, fire: () => void): Timer {
    const delay = Math.max(0, Math.ceil(at - performance.now()));
    const handle = setTimeout(fire, delay);
    return { cancel: () => clearTimeout(handle) };
  }
}
