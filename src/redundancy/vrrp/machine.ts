/**
 * One VRRP instance (RFC 9568, section 6; RFC 3768 for version 2): one VRID on one link in one family.
 * Without I/O, clock or randomness. It knows nothing of the instances it moves together with: the group
 * machine decides when a timer or a command reaches it.
 */
import { type IpAddress, compareIp } from "../../base/addresses.ts";
import {
  type DurationMs,
  type MonotonicMs,
  NEVER,
  addTime,
  earliest,
  ms,
  timeSince,
} from "../../base/time.ts";
import { unreachable } from "../../base/result.ts";
import type { VrrpVersion } from "./packet.ts";

/** RFC 9568, 6.4. */
export type VrrpStateName = "initialize" | "backup" | "active";

export const OWNER_PRIORITY = 255;

/** Every timer of an instance. */
export const VRRP_TIMERS = {
  activeDown: "Backup: the Active has been silent for ActiveDownInterval, so that this node takes over.",
  advertise: "Active: the next advertisement is due.",
  preempt: "Backup: from here on a lower-priority Active is no longer respected (preempt delay).",
} as const;
export type VrrpTimer = keyof typeof VRRP_TIMERS;

export interface VrrpConfig {
  readonly version: VrrpVersion;
  /** Effective, 1..255. */
  readonly priority: number;
  /** Of this node's own advertisements. */
  readonly interval: DurationMs;
  readonly preempt: boolean;
  readonly preemptDelay: DurationMs;
  /** The address that advertisements are sent from: it breaks ties. */
  readonly source: IpAddress;
}

export interface Heard {
  readonly source: IpAddress;
  readonly priority: number;
  readonly at: MonotonicMs;
}

/** How long a Backup waits for the Active, in intervals of that one and skew times of its own. */
interface Patience {
  readonly intervals: number;
  readonly skews: number;
}
const SILENCE: Patience = { intervals: 3, skews: 1 };
const RELEASED: Patience = { intervals: 0, skews: 1 };
/**
 * Another Active would be heard within an interval; a quarter more for jitter and an eighth of the skew, so
 * that with the longest silence before the restart the other nodes' three intervals are not over yet.
 */
const RESUMED: Patience = { intervals: 1.25, skews: 1 / 8 };

export interface VrrpState {
  readonly name: VrrpStateName;
  /** Learned from the Active (Active_Adver_Interval). */
  readonly activeInterval: DurationMs;
  /** The last advertisement of somebody else, respected or not. */
  readonly heard: Heard | undefined;
  readonly deadlines: Readonly<Record<VrrpTimer, MonotonicMs>>;
  /** When the ActiveDown timer was last armed, and for how long, so that a change of priority can move it. */
  readonly armedAt: MonotonicMs;
  readonly patience: Patience;
  /** Given away on command: does not take it back by preemption until it has been Active again. */
  readonly yielded: boolean;
  /** Active, but woke up so late that another may have taken over: the next advertisement heard decides. */
  readonly suspect: boolean;
}

export type VrrpEvent =
  /** `resume`: this process was Active a moment ago, its addresses' leases still run: listen only briefly. */
  | { readonly type: "start"; readonly resume?: boolean | undefined }
  /** A valid advertisement of another router for this VRID. `interval` as it names it. */
  | {
      readonly type: "advertisement";
      readonly source: IpAddress;
      readonly priority: number;
      readonly interval: DurationMs;
      /** Of the other node of a hand-over under way: the giver's, heard by the taker, or the taker's. */
      readonly handover?: "taking" | "giving" | undefined;
    }
  /** Some deadline has passed. Every packet that arrived before has been delivered. */
  | { readonly type: "timer" }
  /** The process slept past a deadline; comes before the packets that queued meanwhile. */
  | { readonly type: "stalled"; readonly late: DurationMs }
  /** The configuration (the effective priority, say) has changed. */
  | { readonly type: "configured" }
  /** Become Active now: a hand-over. */
  | { readonly type: "promote"; readonly reason: string }
  /** Become Backup now, without a release: another node is already Active. */
  | { readonly type: "yield"; readonly reason: string; readonly keep: boolean }
  /** Another instance of the group heard the Active release it. */
  | { readonly type: "released" }
  /** Stop: an Active releases. */
  | { readonly type: "shutdown"; readonly reason: string };

