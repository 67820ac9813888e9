import { type Server, createServer } from "node:net";
import type { ServicePlan } from "../plan.ts";
import { NetChannel } from "./channel.ts";
import { ClientConnection } from "./client.ts";
import { clientInfo } from "./client-info.ts";
import type { Closable, EngineCore, ListenerCore } from "./ports.ts";

/** Where to listen: an address, or a descriptor that the parent opened. */
export type ListenAt = { readonly host: string; readonly port: number } | { readonly fd: number };

interface AcceptingServer extends Server {
  _handle?: { onconnection?: (status: number, handle: object | undefined) => void };
}

/** One listening socket and the connections that came by it. */
export class Listener implements ListenerCore {
  readonly #engine: EngineCore;
  readonly #server: AcceptingServer;
  readonly clients = new Set<Closable>();
  /** Replaced by a reload; connections read it with every request. */
  service: ServicePlan;
  draining = false;
  accepted = 0;

  constructor(engine: EngineCore, service: ServicePlan) {
    this.#engine = engine;
    this.service = service;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true });
  }

  get port(): number {
    const at = this.#server.address();
    return typeof at === "object" && at !== null ? at.port : 0;
  }

  async listen(at: ListenAt): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ ...at, backlog: 4096 }, () => {
        this.#server.removeListener("error", reject);
        resolve();
      });
    });
    this.#server.on("error", () => this.#engine.event("accept-failed"));
    // Below net.Server, which would make a socket with a buffer per read for every connection.
    const handle = this.#server._handle;
    if (handle?.onconnection === undefined) throw new Error("this Node has no onconnection");
    handle.onconnection = (status, client) => {
      if (status !== 0 || client === undefined) this.#engine.event("accept-failed");
      else this.#accept(client);
    };
  }

  #accept(handle: object): void {
    const engine = this.#engine;
    engine.tick();
    this.accepted++;
    const { limits } = this.service.settings;
    NetChannel.accept(handle, (channel) => {
      if (this.clients.size >= limits.connections) {
        engine.event("refused.connections");
        queueMicrotask(() => channel.destroy());
      }
      return new ClientConnection(
        engine,
        this,
        channel,
        clientInfo(this.service, channel.remoteAddress, channel.remotePort, false),
      );
    });
  }

  closed(client: Closable): void {
    this.clients.delete(client);
    if (this.draining && this.clients.size === 0) this.#drained?.();
  }
  #drained: (() => void) | undefined;

  /** Stops accepting; resolves when the last connection is gone or the deadline has come. */
  async close(deadline: number): Promise<void> {
    this.draining = true;
    this.#server.close();
    for (const client of this.clients) client.drain();
    if (this.clients.size === 0) return;
    await new Promise<void>((resolve) => {
      const timer = this.#engine.clock.setTimer((this.#engine.clock.monotonic() + deadline) as never, () => {
        for (const client of this.clients) client.destroy();
        resolve();
      });
      this.#drained = () => {
        timer.cancel();
        resolve();
      };
    });
  }
}
