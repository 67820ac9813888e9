/**
 * One child as its parent sees it: started, ready, restarted with a growing wait, replaced without a gap.
 * Pure; the shell is supervisor.ts.
 *
 * Effects come in the order in which they shall be carried out. A process is known by the number that
 * `spawn` gives it, so that the end of an old one is never taken for the end of the new one.
 */
import { type DurationMs, type MonotonicMs, NEVER, addTime, earliest, ms, timeSince } from "../base/time.ts";
import type { StopMode } from "./messages-parent.ts";

export interface SlotConfig {
  /** From spawn to `ready`. */
  readonly startWithin: DurationMs;
  /** From `stop` to the end; then SIGKILL. */
  readonly stopWithin: DurationMs;
  /** Longest silence of a running child; then SIGKILL and a restart. */
  readonly silence: DurationMs;
  readonly backoffFirst: DurationMs;
  readonly backoffMost: DurationMs;
  /**
   * A successor serves while its predecessor finishes what it has begun: for those that share their listening
   * sockets. The others may not, as two would hold one address.
   */
  readonly overlap: boolean;
}

/**
 * - `off`: not wanted, nothing runs
 * - `starting`: spawned, not ready yet
 * - `running`: ready
 * - `stopping`: told to end
 * - `waiting`: ended by itself; starts again at `restartAt`
 */
export type SlotPhase = "off" | "starting" | "running" | "stopping" | "waiting";

export interface SlotState {
  readonly phase: SlotPhase;
  readonly wanted: boolean;
  /** The process in charge. */
  readonly process: number | undefined;
  /** Loading beside it, to take its place. */
  readonly successor: { readonly process: number; readonly warm: boolean } | undefined;
  /** Finishes what it has begun; another is in charge. */
  readonly leaving: { readonly process: number; readonly deadline: MonotonicMs } | undefined;
  readonly nextProcess: number;
  /** In a row, none of which ran for RUNS_WELL. */
  readonly failures: number;
  readonly restarts: number;
  readonly everReady: boolean;
  readonly since: MonotonicMs;
  /** `starting`: until ready. `stopping`: until it is killed. */
  readonly deadline: MonotonicMs;
  readonly successorDeadline: MonotonicMs;
  readonly silentAt: MonotonicMs;
  readonly restartAt: MonotonicMs;
}

export type SlotEvent =
  | { readonly type: "want" }
  | { readonly type: "unwant"; readonly mode: StopMode }
  /** Replace the process by a new one, of the program as it is on disk now. */
  | { readonly type: "replace" }
  | { readonly type: "warm"; readonly process: number }
  | { readonly type: "ready"; readonly process: number }
  | { readonly type: "alive"; readonly process: number }
  | { readonly type: "exited"; readonly process: number; readonly how: string }
  | { readonly type: "time" };

export type SlotEffect =
  | { readonly type: "spawn"; readonly process: number; readonly successor: boolean }
  | { readonly type: "go"; readonly process: number }
  | { readonly type: "stop"; readonly process: number; readonly mode: StopMode }
  | { readonly type: "kill"; readonly process: number }
  /** Nobody will accept from them for a while; they are opened again before the next `go`. */
  | { readonly type: "close_listeners" }
  | {
      readonly type: "report";
      readonly event: "ready" | "ended" | "restarting" | "replaced" | "replace_failed" | "silent" | "late";
      readonly reason: string;
    };

/** A child that ran this long was no failed start: the wait begins anew. */
const RUNS_WELL = ms(10_000);
/** Connections that wait in a socket for a process to come shall not wait longer. */
const WAITS_WELL = ms(1000);

export const initialSlot: SlotState = {
  phase: "off",
  wanted: false,
  process: undefined,
  successor: undefined,
  leaving: undefined,
  nextProcess: 1,
  failures: 0,
  restarts: 0,
  everReady: false,
  since: 0 as MonotonicMs,
  deadline: NEVER,
  successorDeadline: NEVER,
  silentAt: NEVER,
  restartAt: NEVER,
};

export interface Step {
  readonly state: SlotState;
  readonly effects: readonly SlotEffect[];
}

