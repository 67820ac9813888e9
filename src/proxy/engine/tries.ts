import type { MonotonicMs } from "../../base/time.ts";
import type { RoutePlan } from "../plan.ts";
import type { KeyKind } from "../routing/policy-key.ts";
import { Affinity } from "./affinity.ts";
import type { BackendState } from "./backend.ts";
import type { EngineCore, QueuedExchange, Upstream, UpstreamOwner } from "./ports.ts";
import { type PoolState, hasRoom } from "./pool.ts";

export const IDEMPOTENT: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);

/** The exchange, as the search for a backend sees it. */
export interface TriesHost extends UpstreamOwner {
  readonly finished: boolean;
  /** Why the last try failed; empty before. */
  readonly reason: string;
  readonly route: RoutePlan | undefined;
  readonly scheme: "http" | "https";
  keyOf(key: KeyKind): string;
  /** Whether all of the request that has gone is still here; `sent`: part of it may have arrived. */
  resendable(sent: boolean): boolean;
  send(upstream: Upstream): void;
  reply(status: number, reason: string): void;
  fail(status: number, reason: string): void;
  flushRequest(): void;
}

/** Which backends one request was tried at, the place that it holds at one of them, and its wait for one. */
export class Tries implements QueuedExchange {
  readonly #engine: EngineCore;
  readonly #host: TriesHost;
  /** Whose place it holds now. */
  backend: BackendState | undefined;
  /** The one tried last, for the log. */
  last: BackendState | undefined;
  count = 0;
  /** When the current try began. */
  sentAt = 0;
  queueDeadline = Number.POSITIVE_INFINITY;
  #tried: Set<BackendState> | undefined;
  /** Of a sticky route. */
  #affinity: Affinity | undefined;
  /** Its cookie or its key chose the backend, so that nobody else's is as good. */
  #placed = false;
  /** Where a kept connection was lost. */
  #stale: BackendState | undefined;
  #canary: PoolState | undefined;
  #waitingFor: PoolState | undefined;

  constructor(engine: EngineCore, host: TriesHost) {
    this.#engine = engine;
    this.#host = host;
  }

