export interface OutlierConfig {
  /** Failures in a row. */
  readonly failures: number;
  /** First ejection and longest one, in milliseconds. */
  readonly base: number;
  readonly longest: number;
}

/** An ejection as workers tell each other of it. */
export interface Ejection {
  /** `pool/backend`. */
  readonly backend: string;
  /** What is left of it, in milliseconds: instants of two processes cannot be compared. */
  readonly forMs: number;
  /** Share of the pool that may be ejected at once. */
  readonly atMost: number;
}

/** Passive health of one backend: failures in a row eject it, each time for twice as long. */
export class Outlier {
  #failures = 0;
  #times = 0;
  #until = 0;

  ejected(now: number): boolean {
    return now < this.#until;
  }

  get until(): number {
    return this.#until;
  }

  /** Another worker has ejected it; `allowed` as for a failure. True where that is news. */
  eject(now: number, forMs: number, allowed: boolean): boolean {
    const until = now + forMs;
    if (this.ejected(now)) {
      this.#until = Math.max(this.#until, until);
      return false;
    }
    if (!allowed) return false;
    this.#failures = 0;
    this.#until = until;
    this.#times++;
    return true;
  }

  success(now: number): void {
    this.#failures = 0;
    // Every good stretch as long as the last ejection forgets one of them.
    if (this.#times > 0 && now > this.#until) this.#times = Math.max(0, this.#times - 1);
  }

  /** True where this failure ejects; `allowed` is whether the pool may lose one more. */
  failure(now: number, config: OutlierConfig, allowed: boolean): boolean {
    this.#failures++;
    if (this.#failures < config.failures || this.ejected(now) || !allowed) return false;
    this.#failures = 0;
    this.#until = now + Math.min(config.longest, config.base * 2 ** Math.min(20, this.#times));
    this.#times++;
    return true;
  }
}