/**
 * Carried out in the order in which they stand. An advertisement stands before the change of state that
 * it tells of (RFC 9568, 6.4.2: send, then gratuitous ARP; 6.4.3: release, then stop), since the others wait
 * their skew time anyway.
 */
export type VrrpEffect =
  | { readonly type: "advertise"; readonly priority: number }
  | {
      readonly type: "changed";
      readonly from: VrrpStateName;
      readonly to: VrrpStateName;
      readonly reason: string;
    }
  /** Announce the addresses again: somebody else has claimed them meanwhile. */
  | { readonly type: "reannounce"; readonly reason: string }
  | { readonly type: "count"; readonly counter: VrrpCounter };

export const VRRP_COUNTERS = {
  interval_mismatch: "version 2 advertisements dropped because their interval is another one",
  own_echo: "advertisements from this node's own address, ignored",
  lower_priority_answered: "lower-priority advertisements answered at once while Active",
  owner_conflict: "advertisements of another router that claims to be the address owner, too",
  stalls: "wake-ups so late that another node may have taken over",
} as const;
export type VrrpCounter = keyof typeof VRRP_COUNTERS;

export interface VrrpContext {
  readonly now: MonotonicMs;
  readonly config: VrrpConfig;
}
export interface VrrpStep {
  readonly state: VrrpState;
  readonly effects: readonly VrrpEffect[];
}

/**
 * Skew_Time in milliseconds with fractions (RFC 9568, 6.1); truncated to centiseconds, fast intervals would
 * lose their stagger. Version 2: 256ths of a second whatever the interval (RFC 3768, 6.1).
 */
export const skewTime = (version: VrrpVersion, priority: number, activeInterval: DurationMs): DurationMs =>
  ms(((256 - priority) * (version === 2 ? 1000 : activeInterval)) / 256);

export const activeDownInterval = (
  version: VrrpVersion,
  priority: number,
  activeInterval: DurationMs,
): DurationMs => ms(3 * activeInterval + skewTime(version, priority, activeInterval));

const IDLE: Readonly<Record<VrrpTimer, MonotonicMs>> = {
  activeDown: NEVER,
  advertise: NEVER,
  preempt: NEVER,
};

export const initialVrrp = (config: VrrpConfig, now: MonotonicMs): VrrpState => ({
  name: "initialize",
  activeInterval: config.interval,
  heard: undefined,
  deadlines: IDLE,
  armedAt: now,
  patience: SILENCE,
  yielded: false,
  suspect: false,
});

export const nextVrrpDeadline = ({ deadlines }: VrrpState): MonotonicMs =>
  earliest(deadlines.activeDown, deadlines.advertise);

const unchanged = (state: VrrpState): VrrpStep => ({ state, effects: [] });
const counted = (state: VrrpState, counter: VrrpCounter): VrrpStep => ({
  state,
  effects: [{ type: "count", counter }],
});

const until = (state: VrrpState, { version, priority }: VrrpConfig): MonotonicMs => {
  const { activeInterval, armedAt, patience } = state;
  const skew = skewTime(version, priority, activeInterval);
  return addTime(armedAt, ms(patience.intervals * activeInterval + patience.skews * skew));
};

/** (Re-)arms the ActiveDown timer from now on. */
function armed(
  state: VrrpState,
  { now, config }: VrrpContext,
  activeInterval: DurationMs,
  patience: Patience = SILENCE,
): VrrpState {
  const next: VrrpState = { ...state, activeInterval, armedAt: now, patience };
  return { ...next, deadlines: { ...next.deadlines, activeDown: until(next, config) } };
}

function becomeActive(state: VrrpState, { now, config }: VrrpContext, reason: string): VrrpStep {
  return {
    state: {
      ...state,
      name: "active",
      yielded: false,
      suspect: false,
      deadlines: { ...IDLE, advertise: addTime(now, config.interval) },
    },
    effects: [
      { type: "advertise", priority: config.priority },
      { type: "changed", from: state.name, to: "active", reason },
    ],
  };
}

