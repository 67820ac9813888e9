/**
 * The recorder: the port by which the brain tells what it sees. It writes transitions at once, requests and
 * the sign that somebody looks once a minute, and knows the burn alerts of now.
 */
import { messageOf } from "../../base/errors.ts";
import type { Clock, Timer } from "../../base/time.ts";
import { type MonotonicMs, addTime, ms, timeSince } from "../../base/time.ts";
import type { MetricSample } from "../../contracts/metrics.ts";
import type { Site } from "../../contracts/site.ts";
import { type Fact, WATCH_GAP, addFact, instantOf } from "./facts.ts";
import { Journal, readJournal } from "./journal.ts";
import {
  type BurnAlert,
  type Interval,
  budgetOf,
  burnAlerts,
  errorRatio,
  figures,
  keepLedger,
} from "./policy-ledger.ts";

/** Alerts are weighed this often, and every fourth time the journal is told that somebody looks. */
const LOOK_EVERY = ms(15_000);
const LOOKS_A_MINUTE = 4;
/** What a clock is slewed by between two looks is less. */
const CLOCK_STEP = 2000;

export interface AccountsEvents {
  /** An alert began or ended: for hooks and logs. */
  readonly onAlert?: (service: string, alert: BurnAlert) => void;
  /** Writing failed; the recorder goes on and tries again with the next fact. */
  readonly onError?: (error: unknown) => void;
}

export class AccountsRecorder {
  readonly #clock: Clock;
  readonly #journal: Journal;
  readonly #events: AccountsEvents;
  /** Services that are down, and why. */
  readonly #down = new Map<string, string>();
  readonly #pending = new Map<string, { good: number; bad: number }>();
  readonly #firing = new Set<string>();
  #facts: Fact[];
  #site: Site;
  #flushed: number;
  #timer: Timer | undefined;
  #problem = "";
  #looks = 0;
  #lastWall: number;
  #lastMonotonic: MonotonicMs;

