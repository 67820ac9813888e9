import { join } from "node:path";
import { AccountsRecorder } from "../../availability/accounts/service.ts";
import { messageOf } from "../../base/errors.ts";
import { type MonotonicMs, type Timer, addTime, seconds, timeSince } from "../../base/time.ts";
import type { MetricSample } from "../../contracts/metrics.ts";
import type { Site } from "../../contracts/site.ts";
import { HookRunner } from "../../redundancy/hooks.ts";
import type { ChildContext } from "../child.ts";
import type { Facts } from "./policy.ts";
import { answers, judgements } from "./policy-accounts.ts";

/** The counters are read this often; what came after the last reading is lost with this process. */
const COUNT_EVERY = seconds(20);
/** A directory that could not be opened is tried again after this. */
const RETRY = seconds(10);

/** What this node saw of its services, kept on disk for `nines slo`. A disk that refuses is an alarm, no more. */
export class Accounts {
  readonly #context: ChildContext;
  readonly #samples: () => Promise<readonly MetricSample[]>;
  readonly #hooks: HookRunner;
  readonly #counters: Record<string, number> = {};
  #site: Site;
  #recorder: AccountsRecorder | undefined;
  #problem = "";
  #triedAt: MonotonicMs | undefined;
  #counted = new Map<string, { good: number; bad: number }>();
  #timer: Timer | undefined;

  constructor(context: ChildContext, site: Site, samples: () => Promise<readonly MetricSample[]>) {
    this.#context = context;
    this.#site = site;
    this.#samples = samples;
    const { clock, log } = context;
    this.#hooks = new HookRunner(
      clock,
      log,
      (counter) => (this.#counters[counter] = (this.#counters[counter] ?? 0) + 1),
      "accounts",
    );
  }

  start(): void {
    this.#open();
    void this.#count();
  }
  useSite(site: Site): void {
    this.#site = site;
    this.#recorder?.useSite(site);
  }
  problem(): string {
    return this.#recorder?.problem ?? this.#problem;
  }

  judge(facts: Facts): void {
    const { clock } = this.#context;
    if (
      this.#recorder === undefined &&
      timeSince(clock.monotonic(), this.#triedAt ?? clock.monotonic()) > RETRY
    )
      this.#open();
    for (const { service, cause } of judgements(facts)) {
      if (cause === undefined) this.#recorder?.serviceUp(service);
      else this.#recorder?.serviceDown(service, cause);
    }
  }

  /**
   * A takeover: for as long as the predecessor was silent, nobody may have served. An upper bound, since the
   * kernel of a node whose processes were killed serves on for a while.
   */
  takeover(router: string, silence: number, reason: string): void {
    for (const [service, { on }] of Object.entries(this.#site.services))
      if (on === router) this.#recorder?.outage(service, silence, `takeover of ${router}: ${reason}`);
  }

  samples(): MetricSample[] {
    return [
      ...(this.#recorder?.samples() ?? []),
      ...Object.entries(this.#counters).map(([event, value]): MetricSample => ({
        name: "nines_availability_events_total",
        help: "Programs run for burn-rate alerts, by what became of them.",
        kind: "counter",
        labels: { event },
        value,
      })),
    ];
  }

  async stop(): Promise<void> {
    this.#timer?.cancel();
    await this.#read();
    this.#recorder?.stop();
    this.#recorder = undefined;
  }

  #open(): void {
    const { clock, log, state, node } = this.#context;
    this.#triedAt = clock.monotonic();
    try {
      this.#recorder = new AccountsRecorder(join(state, "accounts"), this.#site, clock, {
        onAlert: (service, alert) => {
          const { severity, firing, threshold, longRate, shortRate, long, short } = alert;
          const rates = {
            threshold,
            longRate,
            shortRate,
            longSeconds: long / 1000,
            shortSeconds: short / 1000,
          };
          const reason = firing
            ? `the error budget burns ${longRate.toFixed(1)} times too fast (alert from ${threshold.toFixed(1)})`
            : "the error budget burns slowly enough again";
          log[firing ? "error" : "info"]({
            event: firing ? "accounts.burn_alert" : "accounts.burn_alert_over",
            service,
            severity,
            reason,
            ...rates,
          });
          const { alert: command, timeout } = this.#site.availability.hooks;
          const input = { site: this.#site.site, node, service, severity, firing, reason, ...rates };
          if (command) this.#hooks.run({ command, timeout, input });
        },
      });
      this.#problem = "";
    } catch (error) {
      this.#problem = messageOf(error);
    }
  }

  async #count(): Promise<void> {
    await this.#read();
    const { clock } = this.#context;
    this.#timer = clock.setTimer(addTime(clock.monotonic(), COUNT_EVERY), () => void this.#count());
  }
  async #read(): Promise<void> {
    let samples: readonly MetricSample[];
    try {
      samples = await this.#samples();
    } catch {
      return; // The alarm for that is the forwarder's own.
    }
    const now = answers(samples);
    for (const [service, { good, bad }] of now) {
      const before = this.#counted.get(service);
      // What was counted before this process began has been told by its predecessor.
      if (before === undefined) continue;
      const grown = (from: number, to: number): number => (to < from ? to : to - from);
      this.#recorder?.requests(service, grown(before.good, good), grown(before.bad, bad));
    }
    this.#counted = now;
  }
}
