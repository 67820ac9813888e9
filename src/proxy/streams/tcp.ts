import { type Channel, type ChannelHandler, NetChannel } from "../engine/channel.ts";
import type { BackendState } from "../engine/backend.ts";
import type { ClientInfo } from "../engine/client-info.ts";
import { count } from "../engine/metrics.ts";
import type { PoolState } from "../engine/pool.ts";
import type { Closable, EngineCore, ListenerCore } from "../engine/ports.ts";
import type { Swept } from "../engine/sweep.ts";
import type { TcpPlan } from "../plan.ts";
import { writeProxyHeader } from "./wire-proxy-header.ts";

/** Backends tried for one connection before it is given up. */
const TRIES = 3;

/** What a stream was routed by. */
export interface StreamRoute {
  readonly plan: TcpPlan;
  /** TLS server name, lower case; empty without one. */
  readonly serverName: string;
  readonly pool: PoolState;
  /** What the client said so far. */
  readonly first: Uint8Array;
}

/** A client's connection and one to a backend, bytes both ways; each side may end before the other. */
export class TcpStream implements Closable, Swept {
  readonly #engine: EngineCore;
  readonly #listener: ListenerCore;
  readonly #route: StreamRoute;
  readonly #info: ClientInfo;
  readonly #started: number;
  readonly #client: NetChannel;
  readonly handler: ChannelHandler;
  #backend: BackendState | undefined;
  #tried: Set<BackendState> | undefined;
  #upstream: NetChannel | undefined;
  #connected = false;
  #clientEnded = false;
  #over = false;
  /** One side is closed in good order. */
  #half = false;
  #bytesOut = 0;
  #tries = 0;
  deadline = Number.POSITIVE_INFINITY;
  sweepIndex = -1;

  constructor(
    engine: EngineCore,
    listener: ListenerCore,
    client: NetChannel,
    info: ClientInfo,
    route: StreamRoute,
  ) {
    this.#engine = engine;
    this.#listener = listener;
    this.#client = client;
    this.#info = info;
    this.#route = route;
    this.#started = engine.now;
    this.handler = {
      onConnect: () => undefined,
      onBytes: (bytes, length, stable) => this.#pump(client, this.#upstream, bytes, length, stable),
      onEnd: () => {
        this.#clientEnded = true;
        if (this.#connected) this.#upstream?.end();
      },
      onDrain: () => this.#upstream?.resume(),
      onClose: (error) => this.#closed(error, true),
    };
    engine.sweep.add(this);
    listener.clients.add(this);
  }

  /** To be called once the channel is handed to `handler`. */
  begin(): void {
    // Nothing more is read until there is somewhere to send it.
    this.#client.pause();
    this.#try();
  }

  #try(): void {
    const engine = this.#engine;
    const { plan, pool } = this.#route;
    const backend =
      this.#tries < TRIES ? pool.pick(engine.now, plan.pick, this.#info.address, this.#tried) : undefined;
    if (backend === undefined) {
      this.#finish(this.#tries === 0 ? 503 : 502, this.#tries === 0 ? "no-backend" : "connect");
      return;
    }
    this.#tries++;
    (this.#tried ??= new Set()).add(backend);
    this.#backend = backend;
    backend.inflight++;
    backend.connections++;
    this.deadline = engine.now + plan.connect;
    const upstream = NetChannel.connect(backend.address, backend.port, {
      onConnect: () => this.#stands(),
      onBytes: (bytes, length, stable) => {
        this.#bytesOut += length;
        this.#pump(upstream, this.#client, bytes, length, stable);
      },
      onEnd: () => this.#client.end(),
      onDrain: () => this.#client.resume(),
      onClose: (error) => {
        if (this.#upstream === upstream) this.#closed(error, false);
      },
    });
    this.#upstream = upstream;
  }

  #stands(): void {
    const upstream = this.#upstream;
    if (upstream === undefined || this.#over) return;
    this.#engine.tick();
    this.#connected = true;
    const { plan, first } = this.#route;
    this.deadline = this.#engine.now + plan.idle;
    if (plan.proxyProtocol !== false) {
      const to = this.#info.to();
      upstream.write(
        "",
        writeProxyHeader(plan.proxyProtocol, { ...to, address: this.#info.ip, port: this.#info.port }),
      );
    }
    const gone = first.length === 0 || upstream.write("", first);
    if (this.#clientEnded) upstream.end();
    // Otherwise onDrain of the backend's side resumes it.
    if (gone) this.#client.resume();
  }

  #pump(from: Channel, to: Channel | undefined, bytes: Uint8Array, length: number, stable: boolean): void {
    if (to === undefined || this.#over) return;
    this.#engine.tick();
    this.deadline = this.#engine.now + this.#route.plan.idle;
    from.passing(length);
    if (!to.write("", bytes.subarray(0, length), "", stable)) from.pause();
  }

  /** One side is closed for good. */
  #closed(error: string | undefined, byClient: boolean): void {
    if (this.#over) return;
    this.#engine.tick();
    if (!byClient && !this.#connected) {
      this.#again(error ?? "lost");
      return;
    }
    const other = byClient ? this.#upstream : this.#client;
    // What is pending to the other side still goes out, unless this side broke. Then its close follows.
    if (error === undefined && !this.#half) {
      this.#half = true;
      other?.end();
      return;
    }
    if (error !== undefined) other?.destroy();
    this.#settle(200, error === undefined ? "" : `${byClient ? "client" : "backend"}: ${error}`);
  }

  /** No connection to this backend. */
  #again(why: string): void {
    const upstream = this.#upstream;
    const backend = this.#backend;
    this.#upstream = undefined;
    upstream?.destroy();
    this.#engine.event(`upstream.${why === "connect-timeout" ? why : "connect"}`);
    if (backend !== undefined) backend.failures++;
    this.#release();
    this.#try();
  }

  #release(): void {
    const backend = this.#backend;
    if (backend === undefined) return;
    this.#backend = undefined;
    backend.inflight--;
    backend.connections--;
    this.#engine.freed(backend);
  }

  #finish(status: number, reason: string): void {
    this.#engine.event(`refused.${reason}`);
    this.#settle(status, reason);
    this.#client.destroy();
    this.#upstream?.destroy();
  }

  #settle(status: number, reason: string): void {
    if (this.#over) return;
    this.#over = true;
    const backend = this.#backend;
    this.#release();
    this.#engine.sweep.remove(this);
    this.#listener.closed(this);
    const took = this.#engine.now - this.#started;
    const { plan, serverName } = this.#route;
    count(plan.counters, status, took, this.#bytesOut);
    if (backend !== undefined) count(backend.counters, status, took, this.#bytesOut);
    const { service } = this.#listener;
    service.log?.add({
      service: service.name,
      route: plan.name,
      client: this.#info.address,
      method: "TCP",
      host: serverName,
      target: "",
      version: 1,
      status,
      bytes: this.#bytesOut,
      took,
      backend: backend?.id ?? "",
      attempts: this.#tries,
      id: "",
      agent: "",
      referer: "",
      reason,
    });
  }

  onDeadline(): void {
    if (!this.#connected) this.#again("connect-timeout");
    else this.#finish(200, "idle-timeout");
  }

  /** Streams go on while the proxy drains; its deadline ends them. */
  drain(): void {
    // Nothing between two requests to wait for: a stream is one.
  }

  destroy(): void {
    this.#settle(200, "closed");
    this.#client.destroy();
    this.#upstream?.destroy();
  }
}
