import { type Server, Socket, createServer } from "node:net";
import { type TLSSocket, type Server as TlsServer, createServer as createTlsServer } from "node:tls";
import type { ServicePlan } from "../plan.ts";
import { NetChannel, StreamChannel } from "./channel.ts";
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
    if (this.service.certificates !== undefined) {
      this.#tls ??= this.#makeTls();
      this.#tls.emit(
        "connection",
        new Socket({ handle, noDelay: true } as ConstructorParameters<typeof Socket>[0]),
      );
      return;
    }
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

  #tls: TlsServer | undefined;

  /** Certificates and names are asked of the service with every handshake, so that a reload needs no new server. */
  #makeTls(): TlsServer {
    const engine = this.#engine;
    const { tls, timeouts } = this.service.settings;
    const server = createTlsServer({
      ALPNProtocols: ["http/1.1"],
      handshakeTimeout: timeouts.handshake,
      requestCert: tls?.clientAuthorities !== undefined,
      rejectUnauthorized: tls?.clientAuthorities !== undefined && !tls.clientOptional,
      SNICallback: (name, done) => done(null, this.service.certificates?.find(name)),
    });
    // For clients that send no name; SNICallback is not asked for them.
    const setDefault = (): void => {
      const first = this.service.certificates?.firstFiles;
      if (first !== undefined) server.setSecureContext(first);
    };
    setDefault();
    this.#refreshTls = setDefault;
    server.on("tlsClientError", () => engine.event("refused.tls-handshake"));
    server.on("secureConnection", (socket: TLSSocket) => this.#secured(socket));
    return server;
  }
  #refreshTls: (() => void) | undefined;

  /** After the certificates' files were read again. */
  certificatesChanged(): void {
    this.#refreshTls?.();
  }

  #secured(socket: TLSSocket): void {
    const engine = this.#engine;
    engine.tick();
    const remote = { address: socket.remoteAddress ?? "", port: socket.remotePort ?? 0 };
    if (this.clients.size >= this.service.settings.limits.connections || this.draining) {
      engine.event("refused.connections");
      socket.destroy();
      return;
    }
    StreamChannel.over(
      socket,
      remote,
      (channel) =>
        new ClientConnection(
          engine,
          this,
          channel,
          clientInfo(this.service, remote.address, remote.port, true),
        ),
    );
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
