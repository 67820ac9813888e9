import { type Server, Socket, createServer } from "node:net";
import {
  type SecureContext,
  type TLSSocket,
  type Server as TlsServer,
  createServer as createTlsServer,
} from "node:tls";
import type { IpAddress } from "../../base/addresses.ts";
import { ACME_PROTOCOL } from "../acme/challenges.ts";
import type { ServicePlan, TcpPlan } from "../plan.ts";
import { inPrefixes } from "../routing/policy-match.ts";
import { TcpStream } from "../streams/tcp.ts";
import { HELLO_MOST, readClientHello } from "../streams/wire-client-hello.ts";
import { PROXY_HEADER_MOST, readProxyHeader } from "../streams/wire-proxy-header.ts";
import { NetChannel, StreamChannel, plainAddress } from "./channel.ts";
import { ClientConnection } from "./client.ts";
import { type ClientInfo, clientInfo } from "./client-info.ts";
import { Greeting, type Verdict } from "./greeting.ts";
import { Http2Connection, isHttp2 } from "../http2/session.ts";
import type { Closable, EngineCore, ListenerCore } from "./ports.ts";

/** Where to listen: an address, or a descriptor or handle of what the parent opened. */
export type ListenAt =
  { readonly host: string; readonly port: number } | { readonly fd: number } | { readonly handle: object };

/** Most bytes that are read to find out what a connection is. */
const GREETING = 16_384;

const NOTHING = Buffer.alloc(0);

/** The socket below TLS, which Node keeps but does not publish. */
type ParentedSocket = TLSSocket & { _parent?: Socket };

