import { OperationalError } from "../base/errors.ts";
import { formatIpPort } from "../base/addresses.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import {
  type Clock,
  type DurationMs,
  type MonotonicMs,
  type Timer,
  latest,
  timeSince,
} from "../base/time.ts";
import type { AdminState, BackendStatus, HealthState } from "../contracts/forwarding.ts";
import type { MetricSample } from "../contracts/metrics.ts";
import type { Backend, Check, Pool } from "../contracts/site.ts";
import type { AdminStates } from "./admin.ts";
import {
  type CheckEvent,
  type CheckPlan,
  type CheckState,
  type CheckVerdict,
  initialCheckState,
  reasonOf,
  stepCheck,
} from "./machine.ts";
import type { Remembered } from "./memory.ts";
import { type Checked, effectiveAdmin, effectiveWeight, isIsolated } from "./policy.ts";
import type { Target } from "./probes/probe.ts";
import { runProbe } from "./probes/run.ts";
import { Slots } from "./slots.ts";

/** Sockets at once, and programs at once: a program costs a process. */
const PROBES_AT_ONCE = 64;
const PROGRAMS_AT_ONCE = 8;

export interface HealthOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly admin: AdminStates;
  /** What the last run of this process knew. */
  readonly remembered?: Remembered;
  /** Health or admin state of a backend, or `isolated()`, is different; reasons change without it. */
  readonly changed?: () => void;
  /** For tests. */
  readonly probe?: typeof runProbe;
}

interface Entry {
  readonly target: Target;
  readonly at: string;
  backend: Backend;
  check: Check | undefined;
  state: CheckState;
  timer?: Timer | undefined;
  running?: AbortController | undefined;
  /** When an operator ended its maintenance. */
  backAt?: MonotonicMs | undefined;
  readonly counts: Record<CheckVerdict["outcome"], number>;
}

/** What is the same is known by its JSON: checks are plain data. */
const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
/** The last check that said something was bad. */
const isBad = ({ run }: CheckState): boolean => run.count > 0 && !run.good;
const noCheck: CheckPlan = { interval: 0 as CheckPlan["interval"], rise: 1, fall: 1, jitter: 0 };

/** Runs the checks of all pools. Give it pools with `apply`; ask `statuses` whenever you need. */
/** Since it came back, by its checks or from maintenance, whichever was later. */
function backSince(
  { health, returned, since }: CheckState,
  backAt: MonotonicMs | undefined,
  now: MonotonicMs,
): DurationMs | undefined {
  const at = [...(returned ? [since] : []), ...(backAt === undefined ? [] : [backAt])];
  return health === "up" && at.length > 0 ? timeSince(now, latest(...at)) : undefined;
}

export class HealthService {
  readonly #options: HealthOptions;
  /** In the order of the site file. */
  #entries = new Map<string, Entry>();
  readonly #totals = { good: 0, bad: 0, none: 0 };
  readonly #sockets = new Slots(PROBES_AT_ONCE);
  readonly #programs = new Slots(PROGRAMS_AT_ONCE);
  /** Kept, since verdicts are many: each would have to look at all backends. */
  #checked: Checked = { count: 0, hosts: 0, bad: 0 };
  #isolated: string | undefined;
  #stopped = false;

  constructor(options: HealthOptions) {
    this.#options = options;
    if (options.admin.problem !== "")
      options.log.error({ event: "health.admin_forgotten", reason: options.admin.problem });
  }

