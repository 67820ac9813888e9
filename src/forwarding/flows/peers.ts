/** The connections to the other nodes: who dials, who is let in, what is written when, and how one ends. */
import { connect as connectPlainly } from "node:net";
import type { Server, TLSSocket } from "node:tls";
import type { AffinityEntry } from "../../contracts/affinity.ts";
import { type DurationMs, type MonotonicMs, NEVER, addTime, ms } from "../../base/time.ts";
import { type PeerAddress, dialPeer, serveSite } from "./connection.ts";
import type { OwnFlows } from "./machine-outgoing.ts";
import { type Delivery, PeerMachine, type PeerStatus } from "./machine-peer.ts";
import type { StoreEffects } from "./store-effects.ts";
import type { FlowsOptions, Peer } from "./peer.ts";

const RETRY = ms(250);
/** A dial without an answer: soon again, since a partition may have healed in between. */
const DIAL_WITHIN = ms(1500);
/** A sign of life this often; after three missed ones the connection is given up, and the next goes on from there. */
const ALIVE = ms(1000);
/**
 * A connection that was silent for longer is ended when a hand-over waits for it: after a partition TCP sends again
 * only when its timer says so, which may be as long again; a new connection goes on at once.
 */
const STALE = ms(1300);

/** What stands behind the connections. */
export interface PeersHost {
  readonly own: OwnFlows;
  deliver(peer: Peer, delivery: Delivery): void;
  /** Reads all that the kernel has to tell; answers "" or why that is not possible now. */
  read(): string;
}

export class Peers {
  readonly #options: FlowsOptions;
  readonly #host: PeersHost;
  readonly #peers = new Map<string, Peer>();
  readonly #server: Server;
  #delay: DurationMs;
  #met = false;
  /** Why nobody can connect, as it was said. */
  #deaf = "";
  #closed = false;
  refused = 0;

