import type { MonotonicMs } from "../../base/time.ts";

interface Bucket {
  tokens: number;
  at: number;
}

const MOST_KEYS = 100_000;

/** Token buckets per key. Memory is bounded: full buckets are forgotten, which loses nothing. */
export class RateLimiter {
  readonly #perMs: number;
  readonly #burst: number;
  readonly #buckets = new Map<string, Bucket>();

  constructor(ratePerSecond: number, burst: number) {
    this.#perMs = ratePerSecond / 1000;
    this.#burst = burst;
  }

  /** 0 where the request may go on; else the milliseconds after which one could. */
  take(key: string, now: MonotonicMs): number {
    let bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      if (this.#buckets.size >= MOST_KEYS) this.#sweep(now);
      bucket = { tokens: this.#burst, at: now };
      this.#buckets.set(key, bucket);
    }
    bucket.tokens = Math.min(this.#burst, bucket.tokens + (now - bucket.at) * this.#perMs);
    bucket.at = now;
    if (bucket.tokens >= 1) {
      bucket.tokens--;
      return 0;
    }
    return (1 - bucket.tokens) / this.#perMs;
  }

  #sweep(now: MonotonicMs): void {
    for (const [key, bucket] of this.#buckets) {
      if (bucket.tokens + (now - bucket.at) * this.#perMs >= this.#burst) this.#buckets.delete(key);
    }
    // All of them busy: the oldest tenth is forgotten rather than memory grown.
    let excess = this.#buckets.size - MOST_KEYS * 0.9;
    for (const key of this.#buckets.keys()) {
      if (excess-- <= 0) break;
      this.#buckets.delete(key);
    }
  }
}
