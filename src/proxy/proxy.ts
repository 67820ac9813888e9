import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { type Random, systemRandom } from "../base/random.ts";
import { SystemClock } from "../base/system-clock.ts";
import { type Clock, type Timer, addTime, ms, seconds } from "../base/time.ts";
import { OperationalError } from "../base/errors.ts";
import { routeSchema } from "../config/schema/proxy.ts";
import type { BackendStatus } from "../contracts/forwarding.ts";
import type { Site } from "../contracts/site.ts";
import type { Challenge } from "./acme/messages.ts";
import { certificateName } from "./acme/store.ts";
import { AccessLog } from "./engine/access-log.ts";
import { BackendState } from "./engine/backend.ts";
import { Engine, type EngineEvents } from "./engine/engine.ts";
import { type ListenAt, Listener } from "./engine/listener.ts";
import type { ProxyMetrics } from "./engine/metrics.ts";
import type { Ejection } from "./engine/policy-outlier.ts";
import { PoolState } from "./engine/pool.ts";
import { listenKeys } from "./listen-keys.ts";
import { type ExplainRequest, type Explanation, explainRequest } from "./explain.ts";
import {
  type PlanContext,
  type RouteState,
  type ServicePlan,
  compileService,
  emptyRouteState,
} from "./plan.ts";
import { readSecret, readTicketSecret } from "./secrets.ts";
import { Certificates } from "./tls/certificates.ts";

/** The part of a site that the proxy reads. */
export type ProxySite = Pick<Site, "pools" | "services">;

export interface ProxyOptions {
  readonly clock?: Clock;
  readonly random?: Random;
  readonly events?: EngineEvents;
  /**
   * Descriptors or handles of sockets that the parent opened, by `address:port`; looked at with every `apply`. One that
   * is another than before takes the place of the one listened on; it is deleted where its listener closes, which
   * closes it too. Without one the proxy opens its own.
   */
  readonly descriptors?: Map<string, number | object>;
  /** False: listens on `descriptors` only, and leaves what has none to its parent. */
  readonly ownSockets?: boolean;
  /** Makes the kernel end a connection with a RST; without it lost addresses end theirs with a FIN. */
  readonly resetOnClose?: (fd: number) => void;
  /** The folder where ordered certificates are kept (`acme`); without it there are none. */
  readonly acme?: string;
  /** The folder where fetched OCSP responses are kept (`fetchOcsp`); without it there are none. */
  readonly ocsp?: string;
  /**
   * What keys of session tickets are made from where the site has no secret for them: the same for all workers of a
   * node. Default: random, of this proxy alone.
   */
  readonly ticketSecret?: Uint8Array;
}

interface Listening {
  readonly listener: Listener;
  readonly service: string;
  /** Undefined for a socket of the proxy's own. */
  readonly at: number | object | undefined;
}

/** Everything of a site, worked out and not in force yet. */
interface Draft {
  readonly pools: Map<string, PoolState>;
  readonly plans: Map<string, ServicePlan>;
  readonly routes: Map<string, RouteState>;
  readonly logs: Map<string, AccessLog>;
  /** Who listens where: names of services. */
  readonly wanted: Map<string, string>;
  /** What is done to what lives on. */
  readonly changes: (() => void)[];
}

const CERTIFICATES_EVERY = seconds(10);
const silent: EngineEvents = { notice: () => undefined };

/** The layer-7 services of a site in this process. */
export class Proxy {
  readonly engine: Engine;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #descriptors: Map<string, number | object>;
  readonly #ownSockets: boolean;
  readonly #events: EngineEvents;
  readonly #resetOnClose: (fd: number) => void;
  readonly #acme: string | undefined;
  readonly #ocsp: string | undefined;
  readonly #ticketSecret: Uint8Array;
  #failing = false;
  #takenOut = false;
  #certificateTimer: Timer | undefined;
  readonly #pools = new Map<string, PoolState>();
  readonly #plans = new Map<string, ServicePlan>();
  readonly #listeners = new Map<string, Listening>();
  readonly #routes = new Map<string, RouteState>();
  readonly #logs = new Map<string, AccessLog>();
  /** Sockets that the parent has not handed over, or could not open. */
  #missing = 0;