  constructor(options: FlowsOptions, host: PeersHost) {
    this.#options = options;
    this.#host = host;
    this.#delay = options.delay;
    this.#server = this.#listen();
    for (const peer of options.peers) this.#addPeer(peer);
  }
  /** How long a change may wait for others to travel with it. */
  get delay(): DurationMs {
    return this.#delay;
  }
  get status(): Readonly<Record<string, PeerStatus>> {
    return Object.fromEntries([...this.#peers].map(([node, { machine }]) => [node, machine.status]));
  }
  /** Nobody is told anything any more. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const peer of this.#peers.values()) {
      peer.retry?.cancel();
      peer.timer?.cancel();
      peer.socket?.destroy();
    }
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  /** From now on: what there is here, and whose it is, is known. */
  meet(): void {
    if (this.#met || this.#closed) return;
    this.#met = true;
    this.#listenNow();
    for (const peer of this.#peers.values()) this.#dial(peer);
  }

  reconfigure(peers: readonly PeerAddress[], delay: DurationMs): void {
    for (const peer of this.#peers.values()) {
      const same = peers.some(
        ({ node, address, port }) => node === peer.node && address === peer.address && port === peer.port,
      );
      if (same) {
        peer.machine.setDelay(delay);
        continue;
      }
      this.#peers.delete(peer.node);
      peer.retry?.cancel();
      peer.gone = true;
      this.#detach(peer, "the site file has it no more, or elsewhere");
    }
    this.#delay = delay;
    for (const peer of peers) if (!this.#peers.has(peer.node)) this.#addPeer(peer);
    this.#changed(true);
  }

  /**
   * Before a hand-over: everything that the kernel has told is sent, and acknowledged by `to`, or by all connected
   * peers where none is named; up to `until`, what comes is sent without delay. Answers "" or what is missing.
   */
  async flush(until: MonotonicMs, to?: string): Promise<string> {
    const { clock } = this.#options;
    const renewed = new Set<string>();
    const asked = to === undefined ? undefined : this.#peers.get(to);
    if (asked?.socket === undefined) this.#lookFor(asked);
    for (;;) {
      const unread = this.#host.read();
      let missing = to !== undefined && !this.#peers.has(to) ? `${to} is no peer` : "";
      if (unread !== "") missing = unread;
      for (const peer of this.#peers.values()) {
        peer.machine.flush(clock.monotonic(), until);
        this.pump(peer);
        const { connected, sentAll, unacknowledged } = peer.machine.status;
        if (to === undefined ? !connected : to !== peer.node) continue;
        if (connected && !renewed.has(peer.node) && peer.machine.silence(clock.monotonic()) > STALE) {
          renewed.add(peer.node);
          this.#detach(peer, "silent while a hand-over waits for it");
          this.#dial(peer);
        }
        // Whose process is dead acknowledges nothing: its kernel has what it was told before.
        if (peer.absent) return `${peer.node} runs no flows process`;
        if (!connected) missing = `${peer.node} is not connected`;
        else if (!sentAll || unacknowledged > 0)
          missing = `${peer.node} has not acknowledged ${unacknowledged} entries`;
      }
      if (missing === "" || clock.monotonic() >= until) return missing;
      await new Promise<void>((resolve) => clock.setTimer(addTime(clock.monotonic(), ms(1)), resolve));
    }
  }

  /** Whether its process listens at all: a machine that is up answers at once where nobody does. */
  #lookFor(peer: Peer | undefined): void {
    if (peer === undefined) return;
    peer.absent = false;
    peer.retry?.cancel();
    if (peer.dial !== undefined) {
      this.#dial(peer);
      return;
    }
    const socket = connectPlainly({ host: peer.address, port: peer.port });
    socket.setTimeout(DIAL_WITHIN, () => socket.destroy());
    socket.on("connect", () => socket.destroy());
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED" && peer.socket === undefined) peer.absent = true;
    });
  }

  /** Peers that can be told of clients now. */
  reachable(): string[] {
    return [...this.#peers.values()].filter(({ machine }) => machine.isConnected).map(({ node }) => node);
  }
  /** All of one service and family. */
  tellClients(node: string, entries: readonly AffinityEntry[]): void {
    const peer = this.#peers.get(node);
    if (peer === undefined) return;
    peer.machine.tellClients(entries, this.#options.clock.monotonic());
    this.pump(peer);
  }
  /** Changes of ours. */
  tell(effects: Pick<StoreEffects, "tell">): void {
    if (effects.tell.length === 0) return;
    const now = this.#options.clock.monotonic();
    for (const peer of this.#peers.values()) {
      for (const told of effects.tell) peer.machine.changed(told.key, now, told);
      // Often at once, without a timer for it.
      if (now >= peer.machine.nextDeadline()) peer.machine.handleTimeout(now);
      this.pump(peer);
    }
  }

  #listen(): Server {
    const { tls, log } = this.#options;
    const server = serveSite(
      tls,
      (node, socket) => {
        const peer = this.#peers.get(node);
        if (peer === undefined || peer.dial !== undefined) return "it is no peer that dials us";
        this.#attach(peer, socket);
        return "";
      },
      (node, reason) => this.#refuse(node, reason),
    );
    // The address may come later than this process, and the one before it may still have the port.
    server.on("error", (error) => {
      if (this.#deaf !== error.message) log.error({ event: "flows.listen_failed", reason: error.message });
      this.#deaf = error.message;
      const { clock } = this.#options;
      clock.setTimer(addTime(clock.monotonic(), RETRY), () => this.#listenNow());
    });
    return server;
  }
  #listenNow(): void {
    if (this.#closed || this.#server.listening) return;
    const { address, port } = this.#options.listen;
    this.#server.listen({ host: address, port });
  }
  #addPeer({ node, address, port }: FlowsOptions["peers"][number]): void {
    const { tls, site, instance } = this.#options;
    const delay = this.#delay;
    const own = this.#options.node;
    const dial = (): TLSSocket => dialPeer(tls, { node, address, port });
    const machine = new PeerMachine(
      { site, node: own, peer: node, instance, delay, batch: 512, window: 32, alive: ALIVE },
      this.#host.own,
    );
    const dials = own < node;
    const peer: Peer = {
      node,
      address,
      port,
      gone: false,
      dialing: false,
      machine,
      dial: dials ? dial : undefined,
      socket: undefined,
      timer: undefined,
      timerAt: NEVER,
      told: 0,
      retry: undefined,
      waiting: 0,
      silent: 0,
      absent: false,
    };
    this.#peers.set(node, peer);
    if (dials) this.#dial(peer);
  }

  #dial(peer: Peer): void {
    // One at a time: the other side takes the newest, and two that replace each other never end.
    if (!this.#met || this.#closed || peer.gone || peer.dial === undefined) return;
    if (peer.dialing || peer.socket !== undefined) return;
    const socket = peer.dial();
    peer.dialing = true;
    let connected = false;
    const again = (): void => {
      if (peer.socket !== undefined || this.#closed || peer.gone) return;
      const { clock } = this.#options;
      peer.retry?.cancel();
      peer.retry = clock.setTimer(addTime(clock.monotonic(), RETRY), () => this.#dial(peer));
    };
    socket.setTimeout(DIAL_WITHIN, () => socket.destroy());
    socket.on("error", (error: NodeJS.ErrnoException) => {
      peer.absent = error.code === "ECONNREFUSED";
      // Not being there yet is no news; another's certificate is.
      if (error.code !== "ECONNREFUSED" && !this.#closed) this.#refuse(peer.node, error.message);
    });
    socket.on("close", again);
    socket.once("close", () => {
      if (!connected) peer.dialing = false;
    });
    socket.once("secureConnect", () => {
      connected = true;
      peer.dialing = false;
      socket.setTimeout(0);
      if (this.#closed || peer.gone || peer.socket !== undefined) {
        socket.destroy();
        return;
      }
      this.#attach(peer, socket);
    });
  }

  #refuse(node: string, reason: string): void {
    this.refused++;
    this.#options.log.warn({ event: "flows.peer_refused", peer: node, reason });
  }

  #attach(peer: Peer, socket: TLSSocket): void {
    const { clock, log } = this.#options;
    if (peer.socket !== undefined) this.#detach(peer, "it connected again");
    peer.socket = socket;
    peer.absent = false;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => {
      if (peer.socket !== socket) return;
      peer.machine.receive(chunk, clock.monotonic());
      this.pump(peer);
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      if (peer.socket !== socket) return;
      this.#detach(peer, "the connection ended");
      if (peer.dial !== undefined) this.#dial(peer);
    });
    this.#options.affinity?.connected(peer.node);
    peer.machine.connected(clock.monotonic());
    log.info({ event: "flows.peer_connected", peer: peer.node });
    this.pump(peer);
  }

  #detach(peer: Peer, reason: string): void {
    const { socket } = peer;
    peer.socket = undefined;
    peer.timer?.cancel();
    peer.timerAt = NEVER;
    peer.machine.disconnected();
    this.#options.affinity?.disconnected(peer.node);
    socket?.destroy();
    if (!this.#closed && socket !== undefined)
      this.#options.log.info({ event: "flows.peer_lost", peer: peer.node, reason });
    this.#changed();
  }

  /** Ends this connection: what it did not bring comes with the next one. */
  end(peer: Peer, reason: string): void {
    this.#detach(peer, reason);
    if (peer.dial === undefined || peer.gone || this.#closed) return;
    const { clock } = this.#options;
    peer.retry?.cancel();
    peer.retry = clock.setTimer(addTime(clock.monotonic(), RETRY), () => this.#dial(peer));
  }

  /** Tells whoever waits for a peer to be in sync. */
  #changed(others = false): void {
    let news = others;
    for (const peer of this.#peers.values()) {
      const { isConnected, sentAll, receivedAll } = peer.machine;
      const now = (isConnected ? 1 : 0) | (sentAll ? 2 : 0) | (receivedAll ? 4 : 0);
      if (now !== peer.told) news = true;
      peer.told = now;
    }
    if (news && !this.#closed) this.#options.changed?.();
  }

  /** Carries out what a machine wants: bytes, deliveries, the end, its next deadline. */
  pump(peer: Peer): void {
    const { clock } = this.#options;
    const { machine } = peer;
    for (const delivery of machine.takeDeliveries()) this.#host.deliver(peer, delivery);
    const clients = machine.takeClients();
    if (clients.length > 0) this.#options.affinity?.received(peer.node, clients);
    const { socket } = peer;
    if (socket === undefined) return;
    const output = machine.takeOutput();
    // Together: each write is a TLS record, and a system call, of its own.
    const [only] = output;
    if (only !== undefined) socket.write(output.length === 1 ? only : Buffer.concat(output));
    this.#changed();
    if (machine.refusal !== undefined) {
      const reason = machine.refusal;
      // Silence is no intruder.
      if (reason !== "silence") this.#refuse(peer.node, reason);
      this.end(peer, reason);
      return;
    }
    const at = machine.nextDeadline();
    // One that fires too early finds nothing to do, and costs less than a new one with every change.
    if (at >= peer.timerAt) return;
    peer.timer?.cancel();
    peer.timerAt = at;
    peer.timer = clock.setTimer(at, () => {
      peer.timerAt = NEVER;
      // What has happened since the last look goes, too: else it would wait for the next batch.
      this.#host.read();
      machine.handleTimeout(clock.monotonic());
      this.pump(peer);
    });
  }
}
