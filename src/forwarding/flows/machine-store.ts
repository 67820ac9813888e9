/**
 * Who owns which flow, and what follows: pure. A flow belongs to the node through which its packets pass: the
 * one that is Active for its service's virtual router. Owned flows are told to the peers; what peers own is held
 * in our kernel for them, and becomes ours when we become Active.
 *
 * Effects are carried out in this order: delete, create, update, then tell.
 */
import { type MonotonicMs, addTime, ms } from "../../base/time.ts";
import { type Flow, type FlowPlan, TCP_STATE, flowKey, tuplesSame } from "../../linux/wire-conntrack.ts";
import type { OwnFlows } from "./machine-outgoing.ts";
import type { Delivery } from "./machine-peer.ts";
import type { Entry, FlowRecord } from "./wire.ts";

export interface ReplicatedService {
  readonly name: string;
  readonly router: string;
  /** Of its connections, on this node. */
  readonly mark: number;
}

const SELF = Symbol("self");
/** Found in the kernel at start; nobody has claimed it yet. */
const UNCLAIMED = Symbol("unclaimed");

interface Held {
  owner: string | typeof SELF | typeof UNCLAIMED;
  flow: FlowRecord;
  /** The owner's snapshot that told of it last. */
  generation: number;
  /** When the kernel must be given more time, since no packet does (a peer's flows). */
  prolongAt: MonotonicMs;
  /** The kernel lost a peer's flow: put it back at the next round. */
  missing: boolean;
  /**
   * While two nodes are Active (make-before-break, a split brain) both own it, and neither insists: what the
   * other said is kept, and it is the owner once we are not Active any more.
   */
  claim: { readonly peer: string; readonly flow: FlowRecord } | undefined;
  /** It went to its owner by such a claim, and the owner has not spoken of it since. */
  handedOver: boolean;
}

type Ended = Extract<Entry, { ended: true }>["flow"];
export interface StoreEffects {
  readonly delete: Ended[];
  readonly create: FlowPlan[];
  readonly update: FlowPlan[];
  readonly tell: { readonly key: string; readonly ended?: Ended }[];
}

export const nothing = (): StoreEffects => ({ delete: [], create: [], update: [], tell: [] });

export class FlowStore {
  #byMark = new Map<number, ReplicatedService>();
  #byName = new Map<string, ReplicatedService>();
  #active: ReadonlySet<string> = new Set();
  readonly #held = new Map<string, Held>();
  readonly #generations = new Map<string, number>();
  readonly #mask: number;
  /** Entries of services that this node's site file does not have, or does not replicate. */
  unknownServices = 0;
  /** Two nodes took the same client port to different backends: each keeps its own. */
  conflicts = 0;

  /** `mask`: the bits of a connection's mark that are ours. */
  constructor(mask: number) {
    this.#mask = mask;
  }