  /** The first try, or a place in the queue. */
  start(route: RoutePlan): void {
    route.budget.request(this.#engine.now);
    // Whoever came before goes first.
    for (const { pool } of route.pools) if (pool.queue.length > 0) this.#engine.serveQueue(pool);
    if (!this.retry()) this.#enqueue();
  }

  get group(): RoutePlan | undefined {
    const route = this.#host.route!;
    return route.sticky === undefined ? route : undefined;
  }

  /** The Set-Cookie line, with its CRLF, that an answer of this backend needs; mostly empty. */
  cookieLine(backend: BackendState): string {
    return this.#affinity?.line(backend, this.#host.scheme === "https", this.#engine.random) ?? "";
  }

  /** One try: false where every usable backend is at its limit and the request should wait. */
  retry(): boolean {
    const host = this.#host;
    if (host.finished) {
      this.leaveQueue();
      return true;
    }
    const engine = this.#engine;
    const route = host.route!;
    const backend = this.#choose(route);
    if (backend === undefined) {
      const pool = this.#pool(route);
      const again = this.#tried !== undefined;
      const room = this.#waitingFor !== undefined || pool.queue.length < route.settings.limits.queue;
      if (!again && pool.full(engine.now) && room) return false;
      if (again) host.reply(502, host.reason === "" ? "lost" : host.reason);
      else host.reply(503, pool.full(engine.now) ? "queue-full" : "no-backend");
      return true;
    }
    this.leaveQueue();
    this.backend = backend;
    backend.inflight++;
    this.count++;
    const upstream = engine.acquire(host, backend, route);
    this.sentAt = engine.now;
    host.send(upstream);
    return true;
  }

  /** Another backend for the same request while the first one is at it; none for a client that sticks to it. */
  another(route: RoutePlan): BackendState | undefined {
    const { backend } = this;
    if (backend === undefined || this.#placed) return undefined;
    const key = route.hashes ? this.#host.keyOf(route.key) : "";
    return this.#pool(route).pick(this.#engine.now, route.pick, key, new Set(this.#tried).add(backend));
  }

  /** Takes over a place that was held for this request, in exchange for the one that it holds. */
  take(backend: BackendState, sentAt: number): void {
    const { now } = this.#engine;
    // Whoever is passed over for being slow shall be known to be slow.
    this.backend?.latency.observe(now - this.sentAt, now as MonotonicMs);
    this.release();
    this.backend = backend;
    this.sentAt = sentAt;
  }

  #pool(route: RoutePlan): PoolState {
    if (route.pools.length === 1) return route.pools[0]!.pool;
    const engine = this.#engine;
    this.#canary ??= this.#affinity?.pool(engine.now) ?? engine.weightedPool(route);
    return this.#canary;
  }

  #choose(route: RoutePlan): BackendState | undefined {
    const { now } = this.#engine;
    if (route.sticky !== undefined) {
      const affinity = (this.#affinity ??= new Affinity(route.sticky, route.pools, this.#host));
      const home = this.#tried === undefined ? affinity.home(now) : undefined;
      this.#placed = home !== undefined || affinity.key !== "";
      if (home !== undefined) {
        this.#canary = home.pool;
        return hasRoom(home.backend, route.pick) ? home.backend : undefined;
      }
      if (this.#placed) return this.#pool(route).place(now, route.pick, affinity.key, this.#tried);
    }
    const key = route.hashes ? this.#host.keyOf(route.key) : "";
    return this.#pool(route).pick(now, route.pick, key, this.#tried);
  }

  #enqueue(): void {
    const route = this.#host.route!;
    const pool = this.#pool(route);
    pool.queue.push(this);
    this.#waitingFor = pool;
    this.#engine.waits(pool);
    this.queueDeadline = this.#engine.now + route.settings.limits.wait;
    this.#engine.event("queued");
  }

  leaveQueue(): void {
    const pool = this.#waitingFor;
    if (pool === undefined) return;
    this.#waitingFor = undefined;
    this.queueDeadline = Number.POSITIVE_INFINITY;
    const at = pool.queue.indexOf(this);
    if (at >= 0) pool.queue.splice(at, 1);
  }

  /** `sent`: the backend may have acted on it, so only what may happen twice is sent again. */
  mayRetry(sent: boolean): boolean {
    const host = this.#host;
    const route = host.route!;
    if (this.count > route.settings.retries.attempts) return false;
    if (sent && !IDEMPOTENT.has(host.head.method)) return false;
    if (!host.resendable(sent)) return false;
    if (host.upgrading && sent) return false;
    if (route.budget.take(this.#engine.now)) return true;
    this.#engine.event("retry-budget-empty");
    return false;
  }

  /**
   * Another try. `stale`: a kept connection was lost, which may be no fault of the backend's, so that it may be tried
   * again. Once: where a second one is lost as well it has died with all that it held, and each of them would cost a try.
   */
  again(backend: BackendState, stale = false): void {
    this.release();
    this.#engine.event("retried");
    const believed = stale && this.#stale !== backend;
    if (stale) this.#stale = backend;
    if (!believed) (this.#tried ??= new Set()).add(backend);
    // With no other backend left, the same ones may be tried again.
    if (this.#tried !== undefined && this.#tried.size >= this.#pool(this.#host.route!).backends.length)
      this.#tried = new Set();
    if (!this.retry()) this.#enqueue();
  }

  /** Gives the place back. */
  release(): void {
    const { backend } = this;
    if (backend === undefined) return;
    this.backend = undefined;
    this.last = backend;
    backend.inflight--;
    this.#engine.freed(backend);
  }

  fail(status: number, reason: string): void {
    this.#host.fail(status, reason);
  }

  flushRequest(): void {
    this.#host.flushRequest();
  }
}