  constructor(options: ProxyOptions = {}) {
    this.#clock = options.clock ?? new SystemClock();
    this.#random = options.random ?? systemRandom;
    this.#descriptors = options.descriptors ?? new Map();
    this.#ownSockets = options.ownSockets ?? true;
    this.#events = options.events ?? silent;
    this.#resetOnClose = options.resetOnClose ?? (() => undefined);
    this.#acme = options.acme;
    this.#ocsp = options.ocsp;
    this.#ticketSecret = options.ticketSecret ?? randomBytes(32);
    this.engine = new Engine(this.#clock, this.#random, this.#pools, this.#events);
  }

  /**
   * Makes the running proxy what the site says; what both have in common lives on untouched. Where something of it
   * cannot be had (a certificate, a secret), it throws an OperationalError, and everything stays as it was.
   */
  async apply(site: ProxySite): Promise<void> {
    const wanted = this.prepare(site);
    for (const [key, listening] of this.#listeners) {
      const { listener, at } = listening;
      const now = wanted.get(key);
      if (now !== undefined) {
        const before = listener.service;
        listener.service = this.#plans.get(now)!;
        // Streams go on as they are; whoever speaks HTTP to what is none any more shall come again.
        if (before.tcp === undefined && listener.service.tcp !== undefined) listener.retire();
        listener.certificatesChanged();
        const given = this.#descriptors.get(key);
        if (given === undefined || given === at) {
          this.#listeners.set(key, { ...listening, service: now });
          continue;
        }
      }
      this.#listeners.delete(key);
      if (this.#descriptors.get(key) === at) this.#descriptors.delete(key);
      void listener.close(listener.service.settings.timeouts.drain);
    }
    if (this.#certificateTimer === undefined && [...this.#plans.values()].some((plan) => plan.certificates)) {
      this.#watchCertificates();
    }
    const opened = await Promise.allSettled(
      [...wanted].filter(([key]) => !this.#listeners.has(key)).map(([key, name]) => this.#listen(key, name)),
    );
    this.#missing = [...wanted.keys()].filter((key) => !this.#listeners.has(key)).length;
    for (const one of opened) if (one.status === "rejected") throw one.reason;
  }

  /** As `apply`, without opening or closing a socket; answers who listens where. */
  prepare(site: ProxySite): Map<string, string> {
    const draft = this.#draft(site);
    for (const [name, pool] of draft.pools) this.#pools.set(name, pool);
    this.#applyPools(site.pools);
    for (const change of draft.changes) change();
    for (const [key, state] of draft.routes) this.#routes.set(key, state);
    for (const [key, log] of draft.logs) this.#logs.set(key, log);
    this.#plans.clear();
    for (const [name, plan] of draft.plans) this.#plans.set(name, plan);
    const written = new Set([...this.#plans.values()].map(({ log }) => log));
    for (const [key, log] of this.#logs) {
      if (written.has(log)) continue;
      this.#logs.delete(key);
      log.end();
    }
    return draft.wanted;
  }

  /** Changes nothing; throws where a file of the site is not what it should be. */
  #draft(site: ProxySite): Draft {
    const draft: Draft = {
      pools: new Map(),
      plans: new Map(),
      routes: new Map(),
      logs: new Map(),
      wanted: new Map(),
      changes: [],
    };
    const context = this.#context(draft);
    try {
      for (const [name, service] of Object.entries(site.services)) {
        if (service.proxy === undefined) continue;
        draft.plans.set(
          name,
          compileService(name, service, context, (input) => routeSchema.parse(input)),
        );
        for (const key of listenKeys(service)) draft.wanted.set(key, name);
      }
    } catch (error) {
      for (const log of draft.logs.values()) log.end();
      throw error;
    }
    return draft;
  }

  /** What would happen to a request. */
  explain(service: string, request: ExplainRequest): Explanation {
    const plan = this.#plans.get(service);
    if (plan === undefined) {
      const known = [...this.#plans.keys()].join(", ");
      throw new OperationalError("NOT_FOUND", `there is no proxy service "${service}"; there are: ${known}`);
    }
    return explainRequest(plan, this.engine.names, request, this.#clock.monotonic());
  }

  async #listen(key: string, name: string): Promise<void> {
    const fd = this.#descriptors.get(key);
    if (fd === undefined && !this.#ownSockets) return;
    const listener = new Listener(this.engine, this.#plans.get(name)!);
    this.#listeners.set(key, { listener, service: name, at: fd });
    const port = Number(key.slice(key.lastIndexOf(":") + 1));
    const at: ListenAt =
      fd === undefined ? { host: hostOf(key), port } : typeof fd === "number" ? { fd } : { handle: fd };
    try {
      await listener.listen(at);
    } catch (error) {
      this.#listeners.delete(key);
      throw new OperationalError("KERNEL_REFUSED", `cannot listen on ${key}: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  #applyPools(pools: ProxySite["pools"]): void {
    for (const [name, settings] of Object.entries(pools)) {
      const state = this.#pool(name);
      state.allDown = settings.allDown;
      const before = new Map(
        state.backends.map((backend) => [`${backend.name} ${backend.address}:${backend.port}`, backend]),
      );
      state.backends = Object.entries(settings.backends).map(([backendName, backend]) => {
        const { address, port } = backend.at;
        const key = `${backendName} ${address}:${port}`;
        const kept = before.get(key) ?? new BackendState(name, backendName, address, port);
        before.delete(key);
        kept.configuredWeight = backend.weight;
        kept.weight = backend.weight;
        kept.backup = backend.backup;
        if (kept.reported === undefined) kept.admin = backend.maintenance ? "maintenance" : "enabled";
        return kept;
      });
      for (const gone of before.values()) retire(gone);
    }
    for (const [name, state] of this.#pools) {
      if (name in pools) continue;
      state.backends.forEach(retire);
      this.#pools.delete(name);
    }
  }

  #pool(name: string): PoolState {
    let pool = this.#pools.get(name);
    if (pool === undefined) {
      pool = new PoolState(name, this.#random);
      this.#pools.set(name, pool);
    }
    return pool;
  }

  /** What the checks say. A backend that comes up starts slowly where its route asks for that. */
  backendStatus(status: Omit<BackendStatus, "since">): void {
    const backend = this.#pools.get(status.pool)?.backends.find((one) => one.name === status.backend);
    if (backend === undefined) return;
    if (status.health === "up" && backend.health === "down") backend.upSince = this.#clock.monotonic();
    backend.health = status.health;
    backend.admin = status.admin;
    backend.reported = status.admin === "enabled" && status.health !== "down" ? status.effectiveWeight : 0;
    if (status.health === "down") closeKept(backend);
  }

  #context(draft: Draft): PlanContext {
    return {
      clock: this.#clock,
      names: this.engine.names,
      pool: (name) => {
        const pool = this.#pools.get(name) ?? draft.pools.get(name) ?? new PoolState(name, this.#random);
        if (!this.#pools.has(name)) draft.pools.set(name, pool);
        return pool;
      },
      routeState: (service, route) => {
        const key = `${service}/${route}`;
        const state = this.#routes.get(key) ?? draft.routes.get(key) ?? emptyRouteState();
        if (!this.#routes.has(key)) draft.routes.set(key, state);
        return state;
      },
      log: (file, format) => {
        const key = `${format} ${file}`;
        const known = this.#logs.get(key) ?? draft.logs.get(key);
        if (known !== undefined) return known;
        const onProblem = (reason: string): void =>
          this.#events.notice("proxy.access_log_unwritable", { file, reason });
        const log = new AccessLog({ clock: this.#clock, file, format, onProblem });
        draft.logs.set(key, log);
        return log;
      },
      certificates: (service, settings) => {
        const kept = this.#plans.get(service)?.certificates;
        const own = settings.tickets.secret;
        const secret = own === undefined ? this.#ticketSecret : readTicketSecret(own);
        if (kept !== undefined && JSON.stringify(kept.settings) === JSON.stringify(settings)) {
          draft.changes.push(() => kept.tickets.use(secret));
          return kept;
        }
        const ordered =
          settings.acme === undefined || this.#acme === undefined
            ? undefined
            : join(this.#acme, certificateName(service));
        return new Certificates(settings, {
          clock: this.#clock,
          service,
          secret,
          ordered,
          fetched: this.#ocsp,
        });
      },
      secret: readSecret,
      failing: () => this.#failing || this.#takenOut,
    };
  }

  /** Certificates whose files changed are read again: looked at every ten seconds. */
  #watchCertificates(): void {
    this.#certificateTimer = this.#clock.setTimer(
      addTime(this.#clock.monotonic(), CERTIFICATES_EVERY),
      () => {
        this.refreshCertificates();
        for (const { listener } of this.#listeners.values()) listener.ticketsChanged();
        this.#watchCertificates();
      },
    );
  }

  /** Reads certificates again whose files have changed; connections that exist stay as they are. */
  refreshCertificates(): void {
    for (const { certificates, name } of this.#plans.values()) {
      const told = certificates?.refresh();
      for (const reason of told?.ocsp ?? []) {
        this.engine.event("ocsp.unusable");
        this.#events.notice("proxy.ocsp_unusable", { service: name, reason });
      }
      if (told?.changed === true) {
        for (const { listener, service } of this.#listeners.values())
          if (service === name) listener.certificatesChanged();
        this.#events.notice("proxy.certificates_changed", { service: name, reason: "files changed" });
      } else if (told?.problem !== undefined) {
        this.#events.notice("proxy.certificates_unreadable", { service: name, reason: told.problem });
      }
    }
  }

  /** The port of a service that listens on port 0, for tests. */
  port(service: string): number {
    for (const { listener, service: name } of this.#listeners.values())
      if (name === service) return listener.port;
    return 0;
  }

  metrics(): ProxyMetrics {
    const routes: ProxyMetrics["routes"] = {};
    for (const [key, { counters }] of this.#routes) {
      routes[key] = { ...counters, service: key.slice(0, key.indexOf("/")) };
    }
    const backends: ProxyMetrics["backends"] = {};
    let inflight = 0;
    let upstream = 0;
    for (const pool of this.#pools.values()) {
      for (const backend of pool.backends) {
        backends[backend.id] = backend.counters;
        inflight += backend.inflight;
        upstream += backend.connections;
      }
    }
    let clients = 0;
    for (const { listener } of this.#listeners.values()) clients += listener.clients.size;
    return {
      routes,
      backends,
      events: Object.fromEntries(this.engine.events),
      gauges: { client_connections: clients, upstream_connections: upstream, requests_in_flight: inflight },
    };
  }

  /** Backends that passive health keeps out just now, as `pool/backend`. */
  ejected(): string[] {
    const now = this.#clock.monotonic();
    return [...this.#pools.values()].flatMap(({ backends }) =>
      backends.filter(({ outlier }) => outlier.ejected(now)).map(({ id }) => id),
    );
  }

  /** Another worker of this node has ejected a backend. */
  eject({ backend: id, forMs, atMost }: Ejection): void {
    const now = this.#clock.monotonic();
    for (const pool of this.#pools.values()) {
      const backend = pool.backends.find((one) => one.id === id);
      if (backend?.outlier.eject(now, forMs, pool.mayEject(now, atMost)) !== true) continue;
      this.engine.event("ejected-elsewhere");
      closeKept(backend);
    }
  }

  /** What authorities must find at this worker: all of it, in place of what was there. */
  challenges(challenges: readonly Challenge[]): void {
    this.engine.challenges.set(challenges);
  }

  /** Whether this is the descriptor or handle of a listener. */
  listensOn(descriptor: number | object): boolean {
    return [...this.#listeners.values()].some(({ at }) => at === descriptor);
  }

  /** Whether every address and port of the site is listened on. */
  get listening(): boolean {
    return this.#missing === 0 && this.#listeners.size > 0;
  }

  /** An address has left this host: whoever is connected to it shall connect again, to where it is now. */
  addressLost(address: string): number {
    let ended = 0;
    for (const [key, { listener }] of this.#listeners)
      if (hostOf(key) === address) ended += listener.reset(this.#resetOnClose);
    return ended;
  }

  /**
   * From now on health questions (`proxy.health`) are answered with 503, so that whoever checks this node sends
   * nothing more. Resolves when all services have announced it for as long as they ask for.
   */
  async announceEnd(): Promise<void> {
    this.#failing = true;
    const longest = Math.max(
      0,
      ...[...this.#plans.values()].map(({ settings }) => settings.health?.announce ?? 0),
    );
    if (longest === 0) return;
    this.#events.notice("proxy.end_announced", {
      reason: `health questions are answered with 503 for ${longest} ms before connections are refused`,
    });
    await new Promise<void>((resolve) => {
      this.#clock.setTimer(addTime(this.#clock.monotonic(), ms(longest)), resolve);
    });
  }

  /**
   * An operator takes the node out, and perhaps back in: meanwhile health questions fail. `retiring`: connections end
   * with their next answer, idle ones at once; new ones are accepted all the same.
   */
  takeOut(failing: boolean, retiring: boolean): void {
    this.#takenOut = failing;
    if (retiring) for (const { listener } of this.#listeners.values()) listener.retire();
  }

  /** Stops: accepts no more, lets requests finish, then closes. */
  async close(deadline?: number): Promise<void> {
    await Promise.all(
      [...this.#listeners.values()].map(({ listener }) =>
        listener.close(deadline ?? listener.service.settings.timeouts.drain),
      ),
    );
    this.#listeners.clear();
    for (const pool of this.#pools.values()) pool.backends.forEach(retire);
    this.engine.stop();
    this.#certificateTimer?.cancel();
    for (const log of this.#logs.values()) log.end();
  }
}

/** Of a listen key: the address without its brackets. */
const hostOf = (key: string): string => key.slice(0, key.lastIndexOf(":")).replaceAll(/[[\]]/g, "");

function retire(backend: BackendState): void {
  backend.gone = true;
  closeKept(backend);
}

/** Connections without a request end, shared ones take no more. */
function closeKept(backend: BackendState): void {
  while (backend.idle.length > 0) backend.idle[0]!.close();
  for (const session of backend.sessions.slice()) session.close();
}
