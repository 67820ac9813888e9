/**
 * When a backend is checked and what the verdicts mean. Pure: the service starts the checks and keeps the
 * timer.
 *
 * - `rise` good checks in a row make a backend up, `fall` bad ones make it down; nothing else damps flapping.
 * - Until one of the two is reached for the first time the backend is `unknown`, and is checked four times as
 *   often, so that a node knows its backends soon after its start. It takes its share of connections meanwhile.
 * - A check that says nothing (this process stood still, this host has no descriptor left) counts as no check.
 * - Checks begin at an interval, spread by the jitter; one that takes longer than the interval is followed by
 *   the next at once. There is never more than one per backend.
 */
import { type DurationMs, type MonotonicMs, NEVER, addTime, ms } from "../base/time.ts";
import type { Random } from "../base/random.ts";
import type { HealthState } from "../contracts/forwarding.ts";

export interface CheckPlan {
  readonly interval: DurationMs;
  readonly rise: number;
  readonly fall: number;
  /** Share of the interval, 0 to 0.5, by which a check may come earlier or later. */
  readonly jitter: number;
}

export interface CheckVerdict {
  /** `none`: the check failed for a reason of this host, and says nothing about the backend. */
  readonly outcome: "good" | "bad" | "none";
  /** In a sentence: `HTTP 503 in 12 ms`. */
  readonly reason: string;
}

export interface CheckState {
  readonly health: HealthState;
  /** Equal verdicts in a row, the last one included; a count of 0 before the first. */
  readonly run: { readonly good: boolean; readonly count: number };
  readonly reason: string;
  /** When `health` became what it is. */
  readonly since: MonotonicMs;
  /** It is up, and was down before: what is found up at a start has no start to be slow. */
  readonly returned: boolean;
  /** When the next check begins; NEVER while one runs. */
  readonly due: MonotonicMs;
  /** When the running check began; undefined while none runs. */
  readonly startedAt: MonotonicMs | undefined;
}

export type CheckEvent =
  /** The deadline `due` has come. */
  | { readonly type: "due" }
  | { readonly type: "verdict"; readonly verdict: CheckVerdict }
  /** The site file gives other times or another kind of check; a check that ran was given up. */
  | { readonly type: "replanned" };

/** At most one of each kind per step; `changed` is to be told before `start` is carried out. */
export type CheckEffect =
  | {
      readonly type: "changed";
      readonly from: HealthState;
      readonly to: HealthState;
      readonly reason: string;
    }
  | { readonly type: "start" };

export interface CheckContext {
  readonly now: MonotonicMs;
  readonly config: CheckPlan;
  readonly random: Random;
}

/** How much more often a backend is checked of which nothing is known. */
const UNKNOWN_PACE = 4;

const spread = (span: number, { config, random }: CheckContext): DurationMs =>
  ms(span * (1 + config.jitter * (2 * random.next() - 1)));

const pace = (health: HealthState, config: CheckPlan): number =>
  health === "unknown" ? config.interval / UNKNOWN_PACE : config.interval;

/** The first check begins at once, spread over a jitter's share of the interval. */
export function initialCheckState(context: CheckContext, remembered?: HealthState): CheckState {
  const health = remembered ?? "unknown";
  return {
    health,
    run: { good: health !== "down", count: 0 },
    reason: health === "unknown" ? "not checked yet" : "as before the restart, not checked yet",
    since: context.now,
    returned: false,
    due: addTime(context.now, ms(context.config.interval * context.config.jitter * context.random.next())),
    startedAt: undefined,
  };
}

export function stepCheck(
  state: CheckState,
  event: CheckEvent,
  context: CheckContext,
): { readonly state: CheckState; readonly effects: readonly CheckEffect[] } {
  const { now } = context;
  switch (event.type) {
    case "due":
      if (state.startedAt !== undefined || now < state.due) return { state, effects: [] };
      return { state: { ...state, due: NEVER, startedAt: now }, effects: [{ type: "start" }] };
    case "replanned":
      return {
        state: { ...state, run: { ...state.run, count: 0 }, startedAt: undefined, due: now },
        effects: [],
      };
    case "verdict":
      return state.startedAt === undefined ? { state, effects: [] } : judge(state, event.verdict, context);
  }
}

function judge(
  state: CheckState,
  verdict: CheckVerdict,
  context: CheckContext,
): ReturnType<typeof stepCheck> {
  const { now, config } = context;
  const begun = state.startedAt ?? now;
  const again = (health: HealthState): MonotonicMs =>
    Math.max(now, addTime(begun, spread(pace(health, config), context))) as MonotonicMs;
  if (verdict.outcome === "none") {
    // Nothing was learnt; at once again would be a busy loop where the host is out of descriptors.
    const due = addTime(now, spread(pace(state.health, config), context));
    return {
      state: { ...state, reason: `not counted: ${verdict.reason}`, startedAt: undefined, due },
      effects: [],
    };
  }
  const good = verdict.outcome === "good";
  const limit = Math.max(config.rise, config.fall);
  const count = state.run.good === good ? Math.min(limit, state.run.count + 1) : 1;
  const health = good
    ? count >= config.rise
      ? "up"
      : state.health
    : count >= config.fall
      ? "down"
      : state.health;
  const next: CheckState = {
    health,
    run: { good, count },
    reason: verdict.reason,
    since: health === state.health ? state.since : now,
    returned: health === state.health ? state.returned : state.health === "down",
    due: again(health),
    startedAt: undefined,
  };
  if (health === state.health) return { state: next, effects: [] };
  const told = count > 1 ? `${verdict.reason}, ${count} times in a row` : verdict.reason;
  return { state: next, effects: [{ type: "changed", from: state.health, to: health, reason: told }] };
}

/** The last verdict, and how near it brings a change: `HTTP 503 in 3 ms (bad, 2 of 3)`. */
export function reasonOf({ health, run, reason }: CheckState, { rise, fall }: CheckPlan): string {
  const speaksFor: HealthState = run.good ? "up" : "down";
  if (run.count === 0 || health === speaksFor) return reason;
  return `${reason} (${run.good ? "good" : "bad"}, ${run.count} of ${run.good ? rise : fall})`;
}
