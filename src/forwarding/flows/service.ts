import { messageOf } from "../../base/errors.ts";
import { type DurationMs, type MonotonicMs, type Timer, addTime, instant, ms } from "../../base/time.ts";
import { Conntrack, FlowEvents } from "../../linux/conntrack.ts";
import { IPPROTO } from "../../linux/constants.ts";
import { type Flow, TCP_STATE } from "../../linux/wire-conntrack.ts";
import type { AffinityEntry } from "../../contracts/affinity.ts";
import { MARK_MASK, MARK_SIGNATURE, SIGNATURE_MASK } from "../marks.ts";
import type { PeerAddress } from "./connection.ts";
import { deliver } from "./deliver.ts";
import { KernelFlows } from "./kernel.ts";
import type { Delivery, PeerStatus } from "./machine-peer.ts";
import { halfOpen } from "./machine-flow.ts";
import type { ReplicatedService } from "./machine-services.ts";
import { FlowStore } from "./machine-store.ts";
import { type StoreEffects, nothing } from "./store-effects.ts";
import type { FlowsOptions, Peer } from "./peer.ts";
import { Peers } from "./peers.ts";

/**
 * Before ordinary processes: what waits for the processor is lost where the node dies meanwhile, and the kernel's room
 * for events runs over.
 */