  constructor(directory: string, site: Site, clock: Clock, events: AccountsEvents = {}) {
    this.#clock = clock;
    this.#site = site;
    this.#events = events;
    this.#journal = new Journal(directory);
    this.#facts = readJournal(directory).facts.reduce<Fact[]>(addFact, []);
    this.#flushed = clock.wall();
    this.#lastWall = clock.wall();
    this.#lastMonotonic = clock.monotonic();
    for (const fact of this.#facts) {
      if (fact.kind === "down") this.#down.set(fact.service, fact.cause);
      if (fact.kind === "up") this.#down.delete(fact.service);
    }
    // Who was down when the last process died a moment ago still is, until the brain says otherwise: one outage,
    // not two. After a longer absence nothing is known.
    const watched = this.#facts.findLast((fact) => fact.kind === "watched");
    if (watched === undefined || this.#flushed - instantOf(watched) > WATCH_GAP)
      for (const service of this.#down.keys()) this.serviceUp(service);
    this.useSite(site);
    this.#watch();
  }

  /** After a reload: other targets, other services. Of a service that is gone nothing is known any more. */
  useSite(site: Site): void {
    this.#site = site;
    for (const service of this.#down.keys())
      if (site.services[service] === undefined) this.serviceUp(service);
  }
  /** Why what was measured last is not on the disk; empty where it is. */
  get problem(): string {
    return this.#problem;
  }
  /** The service has stopped serving. Said again, nothing changes. */
  serviceDown(service: string, cause: string): void {
    if (this.#down.has(service)) return;
    const at = this.#now();
    this.#down.set(service, cause);
    this.#write({ kind: "down", at, service, cause });
  }
  serviceUp(service: string): void {
    if (!this.#down.has(service)) return;
    const at = this.#now();
    this.#down.delete(service);
    this.#write({ kind: "up", at, service });
  }
  /** An outage that is over when it is noticed, such as the silence before a takeover. */
  outage(service: string, duration: number, cause: string): void {
    const to = this.#now();
    this.#write({ kind: "outage", from: to - duration, to, service, cause });
  }
  /** Answers since the last call, as the proxy or the forwarder counts them. */
  requests(service: string, good: number, bad: number): void {
    const sum = this.#pending.get(service) ?? { good: 0, bad: 0 };
    this.#pending.set(service, { good: sum.good + good, bad: sum.bad + bad });
  }
  /** Writes what is pending and stops. */
  stop(): void {
    this.#timer?.cancel();
    this.#flush();
    this.#journal.close();
  }

  /** For /metrics. */
  samples(): MetricSample[] {
    const now = this.#clock.wall();
    const samples: MetricSample[] = [];
    const add = (name: string, help: string, value: number, labels: Record<string, string>): void => {
      samples.push({ name: `nines_availability_${name}`, help, kind: "gauge", labels, value });
    };
    for (const [service, target] of Object.entries(this.#site.availability.targets)) {
      const planned = this.#maintenance(service);
      const ledger = keepLedger(service, this.#facts, now);
      const window = figures(ledger, { from: now - target.window, to: now }, planned);
      const budget = budgetOf(window, target.slo);
      add("error_ratio", "Share of bad time or requests over the target's window.", errorRatio(window) ?? 0, {
        service,
      });
      add(
        "budget_used_ratio",
        "Share of the error budget that is used; above 1 it is overdrawn.",
        budget.used,
        { service },
      );
      for (const alert of burnAlerts(ledger, target.slo, target.window, now, planned)) {
        const labels = { service, severity: alert.severity, window_seconds: String(alert.long / 1000) };
        add("burn_rate_ratio", "How many times too fast the error budget is spent.", alert.longRate, labels);
        add(
          "burn_alert_active",
          "1 while both windows of the alert burn too fast.",
          alert.firing ? 1 : 0,
          labels,
        );
      }
    }
    return samples;
  }

  #maintenance(service: string): Interval[] {
    return plannedMaintenance(this.#site, service);
  }

  #watch(): void {
    if (this.#looks++ % LOOKS_A_MINUTE === 0) this.#flush();
    this.#alerts();
    this.#timer = this.#clock.setTimer(addTime(this.#clock.monotonic(), LOOK_EVERY), () => this.#watch());
  }

  /** Wall-clock time; what a step of the clock does to the facts is put right first. */
  #now(): number {
    const [wall, monotonic] = [this.#clock.wall(), this.#clock.monotonic()];
    const expected = this.#lastWall + timeSince(monotonic, this.#lastMonotonic);
    this.#lastWall = wall;
    this.#lastMonotonic = monotonic;
    if (Math.abs(wall - expected) > CLOCK_STEP) this.#stepped(expected, wall);
    return wall;
  }
  /** An outage that goes on ends on the old time and begins anew on the new one: its length stays true. */
  #stepped(before: number, after: number): void {
    this.#write({ kind: "watch", at: before });
    for (const [service, cause] of this.#down) {
      this.#write({ kind: "up", at: before, service });
      this.#write({ kind: "down", at: after, service, cause });
    }
    this.#flushed = after;
    // In the order of time again, as they are read back from the disk.
    this.#facts.sort((a, b) => instantOf(a) - instantOf(b));
  }

  #flush(): void {
    const now = this.#now();
    for (const [service, { good, bad }] of this.#pending)
      if (good + bad > 0) this.#write({ kind: "requests", from: this.#flushed, to: now, service, good, bad });
    this.#pending.clear();
    this.#flushed = now;
    this.#write({ kind: "watch", at: now });
  }

  #alerts(): void {
    const now = this.#clock.wall();
    for (const [service, target] of Object.entries(this.#site.availability.targets)) {
      const ledger = keepLedger(service, this.#facts, now);
      for (const alert of burnAlerts(ledger, target.slo, target.window, now, this.#maintenance(service))) {
        const key = `${service} ${alert.long}`;
        if (alert.firing === this.#firing.has(key)) continue;
        if (alert.firing) this.#firing.add(key);
        else this.#firing.delete(key);
        this.#events.onAlert?.(service, alert);
      }
    }
    // What no window reaches any more stays on disk only.
    const oldest =
      now - Math.max(0, ...Object.values(this.#site.availability.targets).map(({ window }) => window)) - 1;
    const first = this.#facts.findIndex((fact) => instantOf(fact) >= oldest);
    if (first > 10_000) this.#facts = this.#facts.slice(first);
  }

  #write(fact: Fact): void {
    addFact(this.#facts, fact);
    try {
      this.#journal.append(fact);
      this.#problem = "";
    } catch (error) {
      this.#problem = messageOf(error);
      this.#events.onError?.(error);
    }
  }
}

/** Planned maintenance of the site file that concerns the service. */
export const plannedMaintenance = (site: Site, service: string): Interval[] =>
  site.availability.maintenance
    .filter(({ services }) => services === undefined || services.includes(service))
    .map(({ from, to }) => ({ from: Date.parse(from), to: Date.parse(to) }));
