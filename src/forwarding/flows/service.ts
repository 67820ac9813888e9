import { connect as connectPlainly } from "node:net";
import type { Server, TLSSocket } from "node:tls";
import { messageOf } from "../../base/errors.ts";
import { type DurationMs, NEVER, type Timer, addTime, ms } from "../../base/time.ts";
import { Conntrack, FlowEvents } from "../../linux/conntrack.ts";
import { IPPROTO } from "../../linux/constants.ts";
import { type Flow, TCP_STATE } from "../../linux/wire-conntrack.ts";
import type { AffinityEntry } from "../../contracts/affinity.ts";
import { MARK_MASK, MARK_SIGNATURE, SIGNATURE_MASK } from "../marks.ts";
import { type PeerAddress, dialPeer, serveSite } from "./connection.ts";
import { KernelFlows } from "./kernel.ts";
import { type Delivery, PeerMachine, type PeerStatus } from "./machine-peer.ts";
import { FlowStore, type ReplicatedService, type StoreEffects, nothing } from "./machine-store.ts";
import type { FlowsOptions, Peer } from "./peer.ts";

/**
 * Before ordinary processes: what waits for the processor is lost where the node dies meanwhile, and the kernel's room
 * for events runs over.
 */
export const NICE = -15;
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
/** Batches after which the peer hears of it however many more wait: a quarter of its window. */
const ACKNOWLEDGE_WITHIN = 8;
/** How long the peers are not met for want of a word on which routers are active. */
const ROLES_WITHIN = ms(1000);
/** How often a peer's flows are given time, and what the kernel lost is put back. */
const UPKEEP = ms(2000);

/**
 * Keeps the connection tables of a site's nodes alike: events of our own flows go to the peers, theirs into our
 * kernel. Of two nodes the one whose name comes first dials.
 */
export class FlowsService {
  readonly #options: FlowsOptions;
  readonly #table: Conntrack;
  readonly #kernel: KernelFlows;
  readonly #events: FlowEvents;
  readonly #store: FlowStore;
  readonly #peers = new Map<string, Peer>();
  #delay: DurationMs;
  readonly #server: Server;
  /** Kernel changes one after another, in the order in which they were decided. */
  #work: Promise<void> = Promise.resolve();
  #resyncing = false;
  /** What follows from the events that are being read: told when all that waited has been. */
  #news = nothing();
  /** While the table is read: events are younger than what is read of their flow, and heard after it. */
  #meanwhile: (() => void)[] | undefined;
  /**
   * Peers are met once it is known what there is, and whose: whoever greets before says that it has nothing.
   */
  readonly #known = { flows: false, roles: false };
  #met = false;
  #active: ReadonlySet<string> = new Set();
  #closed = false;
  #upkeep: Timer | undefined;
  readonly #count = { refusedPeers: 0, overruns: 0 };

  private constructor(options: FlowsOptions) {
    this.#options = options;
    this.#store = new FlowStore(MARK_MASK, options.node);
    this.#delay = options.delay;
    this.#table = Conntrack.open(options.clock);
    this.#kernel = new KernelFlows(this.#table, (flow) => this.#store.lost(flow));
    this.#events = FlowEvents.open({
      clock: options.clock,
      mark: { value: MARK_SIGNATURE, mask: SIGNATURE_MASK },
      except: this.#table.portid,
      onFlow: (flow) => {
        if (this.#meanwhile === undefined) this.#heard(flow);
        else this.#meanwhile.push(() => this.#heard(flow));
      },
      onEnd: (flow) => {
        if (this.#meanwhile === undefined) this.#ended(flow);
        else this.#meanwhile.push(() => this.#ended(flow));
      },
      onRead: () => this.#tellNews(),
      onOverrun: () => {
        this.#count.overruns++;
        options.log.warn({ event: "flows.overrun", reason: "the kernel had more events than room for them" });
        this.resync();
      },
    });
    this.#server = this.#listen();
    for (const peer of options.peers) this.#addPeer(peer);
    this.#armUpkeep();
  }

  static open(options: FlowsOptions): FlowsService {
    return new FlowsService(options);
  }

