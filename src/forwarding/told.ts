import { type Clock, type MonotonicMs, type Timer, addTime, instant, ms, timeSince } from "../base/time.ts";
import type { AffinityEntry } from "../contracts/affinity.ts";

/** What waits is bounded: beyond it the oldest go, and come again when their client does. */
const MOST = 262_144;
/** A write reads the map first: it may take a twentieth of a core at most, and waits ten seconds at most. */
const SHARE = 20;
const LONGEST = ms(10_000);

/** What other nodes tell of clients, gathered, so that a large map is not read for every message. */
export class ToldClients {
  readonly #clock: Clock;
  readonly #write: (entries: readonly AffinityEntry[]) => Promise<void>;
  /** By service and client: only the latest counts. */
  #waiting = new Map<string, AffinityEntry>();
  #notBefore: MonotonicMs = instant(Number.NEGATIVE_INFINITY);
  #timer: Timer | undefined;
  #stopped = false;

  constructor(clock: Clock, write: (entries: readonly AffinityEntry[]) => Promise<void>) {
    this.#clock = clock;
    this.#write = write;
  }

  add(entries: readonly AffinityEntry[]): void {
    for (const entry of entries) {
      const key = `${entry.service} ${entry.source}`;
      this.#waiting.delete(key);
      this.#waiting.set(key, entry);
    }
    for (const key of this.#waiting.keys()) {
      if (this.#waiting.size <= MOST) break;
      this.#waiting.delete(key);
    }
    this.#plan();
  }
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #plan(): void {
    if (this.#timer !== undefined || this.#stopped || this.#waiting.size === 0) return;
    const now = this.#clock.monotonic();
    const at = now > this.#notBefore ? now : this.#notBefore;
    this.#timer = this.#clock.setTimer(at, () => {
      const entries = [...this.#waiting.values()];
      this.#waiting = new Map();
      const begun = this.#clock.monotonic();
      void this.#write(entries).finally(() => {
        const end = this.#clock.monotonic();
        this.#notBefore = addTime(end, ms(Math.min(LONGEST, timeSince(end, begun) * SHARE)));
        this.#timer = undefined;
        this.#plan();
      });
    });
  }
}