export const NICE = -15;
/** Batches after which the peer hears of it however many more wait: a quarter of its window. */
const ACKNOWLEDGE_WITHIN = 8;
/** How long the peers are not met for want of a word on which routers are active. */
const ROLES_WITHIN = ms(1000);
/** Events are read together as long as their batch waits, within this: their room in the kernel is bounded. */
const GATHER = { least: ms(1), most: ms(5) };
/** After a listing that failed, the next one. */
const LIST_AGAIN = ms(250);
/** More than these are a flood, and only slow a hand-over down. */
const MOST_HANDSHAKES = 8192;
/** Our connections in the kernel's table. */
const OURS = { mark: { value: MARK_SIGNATURE, mask: SIGNATURE_MASK } };
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
  readonly #peers: Peers;
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
  #active: ReadonlySet<string> = new Set();
  #closed = false;
  /** A hand-over is under way: what comes is read at once, since its packets may reach the other node as soon. */
  #hurryUntil: MonotonicMs = instant(Number.NEGATIVE_INFINITY);
  #upkeep: Timer | undefined;
  #overruns = 0;

  private constructor(options: FlowsOptions) {
    this.#options = options;
    this.#store = new FlowStore(MARK_MASK, options.node);
    this.#table = Conntrack.open(options.clock);
    this.#kernel = new KernelFlows({
      table: this.#table,
      store: this.#store,
      tell: (effects) => this.#peers.tell(effects),
    });
    this.#events = FlowEvents.open({
      clock: options.clock,
      mark: { value: MARK_SIGNATURE, mask: SIGNATURE_MASK },
      except: this.#table.portid,
      gather: () => this.#gather(),
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
        this.#overruns++;
        options.log.warn({ event: "flows.overrun", reason: "the kernel had more events than room for them" });
        this.resync();
      },
    });
    this.#peers = new Peers(options, {
      own: this.#store.own,
      deliver: (peer, delivery) => this.#deliver(peer, delivery),
      read: () => {
        if (!this.#events.drain()) return "the kernel has more to tell";
        return this.#resyncing || this.#meanwhile !== undefined ? "the kernel's table is being read" : "";
      },
    });
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
    const before = this.#active;
    this.#active = routers;
    this.#decided(this.#store.setActive(routers, this.#options.clock.monotonic()));
    this.#known.roles = true;
    this.#meet();
    const left = [...before].filter((router) => !routers.has(router));
    if (left.length > 0) void this.#tellHandshakes(new Set(left));
  }

  /** Reads the whole table; the stream of changes goes on meanwhile. */
  resync(): void {
    if (this.#resyncing || this.#closed) return;
    this.#resyncing = true;
    this.#enqueue(async () => {
      this.#resyncing = false;
      const { clock } = this.#options;
      const meanwhile: (() => void)[] = [];
      this.#meanwhile = meanwhile;
      try {
        const flows = await this.#table.list({ ...OURS, assured: true });
        const effects = this.#store.reconcile(flows, clock.monotonic());
        this.#peers.tell(effects);
        await this.#kernel.apply(effects);
      } catch (error) {
        // What it would have found is not found by anything else.
        clock.setTimer(addTime(clock.monotonic(), LIST_AGAIN), () => this.resync());
        throw error;
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
    this.#peers.reconfigure(peers, delay);
  }
  /** See Peers.flush. Where something is handed over, connections in their handshake go with the rest. */
  async flush(within: DurationMs, to?: string): Promise<string> {
    const until = addTime(this.#options.clock.monotonic(), within);
    this.#hurryUntil = until;
    if (to !== undefined) {
      this.#peers.tell(this.#store.leave(until, to));
      await this.#tellHandshakes(this.#active);
    }
    return this.#peers.flush(until, to);
  }
  /** Peers that can be told of clients now. */
  reachable(): string[] {
    return this.#peers.reachable();
  }
  /** All of one service and family. */
  tellClients(node: string, entries: readonly AffinityEntry[]): void {
    this.#peers.tellClients(node, entries);
  }

  get status(): {
    readonly peers: Readonly<Record<string, PeerStatus>>;
    readonly flows: { readonly own: number; readonly others: number };
    readonly counters: Readonly<Record<string, number>>;
  } {
    return {
      peers: this.#peers.status,
      flows: this.#store.counts,
      counters: {
        refusedPeers: this.#peers.refused,
        overruns: this.#overruns,
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
    const closed = this.#peers.close();
    this.#events.close();
    await this.#work;
    this.#table.close();
    await closed;
  }

  #gather(): DurationMs {
    if (this.#options.clock.monotonic() < this.#hurryUntil) return ms(0);
    return ms(Math.min(Math.max(this.#peers.delay, GATHER.least), GATHER.most));
  }
  #meet(): void {
    if (this.#known.flows && this.#known.roles) this.#peers.meet();
  }

  #deliver(peer: Peer, delivery: Delivery): void {
    peer.waiting++;
    this.#enqueue(async () => {
      peer.waiting--;
      await deliver(peer.node, peer.machine, delivery, {
        now: () => this.#options.clock.monotonic(),
        store: this.#store,
        kernel: this.#kernel,
        tell: (effects) => this.#peers.tell(effects),
        end: (reason) => this.#peers.end(peer, reason),
      });
      // With more behind it, one acknowledgement says several.
      if (peer.waiting === 0 || ++peer.silent >= ACKNOWLEDGE_WITHIN) {
        peer.silent = 0;
        this.#peers.pump(peer);
      }
    });
  }

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
    this.#peers.tell(effects);
    if (effects.delete.length + effects.create.length > 0)
      this.#enqueue(() => this.#kernel.apply(this.#store.still(effects)));
  }

  /**
   * An event says only what changed with it. Where two processors handle a connection's packets at once, that it is
   * assured may come without its state, which a peer would then put in as none: it would drop the backend's packets.
   */
  #complete(flow: Flow): void {
    const { clock } = this.#options;
    this.#peers.tell(this.#store.kernelFlow({ ...flow, tcpState: TCP_STATE.ESTABLISHED }, clock.monotonic()));
    this.#enqueue(async () => {
      const whole = await this.#kernel.get(flow);
      if (whole !== undefined) this.#peers.tell(this.#store.kernelFlow(whole, clock.monotonic()));
    });
  }

  /**
   * Whose last packet of the handshake passes through the next Active reaches the backend that has answered. Read when a
   * hand-over begins, and once more when it is done, for those that came meanwhile.
   */
  async #tellHandshakes(routers: ReadonlySet<string>): Promise<void> {
    if (routers.size === 0) return;
    const { log } = this.#options;
    try {
      const flows: Flow[] = [];
      await this.#table.each({ ...OURS, assured: false }, (flow) => {
        if (halfOpen(flow) && flows.length <= MOST_HANDSHAKES) flows.push(flow);
      });
      if (flows.length <= MOST_HANDSHAKES) this.#peers.tell(this.#store.handshakes(flows, routers));
      else log.warn({ event: "flows.handshakes_left", reason: `more than ${MOST_HANDSHAKES} are under way` });
    } catch (error) {
      log.error({ event: "flows.kernel_failed", reason: messageOf(error) });
    }
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
    this.#peers.tell({ tell });
    try {
      await this.#kernel.prolong(prolong);
      await this.#kernel.create(create);
    } catch (error) {
      for (const flow of [...prolong, ...create]) this.#store.lost(flow);
      throw error;
    }
  }
}
