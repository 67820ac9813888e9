import type { MonotonicMs } from "../base/time.ts";

/** Latency that rises at once and sinks slowly: a backend that stalls is avoided with its first slow answer. */
export class PeakEwma {
  /** Milliseconds after which an old value counts 1/e. */
  readonly #decay: number;
  #value = 0;
  #at = 0;

  constructor(decay = 10_000) {
    this.#decay = decay;
  }

  observe(latency: number, now: MonotonicMs): void {
    const current = this.value(now);
    if (latency >= current) this.#value = latency;
    else {
      const share = Math.exp(-(now - this.#at) / this.#decay);
      this.#value = this.#value * share + latency * (1 - share);
    }
    this.#at = now;
  }

  value(now: MonotonicMs): number {
    return this.#value * Math.exp(-Math.max(0, now - this.#at) / this.#decay);
  }
}
