import { type ChildProcess, spawn } from "node:child_process";
import type { Clock, Timer } from "../../base/time.ts";
import { addTime } from "../../base/time.ts";
import type { Site, Track } from "../../contracts/site.ts";
import { trackName } from "../../redundancy/plan.ts";
import type { Verdict } from "./policy.ts";

type ScriptTrack = Extract<Track, { script: unknown }>;

interface Watch {
  readonly track: ScriptTrack;
  readonly key: string;
  verdict: Verdict;
  /** In a row, of the outcome that differs from the verdict. */
  contrary: number;
  timer?: Timer;
  child?: ChildProcess;
}

/** Runs the scripts that this node's routers track: every interval, one at a time each, with a deadline. */
export class ScriptWatcher {
  readonly #clock: Clock;
  readonly #changed: () => void;
  readonly #watches = new Map<string, Watch>();

  constructor(clock: Clock, changed: () => void) {
    this.#clock = clock;
    this.#changed = changed;
  }

  verdicts(): ReadonlyMap<string, Verdict> {
    return new Map([...this.#watches].map(([name, watch]) => [name, watch.verdict]));
  }

  /** Those that are the same go on where they are. */
  update(site: Site, node: string): void {
    const wanted = new Map<string, ScriptTrack>();
    for (const router of Object.values(site.virtualRouters)) {
      if (router.priorities[node] === undefined) continue;
      for (const track of router.track) if ("script" in track) wanted.set(trackName(track), track);
    }
    for (const [name, watch] of this.#watches) {
      const track = wanted.get(name);
      if (track === undefined || JSON.stringify(track) !== watch.key) this.#end(name, watch);
    }
    for (const [name, track] of wanted) {
      if (this.#watches.has(name)) continue;
      const verdict = { good: true, reason: "not run yet" };
      const watch: Watch = { track, key: JSON.stringify(track), verdict, contrary: 0 };
      this.#watches.set(name, watch);
      this.#run(watch);
    }
  }

  stop(): void {
    for (const [name, watch] of this.#watches) this.#end(name, watch);
  }

  #end(name: string, watch: Watch): void {
    watch.timer?.cancel();
    killGroup(watch.child);
    // Its end is nothing that another run follows.
    delete watch.child;
    this.#watches.delete(name);
  }

  #run(watch: Watch): void {
    const { clock, track } = { clock: this.#clock, track: watch.track };
    const [program = "", ...args] = track.script;
    const started = clock.monotonic();
    let late = false;
    // A group of its own, so that what the script starts ends with it.
    const child = spawn(program, args, { stdio: "ignore", detached: true });
    watch.child = child;
    const deadline = clock.setTimer(addTime(started, track.timeout), () => {
      late = true;
      killGroup(child);
    });
    const done = (good: boolean, reason: string): void => {
      deadline.cancel();
      if (watch.child !== child) return;
      delete watch.child;
      this.#note(watch, { good, reason });
      const next = Math.max(addTime(started, track.interval), clock.monotonic());
      watch.timer = clock.setTimer(next as typeof started, () => this.#run(watch));
    };
    child.on("error", (error) => done(false, error.message));
    child.on("exit", (code, signal) => {
      if (late) done(false, `no answer within ${track.timeout} ms`);
      else done(code === 0, signal === null ? `status ${code}` : `ended by ${signal}`);
    });
  }

  #note(watch: Watch, outcome: Verdict): void {
    if (![...this.#watches.values()].includes(watch)) return;
    if (outcome.good === watch.verdict.good) {
      watch.contrary = 0;
      watch.verdict = outcome;
      return;
    }
    watch.contrary++;
    if (watch.contrary < (outcome.good ? watch.track.rise : watch.track.fall)) return;
    watch.contrary = 0;
    watch.verdict = outcome;
    this.#changed();
  }
}

function killGroup(child: ChildProcess | undefined): void {
  if (child?.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}
