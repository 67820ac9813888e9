import type { Server } from "node:net";
import { join } from "node:path";
import { type MonotonicMs, addTime, instant, ms, seconds, timeSince } from "../../base/time.ts";
import type { ProxyStatus } from "../../contracts/api.ts";
import type { BackendStatus } from "../../contracts/forwarding.ts";
import type { MetricSample } from "../../contracts/metrics.ts";
import type { Challenge } from "../../proxy/acme/messages.ts";
import { type ProxyMetrics, addMetrics, emptyMetrics, proxySamples } from "../../proxy/engine/metrics.ts";
import type { Ejection } from "../../proxy/engine/policy-outlier.ts";
import type { ChildContext } from "../child.ts";
import { type JsonLink, serveLinks } from "../link.ts";
import { type BrainToProxy, type ProxyToBrain, decodeWorker } from "../messages-proxy.ts";

type Link = JsonLink<BrainToProxy, ProxyToBrain>;

interface Worker {
  readonly link: Link;
  pid: number;
  index: number;
  spare: boolean;
  serving: boolean;
  leaving: boolean;
  heardAt: MonotonicMs;
  digest: string;
  /** The last reload that it has answered for, and why it refused it. */
  answered: number;
  refused: string;
  /** Since when it runs another site than was accepted. */
  staleSince: MonotonicMs | undefined;
  metrics: ProxyMetrics;
  ejected: readonly string[];
}

/** A worker says something four times a second; one that says nothing for this long hangs. */
const SILENCE = seconds(2);
/** What a planned replacement, or a brain that has just started, may take until workers are heard. */
const PATIENCE = seconds(5);
/** Reading a site and its certificates takes less; one that has not answered then is no refusal. */
const ANSWERS_WITHIN = seconds(3);
const LOOK_EVERY = ms(20);
/** How long workers may differ from what was accepted, or be fewer than the site asks for, before somebody is told. */
const TOLERANCE = seconds(5);
/** A spare, where there is one, takes a crashed worker's place within this; then the node's priority is lowered. */
const SPARE_WITHIN = ms(60);