function becomeBackup(
  state: VrrpState,
  context: VrrpContext,
  reason: string,
  interval: DurationMs = context.config.interval,
): VrrpStep {
  return {
    state: armed({ ...state, name: "backup", suspect: false, deadlines: IDLE }, context, interval),
    effects: [{ type: "changed", from: state.name, to: "backup", reason }],
  };
}

function resume(state: VrrpState, context: VrrpContext): VrrpStep {
  const step = becomeBackup(state, context, "restarted while Active");
  return { ...step, state: armed(step.state, context, context.config.interval, RESUMED) };
}

type AdvertisementEvent = Extract<VrrpEvent, { type: "advertisement" }>;

/** RFC 9568, 6.4.2 (430) to (450). */
function heardAsBackup(state: VrrpState, event: AdvertisementEvent, context: VrrpContext): VrrpStep {
  const { now, config } = context;
  if (event.priority === 0) {
    const calm = armed(state, context, state.activeInterval, RELEASED);
    return unchanged({ ...calm, deadlines: { ...calm.deadlines, preempt: NEVER } });
  }
  if (event.priority >= config.priority || !config.preempt || state.yielded) {
    const calm = armed(state, context, event.interval);
    return unchanged({ ...calm, deadlines: { ...calm.deadlines, preempt: NEVER } });
  }
  const preempt =
    state.deadlines.preempt === NEVER ? addTime(now, config.preemptDelay) : state.deadlines.preempt;
  const waiting: VrrpState = { ...state, deadlines: { ...state.deadlines, preempt } };
  // Discarded once the delay is over: the ActiveDown timer runs out although the Active is alive.
  return unchanged(now < preempt ? armed(waiting, context, event.interval) : waiting);
}

/** RFC 9568, 6.4.3 (700) to (770). */
function heardAsActive(state: VrrpState, event: AdvertisementEvent, context: VrrpContext): VrrpStep {
  const { now, config } = context;
  const rearmed: VrrpState = {
    ...state,
    deadlines: { ...state.deadlines, advertise: addTime(now, config.interval) },
  };
  const answer: VrrpEffect = { type: "advertise", priority: config.priority };
  if (event.handover === "taking") return unchanged(state);
  if (event.priority === 0) return { state: rearmed, effects: [answer] };
  if (event.handover === "giving") {
    const step = becomeBackup(
      state,
      context,
      `handed over: ${event.source} is heard as Active`,
      event.interval,
    );
    return { state: { ...step.state, yielded: true }, effects: step.effects };
  }
  const order = event.priority - config.priority || compareIp(event.source, config.source);
  // Erratum 8298: a second owner is an error to be reported, and elects like anyone else.
  const conflict: readonly VrrpEffect[] =
    event.priority === OWNER_PRIORITY && config.priority === OWNER_PRIORITY
      ? [{ type: "count", counter: "owner_conflict" }]
      : [];
  // Whoever took over while this node slept holds the addresses; taking them back is preemption.
  const superseded = state.suspect && !config.preempt && config.priority !== OWNER_PRIORITY;
  if (order > 0 || superseded) {
    const reason = superseded
      ? `${event.source} took over while this node was stalled`
      : `${event.source} advertises ${event.priority}, which is ${
          event.priority === config.priority ? "equal, from a greater address" : `above ${config.priority}`
        }`;
    const step = becomeBackup(state, context, reason, event.interval);
    // The winner may not have heard yet that two were Active. A last word tells it, so that it announces its
    // addresses again to those who learned ours; a greater priority would make it give way, so not then.
    const parting: readonly VrrpEffect[] = order > 0 ? [answer] : [];
    return { state: step.state, effects: [...conflict, ...parting, ...step.effects] };
  }
  // New in RFC 9568: the lower one is told at once. Those who listened to it need a new announcement.
  return {
    state: rearmed,
    effects: [
      ...conflict,
      answer,
      { type: "reannounce", reason: `${event.source} advertised the lower priority ${event.priority}` },
      { type: "count", counter: "lower_priority_answered" },
    ],
  };
}