  /** Only what is different is touched: a backend that is asked in the same way keeps its state. */
  apply(pools: Readonly<Record<string, Pool>>): void {
    const wanted = new Set<string>();
    for (const [pool, { backends, check }] of Object.entries(pools)) {
      for (const [backend, settings] of Object.entries(backends)) {
        const key = `${pool}/${backend}`;
        wanted.add(key);
        this.#applyBackend(key, pool, backend, settings, check);
      }
    }
    for (const [key, entry] of this.#entries) if (!wanted.has(key)) this.#end(entry);
    const inOrder = [...wanted].flatMap((key): [string, Entry][] => {
      const entry = this.#entries.get(key);
      return entry ? [[key, entry]] : [];
    });
    this.#entries = new Map(inOrder);
    const checked = [...this.#entries.values()].filter((one) => one.check !== undefined);
    this.#checked = {
      count: checked.length,
      hosts: new Set(checked.map((one) => one.target.address)).size,
      bad: checked.filter((one) => isBad(one.state)).length,
    };
    this.#judgeIsolation();
    this.#options.changed?.();
  }

  #applyBackend(
    key: string,
    pool: string,
    backend: string,
    settings: Backend,
    check: Check | undefined,
  ): void {
    const { address } = settings.at;
    const target: Target = { pool, backend, address, port: check?.port ?? settings.at.port };
    const known = this.#entries.get(key);
    const isSameTarget =
      known !== undefined && same(known.target, target) && same(known.backend.at, settings.at);
    if (known && isSameTarget && same(known.check, check)) {
      known.backend = settings;
      return;
    }
    if (known) this.#end(known);
    if (known && isSameTarget && known.check && check) {
      // Asked in another way: what is known of the backend stays until the new check says otherwise.
      known.backend = settings;
      known.check = check;
      this.#step(known, { type: "replanned" });
      return;
    }
    const { clock, random, remembered } = this.#options;
    const context = { now: clock.monotonic(), config: check ?? noCheck, random };
    const at = formatIpPort(settings.at);
    const before = known === undefined && check ? remembered?.(pool, backend, at) : undefined;
    const initial = initialCheckState(context, check ? before : "up");
    const state = check ? initial : { ...initial, reason: "not checked" };
    const counts = { good: 0, bad: 0, none: 0 };
    const entry: Entry = { target, at, backend: settings, check, state, counts };
    this.#entries.set(key, entry);
    if (check) this.#arm(entry);
  }

