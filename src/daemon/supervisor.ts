import { type ChildProcess, spawn } from "node:child_process";
import { extname, join } from "node:path";
import type { ProcessStatus } from "../contracts/api.ts";
import { messageOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { type Clock, type MonotonicMs, NEVER, type Timer, addTime, ms } from "../base/time.ts";
import type { ChildKind } from "./children.ts";
import {
  type SlotEffect,
  type SlotEvent,
  type SlotState,
  initialSlot,
  nextSlotDeadline,
  stepSlot,
} from "./machine-supervisor.ts";
import type { ChildMessage, ChildSetup, ListenWish, ParentMessage, StopMode } from "./messages-parent.ts";
import { type OpenListener, SlotListeners } from "./slot-listeners.ts";

/** A timer this late means that the whole host or this process stood still, and nobody else was silent. */
const STALL = ms(1000);

export interface SupervisorPorts {
  readonly clock: Clock;
  readonly log: Log;
  /** Runs `start` under real-time priority where that is allowed; ordinary otherwise. */
  realtime<T>(priority: number, start: () => T): T;
  /** A listening or bound socket with SO_REUSEPORT. Throws. */
  listen(wish: ListenWish): number;
  closeListener(fd: number): void;
  /** The same socket as a handle that can be sent to a process which runs already. */
  listenerHandle(fd: number): object;
  /** A process of this kind that has loaded everything and waits; undefined where there is none. */
  takeSpare(kind: string): ChildProcess | undefined;
}

export interface SlotSetup {
  readonly kind: ChildKind;
  readonly index: number;
  readonly setup: Omit<ChildSetup, "name" | "index" | "successor" | "listeners">;
  readonly listen: readonly ListenWish[];
  message(message: ChildMessage): void;
  changed(): void;
  /** It ended before it was ever ready, and said why. */
  cannotStart(failure: Failure): void;
}

export interface Failure {
  /** Of the process: one of the command's exit codes. */
  readonly status: number;
  readonly reason: string;
}

/** The first descriptor after input, output, errors and the channel to the parent. */
const FIRST_FD = 4;

/** One child: carries out what machine-supervisor.ts decides. */
export class Slot {
  readonly #options: SlotSetup;
  readonly #listeners: SlotListeners;
  #replaceWhenReady = false;
  readonly #ports: SupervisorPorts;
  readonly #processes = new Map<number, ChildProcess>();
  /** Listeners that each process has been given. */
  readonly #given = new Map<number, Set<OpenListener>>();
  readonly #spares = new Set<number>();
  #state: SlotState = initialSlot;
  #timer: Timer | undefined;
  #timerAt: MonotonicMs = NEVER;
  /** Why it could not start, in its own words. */
  #failure: Failure | undefined;

  constructor(options: SlotSetup, ports: SupervisorPorts) {
    this.#options = options;
    this.#ports = ports;
    this.#listeners = new SlotListeners({
      child: options.kind.name,
      clock: ports.clock,
      log: ports.log,
      listen: (wish) => ports.listen(wish),
      closeListener: (fd) => ports.closeListener(fd),
      opened: () => this.#listenersChanged(),
    });
    this.#listeners.want(options.listen);
  }

  get name(): string {
    return this.#options.kind.name;
  }
  get state(): SlotState {
    return this.#state;
  }
  get status(): ProcessStatus {
    const { phase, restarts, process } = this.#state;
    const pid = process === undefined ? undefined : this.#processes.get(process)?.pid;
    return { name: this.#options.kind.name, index: this.#options.index, phase, pid, restarts };
  }

  want(): void {
    this.#step({ type: "want" });
  }
  unwant(mode: StopMode): void {
    this.#step({ type: "unwant", mode });
  }
  replace(): void {
    this.#step({ type: "replace" });
  }
  reload(): void {
    this.#send(this.#state.process, { type: "reload" });
  }
  tellProcesses(list: readonly ProcessStatus[]): void {
    if (this.#state.phase === "running") this.#send(this.#state.process, { type: "processes", list });
  }
  /** At once and without order: the last resort. */
  kill(): void {
    for (const child of this.#processes.values()) child.kill("SIGKILL");
  }
  /**
   * Those that are no longer among them are closed. A running process that shares its sockets is handed the
   * new ones, so that its connections live on; any other is replaced by one that has them.
   */
  setListeners(wishes: readonly ListenWish[]): void {
    if (this.#listeners.want(wishes)) this.#listenersChanged();
  }

  #listenersChanged(): void {
    if (this.#options.kind.slot.overlap) {
      if (this.#state.phase === "running") this.#tellListeners(this.#state.process);
      return;
    }
    // One that starts just now has the old ones: it is replaced as soon as it is ready.
    this.#replaceWhenReady = this.#state.phase === "starting";
    this.replace();
  }

  /** What was closed since a process was given it, and what was opened. */
  #tellListeners(number: number | undefined): void {
    const child = number === undefined ? undefined : this.#processes.get(number);
    const given = number === undefined ? undefined : this.#given.get(number);
    if (child?.connected !== true || given === undefined) return;
    const { open } = this.#listeners;
    for (const one of given) {
      if (open.includes(one)) continue;
      given.delete(one);
      this.#send(number, { type: "listener_closed", name: one.name });
    }
    for (const one of open) {
      if (given.has(one)) continue;
      given.add(one);
      const message: ParentMessage = { type: "listener", name: one.name };
      child.send(message, this.#ports.listenerHandle(one.fd) as never, () => {});
    }
  }

  #step(event: SlotEvent): void {
    const now = this.#ports.clock.monotonic();
    const { state, effects } = stepSlot(this.#state, event, { now, config: this.#options.kind.slot });
    const before = this.#state;
    const changed =
      state.phase !== before.phase ||
      state.process !== before.process ||
      state.successor !== before.successor;
    this.#state = state;
    for (const effect of effects) this.#carryOut(effect);
    this.#arm();
    if (changed) this.#options.changed();
    if (before.phase !== "running" && state.phase === "running" && this.#options.kind.slot.overlap)
      this.#tellListeners(state.process);
    if (this.#replaceWhenReady && this.#state.phase === "running") {
      this.#replaceWhenReady = false;
      this.replace();
    }
  }

  #carryOut(effect: SlotEffect): void {
    switch (effect.type) {
      case "spawn":
        this.#spawn(effect.process, effect.successor);
        break;
      case "go":
        this.#listeners.reopen();
        if (this.#options.kind.slot.overlap) this.#tellListeners(effect.process);
        this.#send(
          effect.process,
          this.#spares.delete(effect.process) ? { type: "go", index: this.#options.index } : { type: "go" },
        );
        break;
      case "close_listeners":
        this.#listeners.close();
        break;
      case "stop":
        this.#send(effect.process, { type: "stop", mode: effect.mode });
        break;
      case "kill":
        this.#processes.get(effect.process)?.kill("SIGKILL");
        break;
      case "report":
        this.#report(effect.event, effect.reason);
        break;
    }
  }

  #report(event: string, reason: string): void {
    const fields = {
      event: `child.${event}`,
      child: this.#options.kind.name,
      index: this.#options.index,
      reason,
    };
    const pid = this.status.pid;
    const all = pid === undefined ? fields : { ...fields, child_pid: pid };
    if (event === "ready" || event === "ended" || event === "replaced") this.#ports.log.info(all);
    else this.#ports.log.warn(all);
  }

  #spawn(number: number, successor: boolean): void {
    const { kind, index, setup } = this.#options;
    // An upgrade and the like want the program as it is on disk now.
    const spare = number === this.#state.successor?.process ? undefined : this.#ports.takeSpare(kind.name);
    if (spare !== undefined) {
      this.#given.set(number, new Set());
      this.#spares.add(number);
      this.#follow(number, spare);
      // As an event, not a return: the machine hears that it is warm after its start.
      setImmediate(() => this.#step({ type: "warm", process: number }));
      return;
    }
    const listeners = this.#listeners.open;
    this.#given.set(number, new Set(listeners));
    const childSetup: ChildSetup = {
      ...setup,
      name: kind.name,
      index,
      successor,
      listeners: listeners.map(({ name }, i) => ({ name, fd: FIRST_FD + i })),
    };
    const fds = listeners.map(({ fd }) => fd);
    const start = (): ChildProcess => startChild(kind, childSetup, fds);
    let child: ChildProcess;
    try {
      child = kind.realtime === undefined ? start() : this.#ports.realtime(kind.realtime, start);
    } catch (error) {
      // Out of processes or descriptors. As an event, not a return: the machine hears of an end after its start.
      this.#processes.delete(number);
      setImmediate(() => this.#step({ type: "exited", process: number, how: `spawn: ${messageOf(error)}` }));
      return;
    }
    this.#follow(number, child);
  }

  #follow(number: number, child: ChildProcess): void {
    this.#processes.set(number, child);
    let said: string | undefined;
    child.on("message", (message: ChildMessage) => {
      if (message.type === "warm" || message.type === "ready" || message.type === "alive")
        this.#step({ type: message.type, process: number });
      else if (message.type === "failed") {
        said = message.reason;
        this.#failure = { status: message.status, reason: message.reason };
      }
      if (number === this.#state.process) this.#options.message(message);
    });
    const ended = (how: string): void => {
      if (!this.#processes.delete(number)) return;
      this.#given.delete(number);
      this.#spares.delete(number);
      if (this.#failure !== undefined && !this.#state.everReady) this.#options.cannotStart(this.#failure);
      this.#step({ type: "exited", process: number, how: said === undefined ? how : `${how}: ${said}` });
    };
    child.on("error", (error) => {
      // Also a message that could not be sent; only a process that never was has no pid.
      if (child.pid === undefined) ended(`spawn: ${error.message}`);
    });
    child.on("exit", (code, signal) => {
      const end = (): void => ended(signal === null ? `ended with status ${code}` : `ended by ${signal}`);
      // Its last words may still lie in the channel: they explain the end.
      if (code !== null && code !== 0 && said === undefined && child.connected) child.once("disconnect", end);
      else end();
    });
  }

  #send(number: number | undefined, message: ParentMessage): void {
    const child = number === undefined ? undefined : this.#processes.get(number);
    if (child?.connected === true) child.send(message, () => {});
  }

  #arm(): void {
    const at = nextSlotDeadline(this.#state);
    if (at === this.#timerAt) return;
    this.#timer?.cancel();
    this.#timerAt = at;
    this.#timer = at === NEVER ? undefined : this.#ports.clock.setTimer(at, () => this.#due(at));
  }

  #due(at: MonotonicMs): void {
    const { clock } = this.#ports;
    this.#timerAt = NEVER;
    if (clock.monotonic() - at < STALL) {
      this.#step({ type: "time" });
      return;
    }
    // We stood still ourselves: what the children said meanwhile waits in our sockets. Read it first, then judge.
    const later = addTime(clock.monotonic(), STALL);
    this.#timerAt = later;
    this.#timer = clock.setTimer(later, () => this.#step({ type: "time" }));
  }
}

/** Starts a child's process; its listeners come after the channel to the parent, from FIRST_FD on. */
export function startChild(kind: ChildKind, setup: ChildSetup, fds: readonly number[]): ChildProcess {
  const entry = join(import.meta.dirname, `${kind.entry}${extname(import.meta.filename)}`);
  const { NOTIFY_SOCKET: _, WATCHDOG_PID: __, WATCHDOG_USEC: ___, ...environment } = process.env;
  return spawn(process.execPath, [...process.execArgv, ...kind.flags, entry, "--node", setup.node], {
    stdio: ["ignore", "inherit", "inherit", "ipc", ...fds],
    env: {
      ...environment,
      NINES_CHILD: JSON.stringify(setup),
      UV_THREADPOOL_SIZE: String(kind.threads),
      // One arena instead of one per thread: glibc's own caches otherwise hold megabytes in an idle process.
      MALLOC_ARENA_MAX: "1",
    },
  });
}

/** For the log and for people who look for a process: `redundancy 4711`. */
export const describeSlots = (slots: readonly ProcessStatus[]): string =>
  slots
    .map(({ name, index, pid, phase }) => `${name}${index > 0 ? `.${index}` : ""} ${pid ?? phase}`)
    .join(", ");
