/** Runs the programs of a site after a change: never awaited, with a deadline, killed as a group. */
import { spawn } from "node:child_process";
import type { Log } from "../base/log.ts";
import { type Clock, type DurationMs, addTime } from "../base/time.ts";
import { ordinary } from "../linux/realtime.ts";

/** Hooks of one router run one after the other; beyond this many the oldest waiting one is dropped. */
const MOST_WAITING = 8;

export interface HookCall {
  readonly command: readonly string[];
  readonly timeout: DurationMs;
  /** Written to its standard input as one JSON object. */
  readonly input: Readonly<Record<string, unknown>>;
}

export class HookRunner {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #count: (counter: string) => void;
  readonly #waiting: HookCall[] = [];
  readonly #room: string;
  #running = false;

  constructor(clock: Clock, log: Log, count: (counter: string) => void, room = "redundancy") {
    this.#room = room;
    this.#clock = clock;
    this.#log = log;
    this.#count = count;
  }

  run(call: HookCall): void {
    this.#waiting.push(call);
    if (this.#waiting.length > MOST_WAITING) {
      this.#waiting.shift();
      this.#count("hooks_dropped");
    }
    this.#next();
  }

  #next(): void {
    if (this.#running) return;
    const call = this.#waiting.shift();
    if (!call) return;
    const [program, ...args] = call.command;
    if (program === undefined) return;
    this.#running = true;
    this.#count("hooks_run");
    const started = this.#clock.monotonic();
    let done = false;
    // A process group of its own, so that what it started ends with it; and no real-time priority.
    const child = ordinary(() =>
      spawn(program, args, { detached: true, stdio: ["pipe", "ignore", "ignore"] }),
    );
    const deadline = this.#clock.setTimer(addTime(started, call.timeout), () => {
      finish(`killed after ${call.timeout} ms`);
      if (child.pid !== undefined)
        try {
          process.kill(-child.pid, "SIGKILL");
        } catch {
          // Gone in this very moment.
        }
    });
    const finish = (failure: string | undefined): void => {
      if (done) return;
      done = true;
      deadline.cancel();
      if (failure !== undefined) {
        this.#count("hooks_failed");
        this.#log.warn({
          event: `${this.#room}.hook_failed`,
          command: call.command.join(" "),
          reason: failure,
        });
      }
      this.#running = false;
      this.#next();
    };
    child.on("error", (error) => finish(error.message));
    child.on("exit", (code, signal) =>
      finish(code === 0 ? undefined : signal === null ? `exit status ${code}` : `ended by ${signal}`),
    );
    child.stdin.on("error", () => {
      // It does not read what it is told: its own affair.
    });
    child.stdin.end(`${JSON.stringify(call.input)}\n`);
    child.unref();
  }
}
