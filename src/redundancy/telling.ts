import type { Log } from "../base/log.ts";
import { type Clock, type MonotonicMs, seconds, timeSince } from "../base/time.ts";
import type { RedundancyToBrain } from "../contracts/redundancy.ts";

/** The same problem is told once in this time, and counted every time. */
const REPEATED_AFTER = seconds(60);
const MOST_KINDS = 200;

type Fields = Readonly<Record<string, unknown>>;

type TellingEvent = Extract<RedundancyToBrain, { type: "event" }>;

/** What the redundancy process says of itself: counters, and events for the log and the brain alike. */
export class Telling {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #toBrain: (message: RedundancyToBrain) => void;
  readonly #counters: Record<string, number> = {};
  readonly #problems = new Map<string, MonotonicMs>();
  readonly #standing = new Map<string, TellingEvent>();

  constructor(clock: Clock, log: Log, toBrain: (message: RedundancyToBrain) => void) {
    this.#clock = clock;
    this.#log = log;
    this.#toBrain = toBrain;
  }

  get counters(): Readonly<Record<string, number>> {
    return { ...this.#counters };
  }
  count(counter: string): void {
    this.#counters[counter] = (this.#counters[counter] ?? 0) + 1;
  }
  event(level: "info" | "warn" | "error", event: string, fields: Fields): void {
    this.#log[level]({ event, ...fields });
    this.#toBrain({ type: "event", event, fields });
  }
  /** What lasts is told to a brain that connects later, too, until it `ends`. `key` is unique among what lasts. */
  begins(key: string, level: "warn" | "error", event: string, fields: Fields): void {
    this.#standing.set(key, { type: "event", event, fields });
    this.event(level, event, fields);
  }
  ends(key: string, event: string, fields: Fields): void {
    if (this.#standing.delete(key)) this.event("info", event, fields);
  }
  lasts(key: string): boolean {
    return this.#standing.has(key);
  }
  get standing(): readonly TellingEvent[] {
    return [...this.#standing.values()];
  }
  problem(what: string, reason: string): void {
    this.count("problems");
    const now = this.#clock.monotonic();
    const last = this.#problems.get(what);
    if (last !== undefined && timeSince(now, last) < REPEATED_AFTER) return;
    if (this.#problems.size > MOST_KINDS) this.#problems.clear();
    this.#problems.set(what, now);
    this.event("warn", "redundancy.problem", { what, reason });
  }
}
