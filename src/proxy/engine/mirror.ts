import type { Trailer } from "../http1/wire-trailers.ts";
import { Framing, type Head } from "../http1/wire-head.ts";
import type { RoutePlan, ServicePlan } from "../plan.ts";
import type { BackendState } from "./backend.ts";
import type { ClientInfo } from "./client-info.ts";
import type { Downstream } from "./downstream.ts";
import type { EngineCore, MirroredRequest, RequestSource, Upstream, UpstreamOwner } from "./ports.ts";
import { requestFields } from "./request.ts";

/** Copies under way at once, of a worker: a mirror that hangs must not cost memory without end. */
const MOST = 64;

type Original = RequestSource & MirroredRequest;

/** Sends copies of requests without a body to other backends; nobody waits for their answers. */
export class Mirrors {
  readonly #engine: EngineCore;
  #underWay = 0;

  constructor(engine: EngineCore) {
    this.#engine = engine;
  }

  copy(original: Original, route: RoutePlan): void {
    const { mirror } = route;
    const engine = this.#engine;
    if (mirror === undefined || original.head.framing !== Framing.none || original.upgrading) return;
    if (mirror.share < 1 && engine.random.next() >= mirror.share) return;
    const backend = mirror.pool.pick(engine.now, route.pick, original.client, undefined);
    if (backend === undefined || this.#underWay >= MOST) {
      engine.event(backend === undefined ? "mirror.no-backend" : "mirror.too-many");
      return;
    }
    this.#underWay++;
    backend.inflight++;
    const copy = new Copy(engine, original, route, (why) => {
      this.#underWay--;
      backend.inflight--;
      engine.freed(backend);
      engine.event(why === undefined ? "mirror.sent" : `mirror.${why}`);
    });
    copy.send(original, backend);
  }
}

/** The client of a copy takes everything and wants nothing. */
const nobody: Downstream = {
  version: 1,
  requests: 2,
  sendInterim: () => undefined,
  sendHead: () => undefined,
  sendBody: () => true,
  sendEnd: () => undefined,
  flush: () => undefined,
  breakOff: () => undefined,
  pauseRequest: () => undefined,
  resumeRequest: () => undefined,
  sendSwitch: () => undefined,
  tunnel: () => undefined,
  tunnelWrite: () => true,
  tunnelEnd: () => undefined,
};

class Copy implements UpstreamOwner {
  /** Its own: the client's next request overwrites the other. */
  readonly head: Head;
  readonly downstream = nobody;
  readonly route: RoutePlan;
  readonly service: ServicePlan;
  readonly connection: ClientInfo;
  readonly upgrading = false;
  readonly requestDone = true;
  responding = false;
  readonly host: string;
  readonly target: string;
  readonly client: string;
  readonly id: string;
  readonly #engine: EngineCore;
  readonly #done: (why: string | undefined) => void;
  /** Until when the head may come, and after it the whole body: nobody needs an answer that has no end. */
  #until = Number.POSITIVE_INFINITY;

  constructor(
    engine: EngineCore,
    original: Original,
    route: RoutePlan,
    done: (why: string | undefined) => void,
  ) {
    this.#engine = engine;
    this.head = original.head.clone();
    this.route = route;
    this.service = original.service;
    this.connection = original.connection;
    this.host = original.host;
    this.target = original.target;
    this.client = original.client;
    this.id = original.id;
    this.#done = done;
  }

  send(original: Original, backend: BackendState): void {
    const { route, head } = this;
    const host = route.settings.upstream.host ?? (head.authority === "" ? backend.address : head.authority);
    const upstream = this.#engine.acquire(this, backend, route);
    upstream.head(head, this.target, host, requestFields(original, route, this.#engine));
    upstream.end([]);
    upstream.flush();
    if (upstream.ready) this.connected(upstream);
  }

  get method(): string {
    return this.head.method;
  }
  connected(upstream: Upstream): void {
    this.#until = this.#engine.now + this.route.settings.timeouts.response;
    upstream.deadline = this.#until;
  }
  patience(): number {
    return this.#until - this.#engine.now;
  }
  quiet(): number {
    return this.#until - this.#engine.now;
  }
  interim(): void {
    // Nobody wants it.
  }
  responseHead(): boolean {
    this.responding = true;
    this.#until = this.#engine.now + this.route.settings.timeouts.idle;
    return true;
  }
  responseBody(): boolean {
    return true;
  }
  responseEnd(_trailers: readonly Trailer[]): void {
    this.#done(undefined);
  }
  switched(): void {
    // Not asked for, so that the reader refuses it.
  }
  tunnelled(): void {
    // As above.
  }
  tunnelClosed(): void {
    // As above.
  }
  upstreamFailed(upstream: Upstream, why: string): void {
    upstream.close();
    this.#done(why);
  }
}
