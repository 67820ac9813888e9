import { type Clock, type MonotonicMs, seconds, timeSince } from "../base/time.ts";
import type { RouterRunner } from "./router.ts";
import type { Telling } from "./telling.ts";

/**
 * Without facts for this long the brain counts as silent (contracts/redundancy.ts). Well above the time of a restart
 * on a busy machine (3.75 s was seen): two nodes that both restart their brains must not pass the addresses on.
 */
const SILENT = seconds(10);
const TRACK = "nines brain";

/** While the brain says nothing, this node's routers stand below every other node, but never out of the election. */
export class BrainWatch {
  readonly #clock: Clock;
  readonly #telling: Telling;
  readonly #routers: () => Iterable<RouterRunner>;
  #heardAt: MonotonicMs;
  #silent = false;

  constructor(clock: Clock, telling: Telling, routers: () => Iterable<RouterRunner>) {
    this.#clock = clock;
    this.#telling = telling;
    this.#routers = routers;
    this.#heardAt = clock.monotonic();
  }

  heard(): void {
    this.#heardAt = this.#clock.monotonic();
    this.#change(false);
  }
  look(now: MonotonicMs): void {
    if (timeSince(now, this.#heardAt) > SILENT) this.#change(true);
  }
  /** A router that begins while the brain is silent. */
  begin(runner: RouterRunner): void {
    if (this.#silent) this.#lower(runner);
  }

  #change(silent: boolean): void {
    if (silent === this.#silent) return;
    this.#silent = silent;
    const reason = silent ? `no facts for ${SILENT} ms; the priority is lowered` : "facts come again";
    this.#telling.event("warn", silent ? "redundancy.brain_silent" : "redundancy.brain_heard", { reason });
    for (const runner of this.#routers()) this.#lower(runner);
  }
  #lower(runner: RouterRunner): void {
    const { plan } = runner;
    const least = Math.min(...plan.nodes.map(({ priority }) => priority), plan.priority);
    const by = this.#silent ? Math.max(1, plan.priority - least + 1) : 0;
    runner.step({ type: "lower", name: TRACK, by, reason: "the brain process is silent" });
  }
}
