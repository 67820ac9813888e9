/**
 * Time as the rest of the program sees it: passed in, never global.
 *
 * A monotonic instant counts milliseconds from an arbitrary origin of this host (fractions carry
 * microseconds). It never leaves the host: two nodes' instants cannot be compared.
 */
declare const monotonicBrand: unique symbol;
declare const durationBrand: unique symbol;

/** An instant on this host's monotonic clock, in milliseconds. Fractions are kept. */
export type MonotonicMs = number & { readonly [monotonicBrand]: true };
/** A span of time in milliseconds. Fractions are kept: VRRP's skew needs microseconds. */
export type DurationMs = number & { readonly [durationBrand]: true };

export const ms = (value: number): DurationMs => value as DurationMs;
export const seconds = (value: number): DurationMs => (value * 1000) as DurationMs;
export const instant = (value: number): MonotonicMs => value as MonotonicMs;
export const addTime = (at: MonotonicMs, span: DurationMs): MonotonicMs => (at + span) as MonotonicMs;
export const timeSince = (now: MonotonicMs, then: MonotonicMs): DurationMs => (now - then) as DurationMs;

/** The instant that never comes: the deadline of a timer that is not running. */
export const NEVER = Number.POSITIVE_INFINITY as MonotonicMs;

export const earliest = (...instants: MonotonicMs[]): MonotonicMs => Math.min(...instants) as MonotonicMs;
export const latest = (...instants: MonotonicMs[]): MonotonicMs => Math.max(...instants) as MonotonicMs;

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds on the monotonic clock. */
  monotonic(): MonotonicMs;
  /** Milliseconds since 1970, for logs and reports only; it may jump. */
  wall(): number;
  /** Calls `fire` once, not before `at`. An instant that has passed fires on the next turn of the loop. */
  setTimer(at: MonotonicMs, fire: () => void): Timer;
}