const endOf = (socket: Socket): { toAddress: IpAddress; toPort: number } => ({
  toAddress: plainAddress(socket.localAddress ?? "0.0.0.0").replace(/%.*/, "") as IpAddress,
  toPort: socket.localPort ?? 0,
});

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
  /** Accepted handles, for their descriptors; those that are closed are thrown out now and then. */
  readonly #handles = new Set<{ readonly fd: number }>();

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
      const options = "handle" in at ? at : { ...at, backlog: 4096 };
      this.#server.listen(options as never, 4096 as never, () => {
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
      else {
        this.#handles.add(client as { readonly fd: number });
        if (this.#handles.size > 2 * this.clients.size + 1024) this.#forget();
        this.#accept(client);
      }
    };
  }

  #forget(): void {
    for (const handle of this.#handles) if (!(handle.fd >= 0)) this.#handles.delete(handle);
  }

  /**
   * Ends every connection at once. `resetOnClose` makes the kernel send a RST, which clients understand
   * whatever they wait for. The listening socket stays.
   */
  reset(resetOnClose: (fd: number) => void): number {
    this.#forget();
    for (const { fd } of this.#handles) resetOnClose(fd);
    this.#handles.clear();
    const clients = [...this.clients];
    for (const client of clients) client.destroy();
    return clients.length;
  }

  #accept(handle: object): void {
    const engine = this.#engine;
    engine.tick();
    this.accepted++;
    const { service } = this;
    const { limits, acceptProxyProtocol } = service.settings;
    const plain = acceptProxyProtocol.length === 0 && !engine.challenges.proving;
    if (service.certificates !== undefined && plain) {
      const socket = new Socket({ handle, noDelay: true } as ConstructorParameters<typeof Socket>[0]);
      if (this.#open >= limits.connections) {
        engine.event("refused.connections");
        socket.destroy();
      } else this.#secure(socket);
      return;
    }
    const channel = NetChannel.accept(handle);
    if (this.#open >= limits.connections) {
      engine.event("refused.connections");
      channel.destroy();
      return;
    }
    if (inPrefixes(acceptProxyProtocol, channel.remoteAddress)) {
      this.#greet(channel, NOTHING, PROXY_HEADER_MOST + GREETING, (bytes) => this.#announced(channel, bytes));
      return;
    }
    const { remoteAddress, remotePort } = channel;
    this.#enter(
      channel,
      NOTHING,
      this.#info(remoteAddress, remotePort, () => endOf(channel.socket)),
    );
  }

  #info(address: string, port: number, to: ClientInfo["to"]): ClientInfo {
    return clientInfo(this.service, address, port, this.service.certificates !== undefined, to);
  }

  #greet(channel: NetChannel, first: Buffer, most: number, look: (bytes: Buffer) => Verdict): void {
    const greeting = new Greeting(this.#engine, this, channel, most, look);
    channel.handTo(greeting);
    if (first.length > 0) greeting.onBytes(first, first.length);
  }

  #refuse(reason: string): Verdict {
    this.#engine.event(`refused.${reason}`);
    return "refuse";
  }

  /** A proxy in front says who the client is. */
  #announced(channel: NetChannel, bytes: Buffer): Verdict {
    const reading = readProxyHeader(bytes);
    if (reading.kind === "more") return "more";
    if (reading.kind === "fault") return this.#refuse(reading.reason);
    const { of, length } = reading;
    const info =
      of === undefined
        ? this.#info(channel.remoteAddress, channel.remotePort, () => endOf(channel.socket))
        : this.#info(of.address, of.port, () => of);
    return () => this.#enter(channel, bytes.subarray(length), info);
  }

  /** What the service speaks begins here, with the bytes that came already. */
  #enter(channel: NetChannel, first: Buffer, info: ClientInfo): void {
    const { service } = this;
    if (service.certificates !== undefined) {
      if (this.#engine.challenges.proving)
        this.#greet(channel, first, HELLO_MOST, (bytes) => this.#secretly(channel, info, bytes));
      else this.#enterTls(channel, first, info);
    } else if (service.tcp !== undefined) {
      const { tcp } = service;
      if (tcp.peeks)
        this.#greet(channel, first, HELLO_MOST, (bytes) => this.#hello(channel, tcp, info, bytes));
      else this.#stream(channel, tcp, info, "", first);
    } else if (service.settings.http2) {
      this.#greet(channel, first, GREETING, (bytes) => this.#plain(channel, info, bytes));
    } else {
      const client = new ClientConnection(this.#engine, this, channel, info);
      channel.handTo(client);
      if (first.length > 0) client.onBytes(first, first.length, true);
    }
  }

  /** HTTP/1.1 or HTTP/2 with prior knowledge, on one port: the first bytes tell. */
  #plain(channel: NetChannel, info: ClientInfo, bytes: Buffer): Verdict {
    const second = isHttp2(bytes);
    if (second === undefined) return "more";
    if (second) return () => this.#http2(channel.release(bytes), info);
    return () => {
      const client = new ClientConnection(this.#engine, this, channel, info);
      channel.handTo(client);
      client.onBytes(bytes, bytes.length, true);
    };
  }

  /** TLS that passes through: its server name chooses the pool. */
  #hello(channel: NetChannel, tcp: TcpPlan, info: ClientInfo, bytes: Buffer): Verdict {
    const reading = readClientHello(bytes);
    if (reading.kind === "more") return "more";
    if (reading.kind === "hello") return () => this.#stream(channel, tcp, info, reading.serverName, bytes);
    // What is not TLS may still be for the pool that takes everything else.
    if (reading.reason === "not-tls" && tcp.find("") !== undefined) {
      return () => this.#stream(channel, tcp, info, "", bytes);
    }
    return this.#refuse(reading.reason);
  }

  #stream(channel: NetChannel, plan: TcpPlan, info: ClientInfo, serverName: string, first: Buffer): void {
    const pool = plan.find(serverName);
    if (pool === undefined) {
      this.#engine.event("refused.no-route");
      channel.destroy();
      return;
    }
    const stream = new TcpStream(this.#engine, this, channel, info, { plan, serverName, pool, first });
    channel.handTo(stream.handler);
    stream.begin();
  }

  /** Clients whose PROXY header was read before their TLS. */
  readonly #introduced = new WeakMap<object, ClientInfo>();

  /** While a certificate is being ordered: the authority that asks for the proof, or a client like any other. */
  #secretly(channel: NetChannel, info: ClientInfo, bytes: Buffer): Verdict {
    const reading = readClientHello(bytes);
    if (reading.kind === "more") return "more";
    if (reading.kind === "hello" && reading.protocols.includes(ACME_PROTOCOL)) {
      const proof = this.#engine.challenges.proof(reading.serverName);
      if (proof === undefined) return this.#refuse("acme-unknown");
      return () => this.#prove(channel.release(bytes), proof);
    }
    return () => this.#enterTls(channel, bytes, info);
  }

  #prove(socket: Socket, proof: SecureContext): void {
    setImmediate(() => {
      if (socket.destroyed) return;
      const server = createTlsServer({
        ALPNProtocols: [ACME_PROTOCOL],
        SNICallback: (_name, done) => done(null, proof),
        handshakeTimeout: this.service.settings.timeouts.handshake,
      });
      server.on("tlsClientError", () => this.#engine.event("refused.tls-handshake"));
      // RFC 8737 3: the handshake is the proof, and nothing follows it.
      server.on("secureConnection", (secured: TLSSocket) => {
        this.#engine.event("acme-proved");
        secured.on("error", () => undefined);
        secured.end();
      });
      server.emit("connection", socket);
    });
  }

  #enterTls(channel: NetChannel, first: Buffer, info: ClientInfo): void {
    const socket = channel.release(first);
    this.#introduced.set(socket, info);
    // Not within the read that brought the first bytes: TLS takes the handle over.
    setImmediate(() => {
      if (!socket.destroyed) this.#secure(socket);
    });
  }

  /** Sockets whose TLS handshake is under way. */
  readonly #handshakes = new Set<Socket>();

  /** Connections, those included that are none of a client yet. */
  get #open(): number {
    return this.clients.size + this.#handshakes.size;
  }

  #secure(socket: Socket): void {
    this.#handshakes.add(socket);
    socket.once("close", () => this.#handshakes.delete(socket));
    this.#tls ??= this.#makeTls();
    this.#tls.emit("connection", socket);
  }

  #http2(socket: Socket, info: ClientInfo): void {
    // Not within the read that brought the first bytes: the session takes the handle over.
    setImmediate(() => {
      if (socket.destroyed) return;
      this.#engine.tick();
      const client = new Http2Connection(this.#engine, this, socket, info);
      if (this.draining) client.drain();
    });
  }

  #tls: TlsServer | undefined;

  #tlsMadeOf = "";
  #tlsSettings(): string {
    const { tls, timeouts } = this.service.settings;
    const staples = this.service.certificates?.staples;
    return JSON.stringify([tls?.clientAuthorities, tls?.clientOptional, timeouts.handshake, staples]);
  }

  /** Certificates and names are asked of the service with every handshake, so that a reload needs no new server. */
  #makeTls(): TlsServer {
    const engine = this.#engine;
    const { tls, timeouts } = this.service.settings;
    this.#tlsMadeOf = this.#tlsSettings();
    const server = createTlsServer({
      // Asked with every handshake, so that a reload may turn HTTP/2 on and off.
      ALPNCallback: ({ protocols }) =>
        ["h2", "http/1.1"].find(
          (one) => protocols.includes(one) && (one !== "h2" || this.service.settings.http2),
        ),
      handshakeTimeout: timeouts.handshake,
      requestCert: tls?.clientAuthorities !== undefined,
      rejectUnauthorized: tls?.clientAuthorities !== undefined && !tls.clientOptional,
      SNICallback: (name, done) => done(null, this.service.certificates?.find(name)),
    });
    // For clients that send no name; SNICallback is not asked for them.
    const setDefault = (): void => {
      const { certificates } = this.service;
      const first = certificates?.firstFiles;
      if (first !== undefined) server.setSecureContext(first);
      // Node keeps the keys of tickets with the context for those without a name, whichever is chosen later.
      this.#ring = certificates?.tickets.install(server) ?? false;
    };
    setDefault();
    this.#refreshTls = setDefault;
    // Only where there is something to staple: Node asks with every handshake whose client wants one.
    if (this.service.certificates?.staples === true)
      server.on("OCSPRequest", (certificate, _issuer, done) => {
        const staple = this.service.certificates?.staple(certificate);
        engine.event(staple === undefined ? "ocsp.none" : "ocsp.stapled");
        done(null, staple ?? null);
      });
    server.on("tlsClientError", (_error, socket: ParentedSocket) => {
      this.#shook(socket);
      engine.event("refused.tls-handshake");
    });
    server.on("secureConnection", (socket: TLSSocket) => this.#secured(socket));
    return server;
  }
  #refreshTls: (() => void) | undefined;
  #ring = true;

  /** Time has passed: without a ring of keys, Node's single one may be due to be another. */
  ticketsChanged(): void {
    if (this.#tls !== undefined && !this.#ring) this.service.certificates?.tickets.install(this.#tls);
  }

  /** After the certificates' files were read again, or the service was replaced. */
  certificatesChanged(): void {
    // Some of it Node takes only when a server is made; connections of the one before stay.
    if (this.#tls !== undefined && this.#tlsMadeOf !== this.#tlsSettings()) this.#tls = undefined;
    else this.#refreshTls?.();
  }

  #shook(socket: ParentedSocket): void {
    if (socket._parent !== undefined) this.#handshakes.delete(socket._parent);
  }

  #secured(socket: TLSSocket): void {
    const engine = this.#engine;
    this.#shook(socket);
    engine.tick();
    engine.event(socket.isSessionReused() ? "tls.resumed" : "tls.full");
    const remote = { address: socket.remoteAddress ?? "", port: socket.remotePort ?? 0 };
    const info =
      this.#introduced.get((socket as ParentedSocket)._parent ?? socket) ??
      this.#info(remote.address, remote.port, () => endOf(socket));
    if (this.clients.size >= this.service.settings.limits.connections || this.draining) {
      engine.event("refused.connections");
      socket.destroy();
      return;
    }
    if (socket.alpnProtocol === "h2") {
      const client = new Http2Connection(engine, this, socket, info);
      if (this.draining) client.drain();
      return;
    }
    StreamChannel.over(socket, remote, (channel) => new ClientConnection(engine, this, channel, info));
  }

  closed(client: Closable): void {
    this.clients.delete(client);
    if (this.draining && this.clients.size === 0) this.#drained?.();
  }
  #drained: (() => void) | undefined;

  /** Connections end after the request that is under way; new ones are accepted. */
  retire(): void {
    for (const client of this.clients) client.drain();
  }

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