  #end(entry: Entry): void {
    entry.timer?.cancel();
    entry.timer = undefined;
    entry.running?.abort();
    entry.running = undefined;
  }

  #arm(entry: Entry): void {
    entry.timer?.cancel();
    entry.timer = undefined;
    if (this.#stopped || entry.state.due === Number.POSITIVE_INFINITY) return;
    entry.timer = this.#options.clock.setTimer(entry.state.due, () => this.#step(entry, { type: "due" }));
  }

  #step(entry: Entry, event: CheckEvent): void {
    if (this.#stopped || entry.check === undefined) return;
    const { clock, random } = this.#options;
    const stepped = stepCheck(entry.state, event, { now: clock.monotonic(), config: entry.check, random });
    const isNews = stepped.state.health !== entry.state.health;
    const bad = Number(isBad(stepped.state)) - Number(isBad(entry.state));
    if (bad !== 0) this.#checked = { ...this.#checked, bad: this.#checked.bad + bad };
    entry.state = stepped.state;
    for (const effect of stepped.effects) {
      if (effect.type === "start") void this.#probe(entry, entry.check);
      else this.#tellChange(entry, effect);
    }
    this.#arm(entry);
    if (event.type === "verdict") this.#judgeIsolation();
    if (isNews) this.#options.changed?.();
  }

  async #probe(entry: Entry, check: Check): Promise<void> {
    const { clock, probe = runProbe } = this.#options;
    const running = new AbortController();
    entry.running = running;
    const slots = check.kind === "exec" ? this.#programs : this.#sockets;
    const given: CheckVerdict = { outcome: "none", reason: "the check was given up" };
    const verdict = await slots.run(() =>
      running.signal.aborted ? Promise.resolve(given) : probe(check, entry.target, clock, running.signal),
    );
    // Given up: a newer check or nobody speaks for this backend now.
    if (entry.running !== running || running.signal.aborted) return;
    entry.running = undefined;
    entry.counts[verdict.outcome]++;
    this.#totals[verdict.outcome]++;
    this.#step(entry, { type: "verdict", verdict });
  }

  #tellChange(
    { target, at }: Entry,
    { from, to, reason }: { from: HealthState; to: HealthState; reason: string },
  ): void {
    const { log } = this.#options;
    const fields = {
      event: "health.backend_changed",
      pool: target.pool,
      backend: target.backend,
      address: at,
      from,
      to,
      reason,
    };
    if (to === "down") log.warn(fields);
    else log.info(fields);
  }

  #judgeIsolation(): void {
    const isolated = isIsolated(this.#checked) ? this.#whyIsolated() : undefined;
    const { log } = this.#options;
    if (isolated !== undefined && this.#isolated === undefined)
      log.warn({ event: "health.isolated", reason: isolated });
    if (isolated === undefined && this.#isolated !== undefined)
      log.info({ event: "health.isolation_ended", reason: "a check is good again" });
    const isNews = (isolated === undefined) !== (this.#isolated === undefined);
    this.#isolated = isolated;
    if (isNews) this.#options.changed?.();
  }

  #whyIsolated(): string {
    let reason = "";
    for (const { check, state } of this.#entries.values()) {
      if (check === undefined) continue;
      ({ reason } = state);
      break;
    }
    return `all ${this.#checked.count} checks fail at once (${reason}): perhaps this node is isolated`;
  }

  /** One per backend, in the order of the site file. */
  statuses(): BackendStatus[] {
    const now = this.#options.clock.monotonic();
    return [...this.#entries.values()].map(({ target, backend, check, state, backAt }) => {
      const { pool, backend: name } = target;
      const admin = effectiveAdmin(backend.maintenance, this.#options.admin.get(pool, name));
      return {
        pool,
        backend: name,
        health: state.health,
        admin,
        reason: reasonOf(state, check ?? noCheck),
        effectiveWeight: effectiveWeight(backend.weight, state.health, admin),
        since: timeSince(now, state.since),
        back: backSince(state, backAt, now),
      };
    });
  }

  /** Why this node is probably cut off: every check of every pool fails. Undefined where one is good. */
  isolated(): string | undefined {
    return this.#isolated;
  }

  /** Throws NOT_FOUND for a backend that the site does not have; settles when what is to be kept is on disk. */
  async setAdmin(pool: string, backend: string, state: AdminState, keep: boolean): Promise<void> {
    const entry = this.#entries.get(`${pool}/${backend}`);
    if (!entry) throw new OperationalError("NOT_FOUND", `the site has no backend ${pool}/${backend}`);
    if (entry.backend.maintenance && state !== "maintenance")
      throw new OperationalError(
        "CONFLICT",
        `the site file holds ${pool}/${backend} in maintenance: change it there`,
      );
    const before = this.#options.admin.get(pool, backend);
    if (before === "maintenance" && state !== before) entry.backAt = this.#options.clock.monotonic();
    await this.#options.admin.set(pool, backend, state, keep);
    this.#options.log.info({
      event: "health.admin_changed",
      pool,
      backend,
      state,
      keep,
      reason: "asked by an operator",
    });
    this.#options.changed?.();
  }

  /** What the next run of this process may go on from: health by backend and address. */
  memory(): Record<string, HealthState> {
    return Object.fromEntries(
      [...this.#entries.values()]
        .filter(({ check, state }) => check !== undefined && state.health !== "unknown")
        .map(({ target, at, state }) => [`${target.pool}/${target.backend} ${at}`, state.health]),
    );
  }

  /** All checks of this process so far, by their outcome. */
  counters(): Record<string, number> {
    const { good, bad, none } = this.#totals;
    return { checks_good: good, checks_bad: bad, checks_not_counted: none };
  }

  metrics(): MetricSample[] {
    const samples: MetricSample[] = [
      {
        name: "nines_health_checks_running",
        help: "Checks that run now.",
        kind: "gauge",
        labels: {},
        value: this.#sockets.running + this.#programs.running,
      },
      {
        name: "nines_health_checks_waiting",
        help: "Checks that are due and wait for a place.",
        kind: "gauge",
        labels: {},
        value: this.#sockets.waiting + this.#programs.waiting,
      },
      {
        name: "nines_health_isolated",
        help: "1 while every check of every pool fails.",
        kind: "gauge",
        labels: {},
        value: this.#isolated === undefined ? 0 : 1,
      },
    ];
    for (const { target, counts } of this.#entries.values()) {
      for (const [outcome, value] of Object.entries(counts)) {
        samples.push({
          name: "nines_health_checks_total",
          help: "Checks by outcome; none: failed for a reason of this host, and not counted.",
          kind: "counter",
          labels: { pool: target.pool, backend: target.backend, outcome },
          value,
        });
      }
    }
    return samples;
  }

  stop(): void {
    this.#stopped = true;
    for (const entry of this.#entries.values()) this.#end(entry);
  }
}
