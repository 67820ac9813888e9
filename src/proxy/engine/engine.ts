import type { Random } from "../../base/random.ts";
import type { Clock, Timer } from "../../base/time.ts";
import type { ReaderLimits } from "../http1/machine.ts";
import { Challenges } from "../acme/challenges.ts";
import { FieldNames } from "../http1/wire-names.ts";
import { acquireHttp2 } from "../http2/upstream.ts";
import { writeProxyHeader } from "../streams/wire-proxy-header.ts";
import type { RoutePlan, ServicePlan } from "../plan.ts";
import type { BackendState } from "./backend.ts";
import { NetChannel, latin1 } from "./channel.ts";
import type { ClientInfo } from "./client-info.ts";
import { Mirrors } from "./mirror.ts";
import type {
  EngineCore,
  MirroredRequest,
  QueuedExchange,
  RequestSource,
  Upstream,
  UpstreamOwner,
} from "./ports.ts";
import type { Ejection } from "./policy-outlier.ts";
import type { PoolState } from "./pool.ts";
import { Sweep } from "./sweep.ts";
import { UpstreamConnection } from "./upstream.ts";
import { connectTls, tlsKey } from "./upstream-tls.ts";

/** How often deadlines are compared, in milliseconds: the worst lateness of a timeout. */
const SWEEP_MS = 100;
const HOSTS_KEPT = 1000;
const NOTHING = new Uint8Array(0);

const proxyHeader = (version: 1 | 2, client: ClientInfo): Uint8Array =>
  writeProxyHeader(version, { address: client.ip, port: client.port, ...client.to() });
const IDEMPOTENT_FIRST = new Set(["GET", "HEAD", "OPTIONS"]);

export interface EngineEvents {
  /** A backend was ejected, a middleware threw: for the log. */
  notice(event: string, fields: Record<string, unknown>): void;
  /** A backend was ejected: for the other workers. */
  ejected?(ejection: Ejection): void;
}

/** The connection used last that goes the same way, taken out of those that are kept. */
function keptFor(idle: UpstreamConnection[], key: string): UpstreamConnection | undefined {
  for (let at = idle.length - 1; at >= 0; at--) {
    const kept = idle[at]!;
    if (kept.key !== key || kept.closed) continue;
    if (at === idle.length - 1) idle.pop();
    else idle.splice(at, 1);
    return kept;
  }
  return undefined;
}

/** What all connections of a worker share. */
export class Engine implements EngineCore {
  readonly clock: Clock;
  readonly random: Random;
  readonly names = new FieldNames();
  readonly sweep = new Sweep();
  readonly challenges = new Challenges();
  readonly events = new Map<string, number>();
  readonly responseLimits: ReaderLimits = { head: 65_536, fields: 200, bodyOnGet: true };
  readonly #notices: EngineEvents;
  readonly #pools: ReadonlyMap<string, PoolState>;
  /** Pools with a queue, those that a reload has taken away among them. */
  readonly #waitedFor = new Set<PoolState>();
  readonly #mirrors = new Mirrors(this);
  readonly #hosts = new Map<string, string>();
  /** The monotonic clock as of the last `tick`. */
  now: number;
  #timer: Timer | undefined;
  #idPrefix: string;
  #idCount = 0;

  constructor(clock: Clock, random: Random, pools: ReadonlyMap<string, PoolState>, notices: EngineEvents) {
    this.clock = clock;
    this.random = random;
    this.#pools = pools;
    this.#notices = notices;
    this.now = clock.monotonic();
    this.#idPrefix = this.#hex(12);
    // Known before the first head is read, so that every head has its id.
    this.names.idOf("grpc-timeout");
    this.#schedule();
  }

  /** Reads the clock: once per piece of input, not per question. */
  tick(): void {
    this.now = this.clock.monotonic();
  }

