import type { Timer } from "../../base/time.ts";
import type { Head } from "../http1/wire-head.ts";
import type { Trailer } from "../http1/wire-trailers.ts";
import type { RoutePlan, ServicePlan } from "../plan.ts";
import type { BackendState } from "./backend.ts";
import type { ClientInfo } from "./client-info.ts";
import type { Downstream } from "./downstream.ts";
import type { EngineCore, Upstream, UpstreamFailure, UpstreamOwner } from "./ports.ts";
import type { Tries } from "./tries.ts";

/** The exchange, as the second request on its behalf sees it. */
export interface HedgeHost extends UpstreamOwner {
  readonly finished: boolean;
  resendable(sent: boolean): boolean;
  /** Head and body so far, to a backend. */
  write(upstream: Upstream): void;
  /** From now on this is its connection; the one before is closed. */
  adopt(upstream: Upstream): void;
}

/**
 * The same request at a second backend, after a while without an answer from the first: whoever answers first
 * serves the client, and the other one is broken off. An error of the second is none of the client's business.
 */
export class Hedge implements UpstreamOwner {
  readonly #engine: EngineCore;
  readonly #host: HedgeHost;
  readonly #tries: Tries;
  readonly #route: RoutePlan;
  #timer: Timer | undefined;
  #upstream: Upstream | undefined;
  #backend: BackendState | undefined;
  #sentAt = 0;
  #won = false;
  /** A second backend was asked. */
  asked = false;

  constructor(engine: EngineCore, host: HedgeHost, tries: Tries, route: RoutePlan, delay: number) {
    this.#engine = engine;
    this.#host = host;
    this.#tries = tries;
    this.#route = route;
    this.#timer = engine.clock.setTimer((engine.clock.monotonic() + delay) as never, () => this.#ask());
  }

  /** Whether a second backend is still at it. */
  get running(): boolean {
    return this.#upstream !== undefined && !this.#won;
  }

  #ask(): void {
    this.#timer = undefined;
    const host = this.#host;
    const engine = this.#engine;
    engine.tick();
    // What the first has not been given yet, a second one would not get either.
    if (host.finished || host.responding || !host.requestDone || !host.resendable(true)) return;
    const backend = this.#tries.another(this.#route);
    if (backend === undefined) return;
    if (!this.#route.budget.take(engine.now)) {
      engine.event("retry-budget-empty");
      return;
    }
    engine.event("hedged");
    this.asked = true;
    this.#backend = backend;
    backend.inflight++;
    this.#sentAt = engine.now;
    const upstream = engine.acquire(this, backend, this.#route);
    this.#upstream = upstream;
    host.write(upstream);
    if (!upstream.ready) return;
    upstream.flush();
    upstream.deadline = engine.now + host.patience();
  }

  /** The first has failed, or given up its turn: the second goes on alone. False where there is none. */
  promote(): boolean {
    const upstream = this.#upstream;
    if (upstream === undefined || this.#won) return false;
    this.#won = true;
    this.#tries.take(this.#backend!, this.#sentAt);
    this.#backend = undefined;
    this.#host.adopt(upstream);
    return true;
  }

  /** It is not needed any more. */
  cancel(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#won) return;
    const upstream = this.#upstream;
    this.#upstream = undefined;
    upstream?.close();
    this.#free();
  }

  #free(): void {
    const backend = this.#backend;
    if (backend === undefined) return;
    this.#backend = undefined;
    backend.inflight--;
    this.#engine.freed(backend);
  }

  #lost(): void {
    this.#upstream = undefined;
    this.#free();
  }

  responseHead(head: Head, upstream: Upstream): boolean {
    if (this.#won) return this.#host.responseHead(head, upstream);
    const { status } = head;
    if (status >= 500 && status <= 504) {
      // The first may still do better.
      if (status > 501) this.#engine.failed(this.#backend!, this.#route);
      upstream.close();
      this.#lost();
      return false;
    }
    this.#engine.event("hedge-won");
    this.promote();
    return this.#host.responseHead(head, upstream);
  }

  upstreamFailed(upstream: Upstream, why: UpstreamFailure, detail: string | undefined): void {
    if (this.#won) {
      this.#host.upstreamFailed(upstream, why, detail);
      return;
    }
    upstream.close();
    this.#engine.event(`upstream.${why}`);
    if (why !== "unsendable" && (upstream.uses === 0 || why !== "lost"))
      this.#engine.failed(this.#backend!, this.#route);
    this.#lost();
  }

  connected(upstream: Upstream): void {
    this.#host.connected(upstream);
  }
  interim(head: Head): void {
    if (this.#won) this.#host.interim(head);
  }
  responseBody(bytes: Uint8Array, start: number, end: number, stable: boolean): boolean {
    return this.#host.responseBody(bytes, start, end, stable);
  }
  responseEnd(trailers: readonly Trailer[]): void {
    this.#host.responseEnd(trailers);
  }
  switched(head: Head, rest: Uint8Array): void {
    this.#host.switched(head, rest);
  }
  tunnelled(now: number): void {
    this.#host.tunnelled(now);
  }
  tunnelClosed(): void {
    this.#host.tunnelClosed();
  }
  patience(): number {
    return this.#host.patience();
  }
  quiet(): number {
    return this.#host.quiet();
  }
  get head(): Head {
    return this.#host.head;
  }
  get downstream(): Downstream {
    return this.#host.downstream;
  }
  get route(): RoutePlan | undefined {
    return this.#route;
  }
  get service(): ServicePlan {
    return this.#host.service;
  }
  get connection(): ClientInfo {
    return this.#host.connection;
  }
  get upgrading(): boolean {
    return false;
  }
  get requestDone(): boolean {
    return this.#host.requestDone;
  }
  get responding(): boolean {
    return this.#won && this.#host.responding;
  }
  get method(): string {
    return this.#host.method;
  }
  get host(): string {
    return this.#host.host;
  }
  get target(): string {
    return this.#host.target;
  }
  get client(): string {
    return this.#host.client;
  }
  get id(): string {
    return this.#host.id;
  }
}