  /** Which services are replicated, with their marks here; lists the kernel's flows anew. */
  configure(services: readonly ReplicatedService[]): void {
    this.#store.configure(services);
    // Flows of a service that has come may be ours.
    if (this.#known.roles) this.setActive(this.#active);
    this.#enqueue(() => this.#keepUp());
    this.resync();
  }
  /** The virtual routers that this node is Active for. */
  setActive(routers: ReadonlySet<string>): void {
    this.#events.drain();
    this.#active = routers;
    this.#decided(this.#store.setActive(routers, this.#options.clock.monotonic()));
    this.#known.roles = true;
    this.#meet();
  }

  /** Reads the whole table; the stream of changes goes on meanwhile. */
  resync(): void {
    if (this.#resyncing) return;
    this.#resyncing = true;
    this.#enqueue(async () => {
      this.#resyncing = false;
      const { clock } = this.#options;
      const meanwhile: (() => void)[] = [];
      this.#meanwhile = meanwhile;
      try {
        const flows = await this.#table.list({ mark: { value: MARK_SIGNATURE, mask: SIGNATURE_MASK } });
        const effects = this.#store.reconcile(flows, clock.monotonic());
        this.#tell(effects);
        await this.#kernel.apply(effects);
      } finally {
        this.#meanwhile = undefined;
        for (const hear of meanwhile) hear();
        this.#tellNews();
      }
      if (this.#known.flows) return;
      this.#known.flows = true;
      this.#meet();
      // Where nobody says which routers are active, the peers are met without.
      clock.setTimer(addTime(clock.monotonic(), ROLES_WITHIN), () => {
        this.#known.roles = true;
        this.#meet();
      });
    });
  }

  /** Nodes that came, went or moved, and another delay; who stays keeps its connection. */
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
   * peers where none is named; until `within` is over, what comes is sent without delay. Answers "" or what is missing.
   */
  async flush(within: DurationMs, to?: string): Promise<string> {
    const { clock } = this.#options;
    const until = addTime(clock.monotonic(), within);
    const renewed = new Set<string>();
    const asked = to === undefined ? undefined : this.#peers.get(to);
    if (asked?.socket === undefined) this.#lookFor(asked);
    for (;;) {
      this.#events.drain();
      let missing = to !== undefined && !this.#peers.has(to) ? `${to} is no peer` : "";
      if (this.#resyncing || this.#meanwhile !== undefined) missing = "the kernel's table is being read";
      for (const peer of this.#peers.values()) {
        peer.machine.flush(clock.monotonic(), until);
        this.#pump(peer);
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

  /** Peers that can be told of clients now. */
  reachable(): string[] {
    return [...this.#peers.values()].filter(({ machine }) => machine.isConnected).map(({ node }) => node);
  }
  /** All of one service and family. */
  tellClients(node: string, entries: readonly AffinityEntry[]): void {
    const peer = this.#peers.get(node);
    if (peer === undefined) return;
    peer.machine.tellClients(entries, this.#options.clock.monotonic());
    this.#pump(peer);
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

  get status(): {
    readonly peers: Readonly<Record<string, PeerStatus>>;
    readonly flows: { readonly own: number; readonly others: number };
    readonly counters: Readonly<Record<string, number>>;
  } {
    return {
      peers: Object.fromEntries([...this.#peers].map(([node, { machine }]) => [node, machine.status])),
      flows: this.#store.counts,
      counters: {
        ...this.#count,
        ...this.#kernel.counters,
        conflicts: this.#store.conflicts,
        unknownServices: this.#store.unknownServices,
      },
    };
  }

  /** Flows stay in the kernel. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#upkeep?.cancel();
    for (const peer of this.#peers.values()) {
      peer.retry?.cancel();
      peer.timer?.cancel();
      peer.socket?.destroy();
    }
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#events.close();
    await this.#work;
    this.#table.close();
    await closed;
  }

  // Peers --------------------------------------------------------------------------------------------------

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
    server.on("error", (error) => log.error({ event: "flows.listen_failed", reason: error.message }));
    return server;
  }
  #meet(): void {
    if (this.#met || this.#closed || !this.#known.flows || !this.#known.roles) return;
    this.#met = true;
    const { listen } = this.#options;
    this.#server.listen({ host: listen.address, port: listen.port });
    for (const peer of this.#peers.values()) this.#dial(peer);
  }

  #addPeer({ node, address, port }: FlowsOptions["peers"][number]): void {
    const { tls, site, instance } = this.#options;
    const delay = this.#delay;
    const own = this.#options.node;
    const dial = (): TLSSocket => dialPeer(tls, { node, address, port });
    const machine = new PeerMachine(
      { site, node: own, peer: node, instance, delay, batch: 512, window: 32, alive: ALIVE },
      this.#store.own,
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
    this.#count.refusedPeers++;
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
      this.#pump(peer);
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
    this.#pump(peer);
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
  #pump(peer: Peer): void {
    const { clock } = this.#options;
    const { machine } = peer;
    for (const delivery of machine.takeDeliveries()) this.#deliver(peer, delivery);
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
      this.#detach(peer, reason);
      if (peer.dial !== undefined) {
        peer.retry?.cancel();
        peer.retry = clock.setTimer(addTime(clock.monotonic(), RETRY), () => this.#dial(peer));
      }
      return;
    }
    const at = machine.nextDeadline();
    // One that fires too early finds nothing to do, and costs less than a new one with every change.
    if (at >= peer.timerAt) return;
    peer.timer?.cancel();
    peer.timerAt = at;
    peer.timer = clock.setTimer(at, () => {
      peer.timerAt = NEVER;
      machine.handleTimeout(clock.monotonic());
      this.#pump(peer);
    });
  }

  #deliver(peer: Peer, delivery: Delivery): void {
    peer.waiting++;
    this.#enqueue(async () => {
      peer.waiting--;
      const { clock } = this.#options;
      const effects = this.#store.remote(peer.node, delivery, clock.monotonic());
      await this.#kernel.apply(effects);
      this.#tell(effects);
      peer.machine.applied(delivery, clock.monotonic());
      // With more behind it, one acknowledgement says several.
      if (peer.waiting === 0 || ++peer.silent >= ACKNOWLEDGE_WITHIN) {
        peer.silent = 0;
        this.#pump(peer);
      }
    });
  }

  #tell(effects: Pick<StoreEffects, "tell">): void {
    if (effects.tell.length === 0) return;
    const now = this.#options.clock.monotonic();
    for (const peer of this.#peers.values()) {
      for (const { key, ended } of effects.tell) peer.machine.changed(key, now, ended);
      this.#pump(peer);
    }
  }

  // The kernel ---------------------------------------------------------------------------------------------

  #enqueue(task: () => Promise<void>): void {
    this.#work = this.#work.then(async () => {
      if (this.#closed) return;
      try {
        await task();
      } catch (error) {
        this.#options.log.error({ event: "flows.kernel_failed", reason: messageOf(error) });
      }
    });
  }

  #heard(flow: Flow): void {
    if (flow.protocol === IPPROTO.TCP && flow.tcpState === TCP_STATE.NONE) this.#complete(flow);
    else this.#store.kernelFlow(flow, this.#options.clock.monotonic(), this.#news);
  }
  #ended(flow: Flow): void {
    this.#store.kernelEnd(flow, this.#options.clock.monotonic(), this.#news);
  }
  #tellNews(): void {
    const effects = this.#news;
    this.#news = nothing();
    this.#decided(effects);
  }
  #decided(effects: StoreEffects): void {
    this.#tell(effects);
    if (effects.delete.length + effects.create.length > 0)
      this.#enqueue(() => this.#kernel.apply(this.#store.still(effects)));
  }

  /**
   * An event says only what changed with it. Where two processors handle a connection's packets at once, that it is
   * assured may come without its state, which a peer would then put in as none: it would drop the backend's packets.
   */
  #complete(flow: Flow): void {
    const { clock } = this.#options;
    this.#tell(this.#store.kernelFlow({ ...flow, tcpState: TCP_STATE.ESTABLISHED }, clock.monotonic()));
    this.#enqueue(async () => {
      const whole = await this.#kernel.get(flow);
      if (whole !== undefined) this.#tell(this.#store.kernelFlow(whole, clock.monotonic()));
    });
  }

  #armUpkeep(): void {
    const { clock } = this.#options;
    this.#upkeep = clock.setTimer(addTime(clock.monotonic(), UPKEEP), () => {
      this.#enqueue(() => this.#keepUp());
      if (!this.#closed) this.#armUpkeep();
    });
  }
  async #keepUp(): Promise<void> {
    // Decided in its turn: what a batch before it removes is not put back.
    const { prolong, create, tell } = this.#store.upkeep(this.#options.clock.monotonic());
    this.#tell({ tell });
    await this.#kernel.prolong(prolong);
    await this.#kernel.create(create);
  }
}