  #schedule(): void {
    this.#timer = this.clock.setTimer((this.clock.monotonic() + SWEEP_MS) as never, () => {
      this.tick();
      this.sweep.run(this.now);
      for (const pool of this.#waitedFor) this.#expireQueue(pool);
      this.#schedule();
    });
  }

  #expireQueue(pool: PoolState): void {
    const gone = this.#pools.get(pool.name) !== pool;
    for (const waiter of [...pool.queue] as QueuedExchange[]) {
      if (gone) waiter.fail(503, "pool-removed");
      else if (waiter.queueDeadline <= this.now) waiter.fail(503, "queue-timeout");
    }
    this.serveQueue(pool);
    if (pool.queue.length === 0) this.#waitedFor.delete(pool);
  }

  waits(pool: PoolState): void {
    this.#waitedFor.add(pool);
  }

  serveQueue(pool: PoolState): void {
    const { queue } = pool;
    const refused = new Set<object>();
    for (let at = 0; at < queue.length;) {
      const waiter = queue[at]! as QueuedExchange;
      const { group } = waiter;
      if (group !== undefined && refused.has(group)) at++;
      else if (waiter.retry()) waiter.flushRequest();
      else {
        if (group !== undefined) refused.add(group);
        at++;
      }
    }
  }

  /** A place at a backend became free. */
  freed(backend: BackendState): void {
    const pool = this.#pools.get(backend.pool);
    if (pool !== undefined && pool.queue.length > 0) this.serveQueue(pool);
  }

  mirror(original: RequestSource & MirroredRequest, route: RoutePlan): void {
    this.#mirrors.copy(original, route);
  }

  stop(): void {
    this.#timer?.cancel();
  }

  event(name: string): void {
    this.events.set(name, (this.events.get(name) ?? 0) + 1);
  }

  nextId(): string {
    const n = (this.#idCount = (this.#idCount + 1) >>> 0);
    return `${this.#idPrefix}-${n.toString(36)}`;
  }

  traceId(): string {
    return `${this.#hex(32)}-${this.#hex(16)}`;
  }

  #hex(digits: number): string {
    let out = "";
    while (out.length < digits)
      out += Math.floor(this.random.next() * 0x100000000)
        .toString(16)
        .padStart(8, "0");
    return out.slice(0, digits);
  }

  /** The host of an authority, lower case, without its port. Remembered: clients repeat themselves. */
  splitHost(authority: string): string {
    let host = this.#hosts.get(authority);
    if (host === undefined) {
      const lower = authority.toLowerCase();
      const colon = lower.endsWith("]") ? -1 : lower.lastIndexOf(":");
      host = colon < 0 ? lower : lower.slice(0, colon);
      if (host.endsWith(".")) host = host.slice(0, -1);
      if (this.#hosts.size >= HOSTS_KEPT) this.#hosts.clear();
      this.#hosts.set(authority, host);
    }
    return host;
  }

  weightedPool(route: RoutePlan): PoolState {
    let total = 0;
    for (const { weight } of route.pools) total += weight;
    let at = this.random.next() * total;
    for (const { pool, weight } of route.pools) {
      at -= weight;
      if (at < 0) return pool;
    }
    return route.pools[0]!.pool;
  }

  /** A kept connection, or a new one. */
  acquire(exchange: UpstreamOwner, backend: BackendState, route: RoutePlan): Upstream {
    const { upstream, timeouts } = route.settings;
    if (upstream.protocol === "http2") return acquireHttp2(this, exchange, backend, route);
    // A request that cannot be sent twice does not risk a connection that the backend may just be closing.
    const reuse =
      upstream.reuse === "always" ||
      (upstream.reuse === "safe" &&
        (exchange.downstream.requests > 1 || IDEMPOTENT_FIRST.has(exchange.method)));
    const announce = upstream.proxyProtocol;
    // A connection that speaks for one client is not another's.
    const key = tlsKey(upstream.tls, exchange.host);
    if (reuse && !exchange.upgrading && announce === false) {
      const kept = keptFor(backend.idle as UpstreamConnection[], key);
      if (kept !== undefined) {
        kept.start(exchange, Number.POSITIVE_INFINITY);
        return kept;
      }
    }
    // A kept connection that this request may not use makes room for one that it may.
    if (backend.connections >= route.pick.connections) backend.idle[0]?.close();
    const made = new UpstreamConnection(
      this,
      backend,
      key,
      upstream.reuse === "never" || announce !== false ? 0 : upstream.idle,
    );
    made.start(exchange, this.now + timeouts.connect);
    const header = announce === false ? NOTHING : proxyHeader(announce, exchange.connection);
    if (upstream.tls) made.channel = connectTls(backend, upstream.tls, exchange.host, made, header);
    else {
      made.out = latin1(header, 0, header.length);
      made.channel = NetChannel.connect(backend.address, backend.port, made);
    }
    return made;
  }

  /** One failure of a backend, as its clients see it. */
  failed(backend: BackendState, route: RoutePlan): void {
    backend.failures++;
    const { outlier } = route.settings;
    if (outlier === false) return;
    const allowed = this.#pools.get(backend.pool)?.mayEject(this.now, outlier.atMost) ?? false;
    if (!backend.outlier.failure(this.now, outlier, allowed)) return;
    this.event("ejected");
    const forMs = backend.outlier.until - this.now;
    this.#notices.ejected?.({ backend: backend.id, forMs, atMost: outlier.atMost });
    this.#notices.notice("proxy.backend_ejected", {
      backend: backend.id,
      forMs: Math.round(backend.outlier.until - this.now),
      reason: `${outlier.failures} failures in a row`,
    });
  }

  middlewareFailed(route: string, error: unknown): void {
    this.event("middleware-failed");
    this.#notices.notice("proxy.middleware_failed", { route, reason: String(error) });
  }

  /** A request that never became one: logged like the others. */
  faulty(service: ServicePlan, info: ClientInfo, status: number, reason: string, bytes: number): void {
    service.log?.add({
      service: service.name,
      route: "",
      client: info.address,
      method: "",
      host: "",
      target: "",
      version: 1,
      status,
      bytes,
      took: 0,
      backend: "",
      attempts: 0,
      id: "",
      agent: "",
      referer: "",
      reason,
    });
  }
}