  /** Of the peers' machines: what is ours. */
  readonly own: OwnFlows = {
    get: (key) => {
      const held = this.#held.get(key);
      return held?.owner === SELF ? held.flow : undefined;
    },
    keys: () => this.#ownKeys(),
  };
  get counts(): { readonly own: number; readonly others: number } {
    let own = 0;
    for (const { owner } of this.#held.values()) if (owner === SELF) own++;
    return { own, others: this.#held.size - own };
  }

  configure(services: readonly ReplicatedService[]): void {
    this.#byMark = new Map(services.map((service) => [service.mark, service]));
    this.#byName = new Map(services.map((service) => [service.name, service]));
  }

  /** The virtual routers that this node is Active for: their flows are ours now, those of others may go. */
  setActive(routers: ReadonlySet<string>, now: MonotonicMs): StoreEffects {
    this.#active = routers;
    const effects = nothing();
    for (const [key, held] of this.#held) {
      const active = this.#isActive(held.flow.service);
      if (active && held.owner !== SELF) {
        held.owner = SELF;
        effects.tell.push({ key });
      } else if (!active && held.owner === SELF && held.claim !== undefined) {
        const { peer, flow } = held.claim;
        if (!tuplesSame(held.flow.reply, flow.reply)) {
          const plan = this.#plan(flow);
          effects.delete.push(ended(held.flow));
          if (plan !== undefined) effects.create.push(plan);
        }
        this.#hold(key, held, peer, flow, now, true);
      }
    }
    return effects;
  }

  /** The kernel's news of a flow that we did not change ourselves. What follows is added to `effects`, here and below. */
  kernelFlow(flow: Flow, now: MonotonicMs, effects = nothing()): StoreEffects {
    const service = this.#byMark.get((flow.mark & this.#mask) >>> 0);
    if (service === undefined) return effects;
    const key = flowKey(flow);
    const known = this.#held.get(key);
    // Not ours to speak for: its owner does.
    if (known !== undefined && known.owner !== SELF && !this.#active.has(service.router)) return effects;
    if (closed(flow)) return this.kernelEnd(flow, effects);
    if (known?.owner === SELF && same(known.flow, flow, service.name)) return effects;
    this.#hold(key, known, SELF, recordOf(flow, service.name), now);
    effects.tell.push({ key });
    return effects;
  }

  /** It is closed, or gone from the kernel: peers need it no more. */
  kernelEnd(flow: Flow, effects = nothing()): StoreEffects {
    const key = flowKey(flow);
    const held = this.#held.get(key);
    // Another flow with the same addresses lives on.
    if (held === undefined || !tuplesSame(held.flow.reply, flow.reply)) return effects;
    if (held.owner === SELF) {
      this.#held.delete(key);
      effects.tell.push({ key, ended: ended(held.flow) });
    } else if (held.owner === UNCLAIMED) this.#held.delete(key);
    else held.missing = true;
    return effects;
  }

  /** A whole listing of the kernel's flows: at start, after an overrun. */
  reconcile(flows: readonly Flow[], now: MonotonicMs): StoreEffects {
    const effects = nothing();
    const seen = new Set<string>();
    for (const flow of flows) {
      if (closed(flow)) continue;
      const key = flowKey(flow);
      seen.add(key);
      const service = this.#byMark.get((flow.mark & this.#mask) >>> 0);
      const known = this.#held.get(key);
      if (known === undefined && service !== undefined && !this.#active.has(service.router))
        this.#hold(key, known, UNCLAIMED, recordOf(flow, service.name), now);
      else this.kernelFlow(flow, now, effects);
    }
    for (const [key, held] of this.#held) {
      if (seen.has(key)) continue;
      if (held.owner === SELF || held.owner === UNCLAIMED) {
        this.#held.delete(key);
        if (held.owner === SELF) effects.tell.push({ key, ended: ended(held.flow) });
      } else held.missing = true;
    }
    return effects;
  }

  /** A batch of a peer's flows. */
  remote(
    peer: string,
    delivery: Pick<Delivery, "first" | "last" | "entries">,
    now: MonotonicMs,
  ): StoreEffects {
    const effects = nothing();
    if (delivery.first) this.#generations.set(peer, (this.#generations.get(peer) ?? 0) + 1);
    for (const entry of delivery.entries) {
      if (entry.ended) this.#remoteEnd(peer, entry.flow, effects);
      else this.#remoteFlow(peer, entry.flow, effects, now);
    }
    if (delivery.last) this.#sweep(peer, effects);
    return effects;
  }

  /** Peers' flows that need more time in our kernel, and those that it lost. */
  upkeep(now: MonotonicMs): { readonly prolong: readonly FlowPlan[]; readonly create: readonly FlowPlan[] } {
    const prolong: FlowPlan[] = [];
    const create: FlowPlan[] = [];
    for (const held of this.#held.values()) {
      if (typeof held.owner !== "string" || (!held.missing && now < held.prolongAt)) continue;
      const plan = this.#plan(held.flow);
      if (plan !== undefined) (held.missing ? create : prolong).push(plan);
      held.missing = false;
      held.prolongAt = prolongAt(held.flow, now);
    }
    return { prolong, create };
  }
  /** The kernel does not have it (any more): `upkeep` puts it back. */
  lost(flow: Pick<Flow, "protocol" | "original">): void {
    const held = this.#held.get(flowKey(flow));
    if (held !== undefined) held.missing = true;
  }

  #remoteFlow(peer: string, flow: FlowRecord, effects: StoreEffects, now: MonotonicMs): void {
    const service = this.#byName.get(flow.service);
    const plan = this.#plan(flow);
    if (service === undefined || plan === undefined) {
      this.unknownServices++;
      return;
    }
    const key = flowKey(flow);
    const known = this.#held.get(key);
    const active = this.#active.has(service.router);
    const conflict = known !== undefined && !tuplesSame(known.flow.reply, flow.reply);
    if (conflict) this.conflicts++;
    if (known?.owner === SELF && active) {
      known.claim = { peer, flow };
      // In a hand-over its first FIN passed through the other node, and we see the last acknowledgement at most.
      if (!conflict && closing(flow) && !closing(known.flow)) {
        known.flow = flow;
        effects.update.push(plan);
      }
      return;
    }
    if (conflict) {
      effects.delete.push(ended(known.flow));
      effects.create.push(plan);
    } else (known === undefined || known.missing ? effects.create : effects.update).push(plan);
    this.#hold(key, known, active ? SELF : peer, flow, now);
    if (active) effects.tell.push({ key });
  }

  #remoteEnd(peer: string, flow: Ended, effects: StoreEffects): void {
    const key = flowKey(flow);
    const known = this.#held.get(key);
    if (known === undefined) return;
    if (known.owner === SELF && this.#isActive(known.flow.service)) {
      // It ended there; here it goes on. A peer that is Active as well keeps its own view.
      if (known.claim?.peer === peer) known.claim = undefined;
      else effects.tell.push({ key });
      // Or it was closed through the other node while both were Active: without a packet it goes soon.
      const plan = this.#plan(known.flow);
      if (plan !== undefined) effects.update.push({ ...plan, timeout: Math.min(plan.timeout, UNPROVEN) });
      return;
    }
    this.#held.delete(key);
    effects.delete.push(flow);
  }

  /** What a snapshot did not mention is gone at its owner. */
  #sweep(peer: string, effects: StoreEffects): void {
    const generation = this.#generations.get(peer) ?? 0;
    for (const [key, held] of this.#held) {
      if (held.owner !== peer || held.generation >= generation) continue;
      if (held.handedOver) {
        // Perhaps neither of us is Active now: better an entry too many than a connection lost.
        held.owner = UNCLAIMED;
        continue;
      }
      this.#held.delete(key);
      effects.delete.push(ended(held.flow));
    }
  }

  /** `known` is what is held under this key so far: it is changed in place. */
  #hold(
    key: string,
    known: Held | undefined,
    owner: Held["owner"],
    flow: FlowRecord,
    now: MonotonicMs,
    handedOver = false,
  ): void {
    const generation = typeof owner === "string" ? (this.#generations.get(owner) ?? 0) : 0;
    const at = prolongAt(flow, now);
    if (known === undefined) {
      const missing = false;
      const claim = undefined;
      this.#held.set(key, { owner, flow, generation, prolongAt: at, missing, handedOver, claim });
      return;
    }
    known.owner = owner;
    known.flow = flow;
    known.generation = generation;
    known.prolongAt = at;
    known.missing = false;
    known.handedOver = handedOver;
    if (owner !== SELF) known.claim = undefined;
  }
  #isActive(service: string): boolean {
    const router = this.#byName.get(service)?.router;
    return router !== undefined && this.#active.has(router);
  }
  #plan(flow: FlowRecord): FlowPlan | undefined {
    const mark = this.#byName.get(flow.service)?.mark;
    if (mark === undefined) return undefined;
    // Written out: of all that is done per flow, spreading was the dearest.
    const { family, protocol, original, reply, tcpState, windowScales } = flow;
    const timeout = Math.min(flow.timeout, LONGEST);
    return { family, protocol, original, reply, mark, timeout, tcpState, windowScales };
  }
  *#ownKeys(): Iterable<string> {
    for (const [key, { owner }] of this.#held) if (owner === SELF) yield key;
  }
}