function onAdvertisement(state: VrrpState, event: AdvertisementEvent, context: VrrpContext): VrrpStep {
  const { now, config } = context;
  if (event.source === config.source) return counted(state, "own_echo");
  // RFC 3768, 7.1: version 2 neither carries nor learns another interval.
  if (config.version === 2 && event.interval !== config.interval) return counted(state, "interval_mismatch");
  if (state.name === "initialize") return unchanged(state);
  const heard = { source: event.source, priority: event.priority, at: now };
  const known: VrrpState = { ...state, heard };
  return state.name === "backup"
    ? heardAsBackup(known, event, context)
    : heardAsActive(known, event, context);
}

function onTimer(state: VrrpState, context: VrrpContext): VrrpStep {
  const { now, config } = context;
  if (state.name === "backup" && now >= state.deadlines.activeDown) {
    const { heard } = state;
    const reason =
      heard === undefined
        ? "no other router was heard"
        : heard.priority === 0
          ? `${heard.source} released`
          : now - heard.at < state.activeInterval * 2
            ? `preempts ${heard.source}, which advertises the lower priority ${heard.priority}`
            : `${heard.source} was silent for ${Math.round(timeSince(now, heard.at))} ms`;
    return becomeActive(state, context, reason);
  }
  if (state.name === "active" && now >= state.deadlines.advertise) {
    const onTime = addTime(state.deadlines.advertise, config.interval);
    // Kept in step with the clock; after a long sleep the missed ones are not made up for.
    const advertise = onTime > now ? onTime : addTime(now, config.interval);
    const effects: VrrpEffect[] = [{ type: "advertise", priority: config.priority }];
    if (state.suspect) effects.push({ type: "reannounce", reason: "this node was stalled" });
    return {
      state: { ...state, suspect: false, deadlines: { ...state.deadlines, advertise } },
      effects,
    };
  }
  return unchanged(state);
}

function onConfigured(state: VrrpState, { now, config }: VrrpContext): VrrpStep {
  if (state.name === "active") {
    // Told at once: the others decide by it.
    const advertise = addTime(now, config.interval);
    return {
      state: { ...state, deadlines: { ...state.deadlines, advertise } },
      effects: [{ type: "advertise", priority: config.priority }],
    };
  }
  if (state.name === "initialize") return unchanged(state);
  return unchanged({ ...state, deadlines: { ...state.deadlines, activeDown: until(state, config) } });
}

export function stepVrrp(state: VrrpState, event: VrrpEvent, context: VrrpContext): VrrpStep {
  switch (event.type) {
    case "start":
      if (state.name !== "initialize") return unchanged(state);
      if (context.config.priority === OWNER_PRIORITY)
        return becomeActive(state, context, "owns the addresses (priority 255)");
      return event.resume ? resume(state, context) : becomeBackup(state, context, "started");
    case "advertisement":
      return onAdvertisement(state, event, context);
    case "timer":
      return onTimer(state, context);
    case "stalled":
      return state.name === "active"
        ? counted({ ...state, suspect: true }, "stalls")
        : counted(state, "stalls");
    case "configured":
      return onConfigured(state, context);
    case "promote":
      return state.name === "backup" ? becomeActive(state, context, event.reason) : unchanged(state);
    case "yield": {
      if (state.name !== "active") return unchanged({ ...state, yielded: state.yielded || event.keep });
      const step = becomeBackup(state, context, event.reason);
      return { state: { ...step.state, yielded: event.keep }, effects: step.effects };
    }
    case "released": {
      if (state.name !== "backup") return unchanged(state);
      const calm = armed(state, context, state.activeInterval, RELEASED);
      return unchanged(calm.deadlines.activeDown < state.deadlines.activeDown ? calm : state);
    }
    case "shutdown": {
      if (state.name === "initialize") return unchanged(state);
      const stopped = { ...initialVrrp(context.config, context.now), yielded: state.yielded };
      const changed: VrrpEffect = {
        type: "changed",
        from: state.name,
        to: "initialize",
        reason: event.reason,
      };
      return state.name === "active"
        ? { state: stopped, effects: [{ type: "advertise", priority: 0 }, changed] }
        : { state: stopped, effects: [changed] };
    }
    default:
      return unreachable(event);
  }
}