/** The brain's side of <runtime>/proxy.sock: site and health there, counters and ejections back, all by push. */
export class ProxyWorkers {
  readonly #context: ChildContext;
  readonly #changed: () => void;
  readonly #workers = new Set<Worker>();
  /** Of workers that have ended: a counter never goes back. */
  readonly #past = emptyMetrics();
  #site: { digest: string; reloads: number } = { digest: "", reloads: 0 };
  #backends: readonly BackendStatus[] = [];
  #backendsText = "";
  #certificates: BrainToProxy & { type: "certificates" } = {
    type: "certificates",
    challenges: [],
    changes: 0,
  };
  #node: (BrainToProxy & { type: "node" }) | undefined;
  readonly #ejections = new Map<string, Ejection & { readonly until: MonotonicMs }>();
  #server: Server | undefined;
  /** Until then nobody is missed. */
  #patientUntil: MonotonicMs;
  #lastLook: MonotonicMs;
  /** Since when fewer serve than the site asks for. */
  #shortSince: MonotonicMs | undefined;
  /** Since when nobody serves. A node that starts has nobody, and does not wait for a spare. */
  #noneSince: MonotonicMs | undefined = instant(-1e9);

  constructor(context: ChildContext, changed: () => void) {
    this.#context = context;
    this.#changed = changed;
    this.#lastLook = context.clock.monotonic();
    // A brain that was restarted finds its workers serving: they connect again within half a second.
    this.#patientUntil = context.successor ? addTime(this.#lastLook, PATIENCE) : this.#lastLook;
  }

  async start(): Promise<void> {
    this.#server = await serveLinks<BrainToProxy, ProxyToBrain>(
      join(this.#context.runtime, "proxy.sock"),
      (link) => this.#accept(link),
    );
  }

  stop(): void {
    this.#server?.close();
    for (const { link } of this.#workers) link.close("the brain ends");
  }

  /** After every site that was accepted; a reload counts even where the digest is the same. */
  site(digest: string): void {
    this.#site = { digest, reloads: this.#site.reloads + 1 };
    for (const { link } of this.#workers) link.send({ type: "site", ...this.#site });
  }

  backends(statuses: readonly BackendStatus[]): void {
    const text = JSON.stringify(
      statuses.map((status) => ({ ...status, since: 0, back: undefined, reason: "" })),
    );
    this.#backends = statuses;
    if (text === this.#backendsText) return;
    this.#backendsText = text;
    for (const { link } of this.#workers) this.#sendBackends(link);
  }
  #sendBackends(link: Link): void {
    link.send({ type: "backends", backends: this.#backends });
  }

  /** What authorities must find, and that certificates have changed: to everybody, and to whoever comes. */
  certificates(challenges: readonly Challenge[], changes: number): void {
    this.#certificates = { type: "certificates", challenges, changes };
    for (const { link } of this.#workers) link.send(this.#certificates);
  }

  /** An operator takes the node out: health questions fail, and then connections end with their next answer. */
  takeOut(failing: boolean, retiring: boolean): void {
    if (this.#node === undefined && !failing && !retiring) return;
    this.#node = { type: "node", failing, retiring };
    for (const { link } of this.#workers) link.send(this.#node);
  }
  /** Open connections of clients, as last told: once a second. */
  connections(): number {
    return [...this.#workers].reduce(
      (sum, { metrics }) => sum + (metrics.gauges["client_connections"] ?? 0),
      0,
    );
  }

  /** Passive health is one for the node: what one worker found out, the others need not find out again. */
  #ejected(by: Worker, ejection: Ejection): void {
    const now = this.#context.clock.monotonic();
    const until = addTime(now, ms(ejection.forMs));
    this.#ejections.set(ejection.backend, { ...ejection, until });
    for (const [backend, one] of this.#ejections) if (one.until <= now) this.#ejections.delete(backend);
    for (const worker of this.#workers)
      if (worker !== by) this.#sendEjections(worker.link, [{ ...ejection, until }]);
  }
  #sendEjections(link: Link, all: readonly (Ejection & { until: MonotonicMs })[]): void {
    const now = this.#context.clock.monotonic();
    const ejections = all
      .map(({ backend, atMost, until }) => ({ backend, atMost, forMs: timeSince(until, now) }))
      .filter(({ forMs }) => forMs > 0);
    if (ejections.length > 0) link.send({ type: "ejections", ejections });
  }

  #accept(link: Link) {
    const { clock, log } = this.#context;
    const worker: Worker = {
      link,
      pid: 0,
      index: 0,
      spare: true,
      serving: false,
      leaving: false,
      heardAt: clock.monotonic(),
      digest: "",
      answered: 0,
      refused: "",
      staleSince: undefined,
      metrics: emptyMetrics(),
      ejected: [],
    };
    this.#workers.add(worker);
    link.send({ type: "site", ...this.#site });
    this.#sendBackends(link);
    link.send(this.#certificates);
    if (this.#node !== undefined) link.send(this.#node);
    this.#sendEjections(link, [...this.#ejections.values()]);
    return {
      decode: decodeWorker,
      message: (message: ProxyToBrain) => this.#heard(worker, message),
      closed: (reason: string) => {
        this.#workers.delete(worker);
        addMetrics(this.#past, worker.metrics, false);
        if (worker.serving && !worker.leaving)
          log.warn({ event: "proxy.worker_lost", child_pid: worker.pid, index: worker.index, reason });
        this.#changed();
      },
    };
  }

  #heard(worker: Worker, message: ProxyToBrain): void {
    worker.heardAt = this.#context.clock.monotonic();
    switch (message.type) {
      case "hello":
        worker.pid = message.pid;
        worker.index = message.index;
        worker.spare = message.spare;
        break;
      case "alive":
        if (worker.serving === message.serving) return;
        worker.serving = message.serving;
        break;
      case "report":
        worker.digest = message.digest;
        worker.metrics = message.metrics;
        worker.ejected = message.ejected;
        return;
      case "site":
        worker.answered = message.reloads;
        worker.refused = message.problem;
        break;
      case "ejected":
        this.#ejected(worker, message.ejection);
        return;
      case "leaving":
        worker.leaving = true;
        this.#patientUntil = addTime(worker.heardAt, PATIENCE);
        break;
    }
    this.#changed();
  }

  /**
   * Why no worker of this node accepts connections; undefined while one does, or while none can be expected
   * yet. Asked on every change and at least once a second.
   */
  problem(): string | undefined {
    const now = this.#context.clock.monotonic();
    // Where we stood still ourselves, what they said meanwhile lies unread in our sockets.
    const stalled = timeSince(now, this.#lastLook) > SILENCE;
    this.#lastLook = now;
    const candidates = this.#inPlace();
    const good = candidates.filter(
      ({ serving, heardAt }) => serving && (stalled || timeSince(now, heardAt) < SILENCE),
    );
    if (good.length > 0) this.#noneSince = undefined;
    if (good.length > 0 || now < this.#patientUntil) return undefined;
    if (this.#noneSince === undefined) {
      this.#noneSince = now;
      this.#context.clock.setTimer(addTime(now, ms(SPARE_WITHIN + 2)), this.#changed);
    }
    // Only for one that has loaded everything: a process that starts needs longer than an address does to move.
    const loaded = [...this.#workers].some(({ serving, leaving }) => !serving && !leaving);
    if (loaded && timeSince(now, this.#noneSince) < SPARE_WITHIN) return undefined;
    if (candidates.length === 0) return "no proxy worker runs";
    return candidates.some(({ serving }) => serving)
      ? "no proxy worker has shown a sign of life for two seconds"
      : "no proxy worker accepts connections";
  }

  #inPlace(): Worker[] {
    return [...this.#workers].filter(({ spare, leaving }) => !spare && !leaving);
  }
  #serving(): Worker[] {
    return this.#inPlace().filter(({ serving }) => serving);
  }

  /** Why workers do not run the site that they were told of last; waits for their answers, but not for ever. */
  async refusals(): Promise<string[]> {
    const { clock } = this.#context;
    const until = addTime(clock.monotonic(), ANSWERS_WITHIN);
    const open = (): boolean => this.#serving().some(({ answered }) => answered < this.#site.reloads);
    while (open() && clock.monotonic() < until)
      await new Promise<void>((resolve) => {
        clock.setTimer(addTime(clock.monotonic(), LOOK_EVERY), resolve);
      });
    return this.#inPlace().flatMap(({ index, refused }) =>
      refused === "" ? [] : [`proxy worker ${index}: ${refused}`],
    );
  }

  /** Why workers have gone on with another site than was accepted for some time; undefined where none does. */
  stale(): string | undefined {
    const now = this.#context.clock.monotonic();
    const reasons: string[] = [];
    for (const worker of this.#serving()) {
      const { refused, digest } = worker;
      if (refused === "" && digest === this.#site.digest) {
        worker.staleSince = undefined;
        continue;
      }
      worker.staleSince ??= now;
      if (timeSince(now, worker.staleSince) >= TOLERANCE)
        reasons.push(refused || `it runs the site ${digest.slice(0, 12) || "of before"}`);
    }
    if (reasons.length === 0) return undefined;
    const why = [...new Set(reasons)].join("; ");
    return `${reasons.length} of ${this.#serving().length} workers do not run the accepted site: ${why}`;
  }

  /** That fewer workers than wanted have accepted connections for some time; undefined where enough do. */
  short(wanted: number): string | undefined {
    const now = this.#context.clock.monotonic();
    const { length } = this.#serving();
    if (length >= wanted) this.#shortSince = undefined;
    else this.#shortSince ??= now;
    if (this.#shortSince === undefined || timeSince(now, this.#shortSince) < TOLERANCE) return undefined;
    return `${length} of ${wanted} proxy workers accept connections; the log says why the others do not (child.restarting, listener.refused)`;
  }

  #sum(): ProxyMetrics {
    const sum = emptyMetrics();
    addMetrics(sum, this.#past);
    for (const { metrics } of this.#workers) addMetrics(sum, metrics);
    return sum;
  }

  status(): ProxyStatus {
    const ejected = new Map<string, number>();
    for (const worker of this.#workers)
      for (const id of worker.ejected) ejected.set(id, (ejected.get(id) ?? 0) + 1);
    const responses: Record<string, number> = {};
    for (const { service, statuses } of Object.values(this.#sum().routes))
      responses[service] = (responses[service] ?? 0) + statuses.reduce((a, b) => a + b, 0);
    return {
      workers: [...this.#workers]
        .filter(({ pid }) => pid !== 0)
        .map(({ pid, index, spare, serving, leaving, digest, metrics }) => ({
          pid,
          index,
          state: spare
            ? ("spare" as const)
            : leaving
              ? ("leaving" as const)
              : serving
                ? ("serving" as const)
                : ("starting" as const),
          connections: metrics.gauges["client_connections"] ?? 0,
          requests: metrics.gauges["requests_in_flight"] ?? 0,
          digest,
        }))
        .sort((a, b) => a.index - b.index || a.pid - b.pid),
      ejected: [...ejected].map(([backend, workers]) => ({ backend, workers })),
      responses,
    };
  }

  metrics(): MetricSample[] {
    const { workers } = this.status();
    const serving: MetricSample = {
      name: "nines_proxy_workers_serving",
      help: "Proxy workers that accept connections.",
      kind: "gauge",
      labels: {},
      value: workers.filter(({ state }) => state === "serving").length,
    };
    return [serving, ...proxySamples(this.#sum())];
  }
}