/**
 * Seconds that a peer's flow lives here unless it is prolonged, which it is at a third: so it has at least the 2 h 4 min
 * of RFC 5382 (REQ-5) left when we take it over, until its next packet gives it the kernel's own time. Not longer,
 * since one whose end was never told (its node died) is in the table for so long.
 */
const LONGEST = 11_160;
/** Seconds for a flow that ended elsewhere: as long as the kernel keeps a closed one. A packet gives it all its time. */
const UNPROVEN = 120;
/** At a third of its time, so that two rounds may fail. */
const prolongAt = (flow: FlowRecord, now: MonotonicMs): MonotonicMs =>
  addTime(now, ms((Math.min(flow.timeout, LONGEST) * 1000) / 3));

/** TIME_WAIT and CLOSE: nothing can be lost any more, and the client may use the port again for another backend. */
const closed = ({ tcpState }: Flow): boolean =>
  tcpState === TCP_STATE.TIME_WAIT || tcpState === TCP_STATE.CLOSE;

const closing = ({ tcpState }: FlowRecord): boolean => tcpState >= TCP_STATE.FIN_WAIT;

const ended = ({ family, protocol, original, service }: FlowRecord): Ended => ({
  family,
  protocol,
  original,
  service,
});

function recordOf(flow: Flow, service: string): FlowRecord {
  const { family, protocol, original, reply, timeout, tcpState, windowScales } = flow;
  return { service, family, protocol, original, reply, timeout, tcpState, windowScales };
}

/** Whether a peer would do the same with it: a new lifetime alone is no news. */
const same = (known: FlowRecord, flow: Flow, service: string): boolean =>
  known.tcpState === flow.tcpState &&
  known.service === service &&
  tuplesSame(known.reply, flow.reply) &&
  known.windowScales?.[0] === flow.windowScales?.[0] &&
  known.windowScales?.[1] === flow.windowScales?.[1];