export interface SlotInput {
  readonly now: MonotonicMs;
  readonly config: SlotConfig;
}

export const nextSlotDeadline = (state: SlotState): MonotonicMs =>
  earliest(
    state.deadline,
    state.successorDeadline,
    state.silentAt,
    state.restartAt,
    state.leaving?.deadline ?? NEVER,
  );

export function stepSlot(state: SlotState, event: SlotEvent, input: SlotInput): Step {
  switch (event.type) {
    case "want":
      if (state.phase === "off") return start({ ...state, wanted: true, failures: 0 }, input);
      return { state: { ...state, wanted: true }, effects: [] };
    case "unwant":
      return unwant(state, event.mode, input);
    case "replace":
      return replace(state, input);
    case "warm":
      return warm(state, event.process, input);
    case "ready":
      return ready(state, event.process, input);
    case "alive":
      if (event.process !== state.process || state.phase !== "running") return { state, effects: [] };
      return { state: { ...state, silentAt: addTime(input.now, input.config.silence) }, effects: [] };
    case "exited":
      return exited(state, event.process, event.how, input);
    case "time":
      return time(state, input);
  }
}

function start(state: SlotState, { now, config }: SlotInput): Step {
  const process = state.nextProcess;
  return {
    state: {
      ...state,
      phase: "starting",
      process,
      nextProcess: process + 1,
      since: now,
      deadline: addTime(now, config.startWithin),
      silentAt: NEVER,
      restartAt: NEVER,
    },
    effects: [{ type: "spawn", process, successor: state.restarts > 0 || state.everReady }],
  };
}

function unwant(state: SlotState, mode: StopMode, { now, config }: SlotInput): Step {
  const idle = { ...state, wanted: false, successor: undefined, successorDeadline: NEVER, restartAt: NEVER };
  const effects: SlotEffect[] = [];
  if (state.successor) effects.push({ type: "kill", process: state.successor.process });
  if (state.leaving && mode === "release") effects.push({ type: "kill", process: state.leaving.process });
  if (state.process === undefined) return { state: { ...idle, phase: "off" }, effects };
  if (state.phase === "stopping") return { state: idle, effects };
  effects.push({ type: "stop", process: state.process, mode });
  const deadline = addTime(now, config.stopWithin);
  return { state: { ...idle, phase: "stopping", since: now, deadline, silentAt: NEVER }, effects };
}

function replace(state: SlotState, { now, config }: SlotInput): Step {
  // What is not running starts from the new program anyway.
  if (state.phase !== "running" || state.successor || state.leaving) return { state, effects: [] };
  const process = state.nextProcess;
  return {
    state: {
      ...state,
      nextProcess: process + 1,
      successor: { process, warm: false },
      successorDeadline: addTime(now, config.startWithin),
    },
    effects: [{ type: "spawn", process, successor: true }],
  };
}

function warm(state: SlotState, process: number, { now, config }: SlotInput): Step {
  if (state.successor?.process === process && state.process !== undefined) {
    const deadline = addTime(now, config.stopWithin);
    if (config.overlap) {
      return {
        state: {
          ...state,
          phase: "starting",
          process,
          successor: undefined,
          successorDeadline: NEVER,
          leaving: { process: state.process, deadline },
          restarts: state.restarts + 1,
          since: now,
          deadline: addTime(now, config.startWithin),
          silentAt: NEVER,
        },
        effects: [
          { type: "go", process },
          { type: "stop", process: state.process, mode: "leave" },
          { type: "report", event: "replaced", reason: "its successor was loaded" },
        ],
      };
    }
    return {
      state: {
        ...state,
        phase: "stopping",
        since: now,
        deadline,
        silentAt: NEVER,
        successor: { process, warm: true },
        successorDeadline: NEVER,
      },
      effects: [{ type: "stop", process: state.process, mode: "leave" }],
    };
  }
  if (process !== state.process || state.phase !== "starting") return { state, effects: [] };
  return { state, effects: [{ type: "go", process }] };
}

