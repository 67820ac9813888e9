import type { ChildProcess } from "node:child_process";
import type { Log } from "../base/log.ts";
import { type Clock, type Timer, addTime, ms } from "../base/time.ts";
import type { ProcessStatus } from "../contracts/api.ts";
import type { ChildMessage } from "./messages-parent.ts";

const BACKOFF_FIRST = 500;
const BACKOFF_MOST = 60_000;

export interface SpareOptions {
  /** Of the kind that it stands in for. */
  readonly name: string;
  readonly clock: Clock;
  readonly log: Log;
  start(): ChildProcess;
  changed(): void;
}

/**
 * A process that has loaded the program and the site and waits: it takes the place of the first one that
 * crashes, which a new process would need some hundred milliseconds for.
 */
export class Spare {
  readonly #options: SpareOptions;
  #child: ChildProcess | undefined;
  #warm = false;
  #wanted = false;
  #failures = 0;
  #starts = 0;
  #timer: Timer | undefined;

  constructor(options: SpareOptions) {
    this.#options = options;
  }

  want(wanted: boolean): void {
    this.#wanted = wanted;
    if (!wanted) this.#drop();
    else if (this.#child === undefined && this.#timer === undefined) this.#start();
  }

  /** A new one, of the program as it is on disk now. */
  replace(): void {
    this.#drop();
    this.want(this.#wanted);
  }

  /** The process, where it is ready; it belongs to the caller then, and another is started in its place later. */
  take(): ChildProcess | undefined {
    const child = this.#child;
    if (child === undefined || !this.#warm) return undefined;
    // Ended together with the one that it should replace: its own end is only told next.
    if (!child.kill(0)) return undefined;
    this.#child = undefined;
    this.#warm = false;
    this.#failures = 0;
    // Not all of them: Node's own carry the acknowledgements of handles.
    for (const event of ["message", "error", "exit"]) child.removeAllListeners(event);
    return child;
  }

  get status(): ProcessStatus | undefined {
    if (this.#child === undefined) return undefined;
    const phase = this.#warm ? "running" : "starting";
    const restarts = Math.max(0, this.#starts - 1);
    return { name: `${this.#options.name}-spare`, index: 0, phase, pid: this.#child.pid, restarts };
  }

  #drop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const child = this.#child;
    this.#child = undefined;
    this.#warm = false;
    // It holds nothing that somebody would miss.
    child?.kill("SIGKILL");
  }

  #start(): void {
    const child = this.#options.start();
    this.#child = child;
    this.#starts++;
    child.on("message", (message: ChildMessage) => {
      if (message.type !== "warm" || this.#child !== child) return;
      this.#warm = true;
      this.#options.changed();
    });
    const ended = (how: string): void => {
      if (this.#child !== child) return;
      this.#child = undefined;
      this.#warm = false;
      const wait = Math.min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** this.#failures++);
      const { log, clock, name } = this.#options;
      log.warn({ event: "child.spare_lost", child: name, reason: `${how}; starting another in ${wait} ms` });
      this.#timer = clock.setTimer(addTime(clock.monotonic(), ms(wait)), () => {
        this.#timer = undefined;
        if (this.#wanted && this.#child === undefined) this.#start();
      });
      this.#options.changed();
    };
    child.on("error", (error) => ended(error.message));
    child.on("exit", (code, signal) => ended(signal ?? `status ${code}`));
  }
}
