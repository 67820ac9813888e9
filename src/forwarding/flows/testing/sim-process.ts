/**
 * A flows process of the simulation: the machines, and around them what service.ts does, step by step, with a model of
 * the kernel and of the streams in place of the real ones. One life: a reborn process is another object.
 */
import type { EventQueue } from "../../../base/event-queue.ts";
import { type Random } from "../../../base/random.ts";
import { instant, ms } from "../../../base/time.ts";
import { type Flow, type FlowPlan, flowKey, tuplesSame } from "../../../linux/wire-conntrack.ts";
import { MARK_MASK } from "../../marks.ts";
import { type Delivery, PeerMachine, type PeerRefusal } from "../machine-peer.ts";
import type { ReplicatedService } from "../machine-services.ts";
import { FlowStore } from "../machine-store.ts";
import type { StoreEffects } from "../store-effects.ts";
import type { KernelEvent, SimKernel } from "./sim-kernel.ts";
import type { End, SimNetwork } from "./sim-network.ts";

/** As in service.ts. */
const RETRY = 250;
const UPKEEP = 2000;
const ROLES_WITHIN = 1000;
const STALE = 1300;
const ALIVE = ms(1000);
/** Small, so that windows fill and snapshots take several batches. */
export const BATCH = 8;
export const WINDOW = 3;

export interface Peer {
  readonly index: number;
  readonly machine: PeerMachine;
  end: End | undefined;
  dialing: boolean;
  absent: boolean;
  timer: number;
  timerAt: number;
  retry: number;
}

export interface ProcessOptions {
  readonly queue: EventQueue;
  readonly random: Random;
  readonly network: SimNetwork;
  readonly kernel: SimKernel;
  readonly index: number;
  readonly nodes: number;
  readonly name: (index: number) => string;
  readonly instance: string;
  /** The process at another node, where one runs. */
  readonly at: (index: number) => SimProcess | undefined;
  /** A peer came, went, or is in sync now. */
  readonly changed: () => void;
  readonly refused: (peer: number, refusal: PeerRefusal) => void;
  readonly say: (what: string) => void;
  /** Of a replay only: each change of the kernel and of the store. */
  readonly trace: ((what: string, flow: Pick<Flow, "protocol" | "original">) => void) | undefined;
}

type Task = () => Generator<number, void>;

export class SimProcess {
  readonly options: ProcessOptions;
  readonly store: FlowStore;
  readonly peers = new Map<number, Peer>();
  closed = false;
  /** Something was lost, and the listing that finds it is not through. */
  listing = false;
  /** Changes that each peer was told of. */
  told = 0;
  readonly #work: Task[] = [];
  #working = false;
  #resyncing = false;
  #meanwhile: KernelEvent[] | undefined;
  readonly #known = { flows: false, roles: false };
  #met = false;
  #active: ReadonlySet<string> = new Set();
  #status = 0;