function ready(state: SlotState, process: number, { now, config }: SlotInput): Step {
  if (process !== state.process || state.phase !== "starting") return { state, effects: [] };
  const took = Math.round(timeSince(now, state.since));
  return {
    state: {
      ...state,
      phase: "running",
      everReady: true,
      since: now,
      deadline: NEVER,
      silentAt: addTime(now, config.silence),
    },
    effects: [{ type: "report", event: "ready", reason: `ready ${took} ms after its start` }],
  };
}

function exited(state: SlotState, process: number, how: string, input: SlotInput): Step {
  const { now, config } = input;
  if (process === state.successor?.process) {
    const calm = { ...state, successor: undefined, successorDeadline: NEVER };
    const report: SlotEffect = { type: "report", event: "replace_failed", reason: how };
    return { state: calm, effects: [report] };
  }
  if (process === state.leaving?.process) return { state: { ...state, leaving: undefined }, effects: [] };
  if (process !== state.process) return { state, effects: [] };
  if (state.successor?.warm === true) {
    const heir = state.successor.process;
    return {
      state: {
        ...state,
        phase: "starting",
        process: heir,
        successor: undefined,
        restarts: state.restarts + 1,
        since: now,
        deadline: addTime(now, config.startWithin),
      },
      effects: [
        { type: "go", process: heir },
        { type: "report", event: "replaced", reason: "its successor was loaded" },
      ],
    };
  }
  const gone: SlotState = {
    ...state,
    process: undefined,
    deadline: NEVER,
    silentAt: NEVER,
    successor: undefined,
    successorDeadline: NEVER,
    since: now,
  };
  const effects: SlotEffect[] = [];
  // A successor that still loads cannot replace what is gone: a plain restart is no slower.
  if (state.successor) effects.push({ type: "kill", process: state.successor.process });
  if (!state.wanted) {
    effects.push({ type: "report", event: "ended", reason: how });
    return { state: { ...gone, phase: "off" }, effects };
  }
  const ranWell = state.phase === "running" && timeSince(now, state.since) >= RUNS_WELL;
  const failures = ranWell ? 1 : state.failures + 1;
  // The first restart is at once: an address waits for it. Only what fails again and again waits.
  const wait = failures === 1 ? 0 : Math.min(config.backoffMost, config.backoffFirst * 2 ** (failures - 2));
  effects.push({ type: "report", event: "restarting", reason: `${how}; starting again in ${wait} ms` });
  const hopeless = state.phase === "starting" || wait >= WAITS_WELL;
  if (config.overlap && failures > 1 && hopeless) effects.push({ type: "close_listeners" });
  const waiting = { ...gone, failures, restarts: state.restarts + 1 };
  if (wait > 0)
    return { state: { ...waiting, phase: "waiting", restartAt: addTime(now, ms(wait)) }, effects };
  const next = start(waiting, input);
  return { state: next.state, effects: [...effects, ...next.effects] };
}

function time(state: SlotState, input: SlotInput): Step {
  const { now } = input;
  const effects: SlotEffect[] = [];
  let next = state;
  if (now >= next.successorDeadline && next.successor) {
    effects.push(
      { type: "report", event: "replace_failed", reason: "the successor was not loaded before its deadline" },
      { type: "kill", process: next.successor.process },
    );
    next = { ...next, successor: undefined, successorDeadline: NEVER };
  }
  if (next.leaving && now >= next.leaving.deadline) {
    effects.push({ type: "kill", process: next.leaving.process });
    next = { ...next, leaving: { ...next.leaving, deadline: NEVER } };
  }
  if (now >= next.deadline && next.process !== undefined) {
    const what = next.phase === "stopping" ? "did not end" : "was not ready";
    effects.push(
      { type: "report", event: "late", reason: `${what} before its deadline; killed` },
      { type: "kill", process: next.process },
    );
    next = { ...next, deadline: NEVER };
  }
  if (now >= next.silentAt && next.process !== undefined) {
    effects.push(
      { type: "report", event: "silent", reason: "its event loop gave no sign of life; killed" },
      { type: "kill", process: next.process },
    );
    next = { ...next, silentAt: NEVER };
  }
  if (now >= next.restartAt) {
    const restarted = start(next, input);
    return { state: restarted.state, effects: [...effects, ...restarted.effects] };
  }
  return { state: next, effects };
}