  constructor(options: ProcessOptions) {
    this.options = options;
    this.store = new FlowStore(MARK_MASK, options.name(options.index));
    options.kernel.listener = (event) => this.#heard(event);
    for (let i = 0; i < options.nodes; i++) if (i !== options.index) this.#addPeer(i);
    this.#keepUp();
  }
  get #now() {
    return instant(this.options.queue.now);
  }
  #in(after: number, run: () => void): void {
    const { queue } = this.options;
    queue.add(queue.now + after, () => {
      if (!this.closed) run();
    });
  }

  /** kill -9: the streams end, the kernel keeps everything. */
  kill(): void {
    this.closed = true;
    this.options.kernel.listener = undefined;
    for (const { end } of this.peers.values()) end?.destroy();
  }

  configure(services: readonly ReplicatedService[]): void {
    this.store.configure(services);
    if (this.#known.roles) this.setActive(this.#active);
    this.#enqueue(() => this.#upkeep());
    this.resync();
  }
  setActive(routers: ReadonlySet<string>): void {
    this.options.kernel.drain();
    this.#active = routers;
    const effects = this.store.setActive(routers, this.#now);
    this.#decided(effects);
    this.#known.roles = true;
    this.#meet();
  }

  resync(): void {
    if (this.#resyncing) return;
    this.#resyncing = true;
    this.listing = true;
    const { kernel } = this.options;
    const reconcile = function* (this: SimProcess): Generator<number, void> {
      this.#resyncing = false;
      const meanwhile: KernelEvent[] = [];
      this.#meanwhile = meanwhile;
      yield kernel.latency;
      const flows = kernel.list(0);
      yield kernel.latency;
      flows.push(...kernel.list(1));
      const effects = this.store.reconcile(flows, this.#now);
      this.#tell(effects);
      yield* this.#apply(effects);
      this.#meanwhile = undefined;
      for (const event of meanwhile) this.#heard(event);
      if (!this.#resyncing) this.listing = false;
      if (this.#known.flows) return;
      this.#known.flows = true;
      this.#meet();
      this.#in(ROLES_WITHIN, () => {
        this.#known.roles = true;
        this.#meet();
      });
    };
    this.#enqueue(() => reconcile.call(this));
  }

  /** Peers are met once it is known what there is, and whose it is. */
  #meet(): void {
    if (this.#met || !this.#known.flows || !this.#known.roles) return;
    this.#met = true;
    for (const peer of this.peers.values()) this.#dial(peer);
  }
  /** Changes of the kernel are under way. */
  get working(): boolean {
    return this.#working;
  }
  get listens(): boolean {
    return this.#met;
  }

  /** Before a hand-over: answers "" or what is missing. */
  flush(within: number, to: number, done: (missing: string) => void): void {
    const { kernel, queue } = this.options;
    const until = instant(queue.now + within);
    this.#tell(this.store.leave(until, this.options.name(to)));
    let renewed = false;
    const peer = this.peers.get(to);
    if (peer !== undefined && peer.end === undefined) this.#lookFor(peer);
    const look = (): void => {
      kernel.drain();
      for (const each of this.peers.values()) {
        each.machine.flush(this.#now, until);
        this.#pump(each);
      }
      if (peer === undefined) return done("no peer");
      if (peer.machine.status.connected && !renewed && peer.machine.silence(this.#now) > STALE) {
        renewed = true;
        this.#detach(peer, "silent while a hand-over waits for it");
        this.#dial(peer);
      }
      if (this.listing && queue.now < until) return this.#in(4, look);
      if (peer.absent) return done("it runs no process");
      const { connected, sentAll, unacknowledged } = peer.machine.status;
      const missing = !connected ? "not connected" : !sentAll || unacknowledged > 0 ? "not acknowledged" : "";
      if (missing === "" || queue.now >= until) return done(missing);
      return this.#in(4, look);
    };
    look();
  }
  #lookFor(peer: Peer): void {
    peer.absent = false;
    if (this.options.index < peer.index) this.#dial(peer);
    else if (this.options.network.isPowered(peer.index) && this.options.at(peer.index)?.listens !== true)
      this.#in(1, () => {
        if (peer.end === undefined) peer.absent = true;
      });
  }

  // Peers --------------------------------------------------------------------------------------------------

  #addPeer(index: number): void {
    const { name, instance } = this.options;
    const machine = new PeerMachine(
      {
        site: "shop",
        node: name(this.options.index),
        peer: name(index),
        instance,
        delay: ms(5),
        batch: BATCH,
        window: WINDOW,
        alive: ALIVE,
      },
      this.store.own,
    );
    const peer: Peer = {
      index,
      machine,
      end: undefined,
      dialing: false,
      absent: false,
      timer: 0,
      timerAt: Number.POSITIVE_INFINITY,
      retry: 0,
    };
    this.peers.set(index, peer);
  }

  #dial(peer: Peer): void {
    const { network, index, at } = this.options;
    if (!this.#met || this.closed || index > peer.index || peer.dialing || peer.end !== undefined) return;
    peer.dialing = true;
    peer.retry++;
    network.dial(
      index,
      peer.index,
      () => {
        const other = at(peer.index);
        if (other === undefined || !other.listens) return undefined;
        return (end) => {
          const theirs = other.peers.get(index);
          if (other.closed || theirs === undefined) end.destroy();
          else other.#attach(theirs, end);
        };
      },
      (dialed) => {
        peer.dialing = false;
        if ("failed" in dialed) {
          peer.absent = dialed.failed === "refused";
          this.#again(peer);
        } else if (this.closed || peer.end !== undefined) dialed.end.destroy();
        else this.#attach(peer, dialed.end);
      },
    );
  }
  #again(peer: Peer): void {
    const retry = ++peer.retry;
    this.#in(RETRY, () => {
      if (retry === peer.retry) this.#dial(peer);
    });
  }

  #attach(peer: Peer, end: End): void {
    if (peer.end !== undefined) this.#detach(peer, "it connected again");
    peer.end = end;
    peer.absent = false;
    end.receiver = {
      data: (bytes) => {
        if (this.closed || peer.end !== end) return;
        peer.machine.receive(bytes, this.#now);
        this.#pump(peer);
      },
      closed: () => {
        if (this.closed || peer.end !== end) return;
        this.#detach(peer, "the connection ended");
        this.#dial(peer);
      },
    };
    peer.machine.connected(this.#now);
    this.options.say(`connected to n${peer.index}`);
    this.#pump(peer);
  }
  #detach(peer: Peer, reason: string): void {
    const { end } = peer;
    peer.end = undefined;
    peer.timer++;
    peer.timerAt = Number.POSITIVE_INFINITY;
    peer.machine.disconnected();
    end?.destroy();
    this.options.say(`lost n${peer.index}: ${reason}`);
    this.#changed();
  }
  #changed(): void {
    let now = 0;
    for (const { machine } of this.peers.values()) {
      const { isConnected, sentAll, receivedAll } = machine;
      now = now * 8 + (isConnected ? 4 : 0) + (sentAll ? 2 : 0) + (receivedAll ? 1 : 0);
    }
    if (now === this.#status || this.closed) return;
    this.#status = now;
    this.options.changed();
  }

  #pump(peer: Peer): void {
    const { machine } = peer;
    for (const delivery of machine.takeDeliveries()) this.#deliver(peer, delivery);
    const { end } = peer;
    if (end === undefined) return;
    for (const bytes of machine.takeOutput()) end.write(bytes);
    this.#changed();
    if (machine.refusal !== undefined) {
      const reason = machine.refusal;
      this.options.refused(peer.index, reason);
      this.#detach(peer, reason);
      this.#again(peer);
      return;
    }
    this.#arm(peer);
  }
  /** One timer a peer: one that comes too early is set again. */
  #arm(peer: Peer): void {
    const at = peer.machine.nextDeadline();
    if (!Number.isFinite(at) || at >= peer.timerAt) return;
    const timer = ++peer.timer;
    peer.timerAt = at;
    this.#in(Math.max(0, at - this.options.queue.now), () => {
      if (timer !== peer.timer) return;
      peer.timerAt = Number.POSITIVE_INFINITY;
      this.options.kernel.drain();
      if (this.options.queue.now >= peer.machine.nextDeadline()) {
        peer.machine.handleTimeout(this.#now);
        this.#pump(peer);
      } else this.#arm(peer);
    });
  }
  #deliver(peer: Peer, delivery: Delivery): void {
    const carryOut = function* (this: SimProcess): Generator<number, void> {
      for (const { ended, flow } of delivery.entries)
        this.options.trace?.(`hears from n${peer.index} ${delivery.seq}${ended ? " ended" : ""}`, flow);
      const effects = this.store.remote(this.options.name(peer.index), delivery, this.#now);
      yield* this.#apply(effects);
      this.#tell(effects);
      peer.machine.applied(delivery, this.#now);
      this.#pump(peer);
    };
    this.#enqueue(() => carryOut.call(this));
  }
  #tell(effects: Pick<StoreEffects, "tell">): void {
    if (effects.tell.length === 0) return;
    this.told += effects.tell.length;
    for (const peer of this.peers.values()) {
      for (const told of effects.tell) {
        const { key, ended } = told;
        const own = this.store.own.get(key) ?? ended;
        if (own) this.options.trace?.(`tells n${peer.index}${ended ? " ended" : ""}`, own);
        peer.machine.changed(key, this.#now, told);
      }
      if (this.#now >= peer.machine.nextDeadline()) peer.machine.handleTimeout(this.#now);
      this.#pump(peer);
    }
  }

  // The kernel ---------------------------------------------------------------------------------------------

  #heard(event: KernelEvent): void {
    if (event.type !== "overrun")
      this.options.trace?.(`event ${event.type} ${event.flow.tcpState}`, event.flow);
    if (event.type === "overrun") this.resync();
    else if (this.#meanwhile !== undefined) this.#meanwhile.push(event);
    else if (event.type === "end") this.#decided(this.store.kernelEnd(event.flow, this.#now));
    else if (event.flow.protocol === 6 && event.flow.tcpState === 0) this.#complete(event.flow);
    else this.#decided(this.store.kernelFlow(event.flow, this.#now));
  }
  #decided(effects: StoreEffects): void {
    this.#tell(effects);
    if (effects.delete.length + effects.create.length > 0)
      this.#enqueue(() => this.#apply(this.store.still(effects)));
  }
  #complete(flow: Flow): void {
    const { kernel } = this.options;
    this.#tell(this.store.kernelFlow({ ...flow, tcpState: 3 }, this.#now));
    const look = function* (this: SimProcess): Generator<number, void> {
      yield kernel.latency;
      const whole = kernel.get(flowKey(flow));
      if (whole !== undefined) this.#tell(this.store.kernelFlow(whole, this.#now));
    };
    this.#enqueue(() => look.call(this));
  }

  #keepUp(): void {
    this.#in(UPKEEP, () => {
      this.#enqueue(() => this.#upkeep());
      this.#keepUp();
    });
  }
  *#upkeep(): Generator<number, void> {
    const { kernel } = this.options;
    const { prolong, create, tell } = this.store.upkeep(this.#now);
    this.#tell({ tell });
    if (prolong.length > 0) yield kernel.latency;
    for (const plan of prolong) if (!kernel.prolong(plan)) this.store.lost(plan);
    yield* this.#create(create);
  }
  /** As kernel.ts does. */
  *#apply(effects: StoreEffects): Generator<number, void> {
    const { kernel } = this.options;
    if (effects.delete.length > 0) {
      yield kernel.latency;
      for (const flow of effects.delete) {
        this.options.trace?.("deletes", flow);
        kernel.delete(flow);
      }
    }
    yield* this.#create(effects.create);
    const replaced = new Set(effects.delete.map(flowKey));
    for (const key of effects.create.map(flowKey)) if (replaced.has(key)) kernel.yielded.add(key);
    if (effects.update.length > 0) yield kernel.latency;
    for (const plan of effects.update) if (!kernel.update(plan)) yield* this.#create([plan]);
    if (effects.lifetime.length > 0) yield kernel.latency;
    for (const plan of effects.lifetime) kernel.prolong(plan);
  }
  *#create(plans: readonly FlowPlan[]): Generator<number, void> {
    const { kernel } = this.options;
    if (plans.length > 0) yield kernel.latency;
    for (const plan of plans) {
      this.options.trace?.(`creates ${plan.reply.source.join(".")}`, plan);
      if (kernel.create(plan)) continue;
      yield kernel.latency;
      const there = kernel.get(flowKey(plan));
      if (there !== undefined && tuplesSame(there.reply, plan.reply)) kernel.update(plan);
      else {
        kernel.delete(plan);
        const other = kernel.answering(plan);
        if (other !== undefined) {
          const { delete: gone, tell } = this.store.clash(plan, other);
          this.#tell({ tell });
          if (gone.length === 0) continue;
          for (const flow of gone) kernel.yield(flow);
        }
        if (!kernel.create(plan)) this.store.lost(plan);
      }
    }
  }
  #enqueue(task: Task): void {
    this.#work.push(task);
    if (!this.#working) this.#next();
  }
  #next(): void {
    const task = this.#work.shift();
    this.#working = task !== undefined;
    if (task === undefined) return;
    const steps = task();
    const go = (): void => {
      const { done, value } = steps.next();
      if (done === true) this.#next();
      else this.#in(value, go);
    };
    this.#in(0, go);
  }
}
