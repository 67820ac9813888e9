/**
 * Who owns which flow, and what follows: pure. A flow belongs to the node through which its packets pass: the
 * one that is Active for its service's virtual router. Owned flows are told to the peers; what peers own is held
 * in our kernel for them, and becomes ours when we become Active.
 */
import { type MonotonicMs, instant, timeSince } from "../../base/time.ts";
import { type Flow, type FlowPlan, flowKey, tuplesSame } from "../../linux/wire-conntrack.ts";
import { type Held, SELF, UNCLAIMED } from "./held.ts";
import {
  ANSWERED_FOR,
  type Ended,
  LONGEST,
  closed,
  closing,
  ended,
  halfOpen,
  prolongAt,
  recordOf,
  same,
  unproven,
} from "./machine-flow.ts";
import type { OwnFlows } from "./machine-outgoing.ts";
import type { Delivery } from "./machine-peer.ts";
import { NO_WORD, Terms, type Word } from "./machine-terms.ts";
import { type ReplicatedService, Services } from "./machine-services.ts";
import { type Clash, type StoreEffects, type Upkeep, nothing } from "./store-effects.ts";
import type { FlowRecord } from "./wire.ts";

/** A flow, and its backend. */
type Name = Pick<Flow, "protocol" | "original" | "reply">;

export class FlowStore {
  readonly #held = new Map<string, Held>();
  readonly #generations = new Map<string, number>();
  readonly #services: Services;
  readonly #terms: Terms;
  #leavingUntil: MonotonicMs = instant(Number.NEGATIVE_INFINITY);
  /** What each peer announced last. */
  readonly #heard = new Map<string, Delivery["terms"]>();
  /** Entries of services that this node does not have, or not yet, or does not replicate. */
  unknownServices = 0;
  /** Two nodes took the same client port to different backends: each keeps its own. */
  conflicts = 0;

  /** `mask`: the bits of a connection's mark that are ours. `node`: this one. */
  constructor(mask: number, node: string) {
    this.#services = new Services(mask);
    this.#terms = new Terms(node);
    const terms = this.#terms;
    this.own = {
      get: (key) => {
        const held = this.#held.get(key);
        return held?.owner === SELF ? held.flow : undefined;
      },
      keys: () => this.#ownKeys(),
      get terms() {
        return terms.announced;
      },
    };
  }

  /** Of the peers' machines: what is ours. */
  readonly own: OwnFlows;
  get counts(): { readonly own: number; readonly others: number } {
    let own = 0;
    for (const { owner } of this.#held.values()) if (owner === SELF) own++;
    return { own, others: this.#held.size - own };
  }

  configure(services: readonly ReplicatedService[]): void {
    this.#services.configure(services);
  }

  /**
   * Something is handed over until then: what `to` says as the next Active is right, and is not gainsaid. What anybody
   * else has said must not be the last word that it has heard.
   */
  leave(until: MonotonicMs, to: string): Pick<StoreEffects, "tell"> {
    if (until > this.#leavingUntil) this.#leavingUntil = until;
    const tell: StoreEffects["tell"] = [];
    this.#sayAll(this.#terms.insist(to), { tell });
    return { tell };
  }

  /** The virtual routers that this node is Active for: their flows are ours now, those of others may go. */
  setActive(routers: ReadonlySet<string>, now: MonotonicMs): StoreEffects {
    this.#services.active = routers;
    this.#terms.setActive(routers);
    const effects = nothing();
    for (const [key, held] of this.#held) {
      const active = this.#services.isActive(held.flow.service);
      if (active && held.owner !== SELF) {
        held.owner = SELF;
        effects.tell.push({ key });
        // Nobody else puts it back now, and its packets are on their way.
        const plan = held.missing ? this.#services.plan(held.flow) : undefined;
        held.missing = false;
        if (plan !== undefined) effects.create.push(plan);
      } else if (!active && held.owner === SELF && held.claim !== undefined) {
        const { peer, flow, word } = held.claim;
        if (!this.#terms.later(peer, word, this.#services.routerOf(flow.service))) continue; // it will hear our word
        if (!tuplesSame(held.flow.reply, flow.reply)) {
          const plan = this.#services.plan(flow);
          effects.delete.push(ended(held.flow));
          if (plan !== undefined) effects.create.push(plan);
        }
        this.#hold(key, held, peer, flow, now, word.term);
      }
    }
    return effects;
  }

  /**
   * Those in their handshake while these routers are handed over. They are told and not held: nothing is heard of how
   * they end.
   */
  handshakes(flows: readonly Flow[], routers: ReadonlySet<string>): Pick<StoreEffects, "tell"> {
    const tell: StoreEffects["tell"] = [];
    for (const flow of flows) {
      const service = this.#services.of(flow);
      if (service === undefined || !routers.has(service.router)) continue;
      const key = flowKey(flow);
      if (!this.#held.has(key)) tell.push({ key, halfOpen: recordOf(flow, service.name) });
    }
    return { tell };
  }

  /** The kernel's news of a flow that we did not change ourselves. What follows is added to `effects`, here and below. */
  kernelFlow(flow: Flow, now: MonotonicMs, effects = nothing()): StoreEffects {
    const service = this.#services.of(flow);
    if (service === undefined) return effects;
    const key = flowKey(flow);
    const known = this.#held.get(key);
    // Not ours to speak for: its owner does.
    if (known !== undefined && known.owner !== SELF && !this.#services.active.has(service.router))
      return effects;
    if (closed(flow)) return this.#end(flow, effects);
    if (known?.owner === SELF && same(known.flow, flow, service.name)) return effects;
    this.#hold(key, known, SELF, recordOf(flow, service.name), now);
    effects.tell.push({ key });
    return effects;
  }

  /** It is gone from the kernel. */
  kernelEnd(flow: Name, now: MonotonicMs, effects = nothing()): StoreEffects {
    const held = this.#held.get(flowKey(flow));
    if (held?.claim === undefined || timeSince(now, held.claim.at) >= ANSWERED_FOR)
      return this.#end(flow, effects);
    // A peer spoke of it a moment ago: its packets pass through the other node, or it is the end of the entry before.
    const same = tuplesSame(held.flow.reply, flow.reply) && tuplesSame(held.claim.flow.reply, flow.reply);
    const plan = same ? this.#services.plan(held.claim.flow) : undefined;
    if (plan === undefined) return this.#end(flow, effects);
    effects.create.push(plan);
    return effects;
  }
  /** It is closed, or gone: peers need it no more. */
  #end(flow: Name, effects: StoreEffects): StoreEffects {
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
      const service = this.#services.of(flow);
      const known = this.#held.get(key);
      if (known === undefined && service !== undefined && !this.#services.active.has(service.router))
        this.#hold(key, known, UNCLAIMED, recordOf(flow, service.name), now);
      else this.kernelFlow(flow, now, effects);
    }
    for (const [key, held] of this.#held) {
      if (seen.has(key)) continue;
      this.#end(held.flow, effects);
    }
    return effects;
  }

  /**
   * What of these effects still holds: kernel changes wait their turn, and a batch that was before them may have
   * brought another flow with the same addresses.
   */
  still(effects: StoreEffects): StoreEffects {
    const { delete: deleted, create } = effects;
    const current = (plan: FlowPlan): boolean => {
      const held = this.#held.get(flowKey(plan));
      return held !== undefined && tuplesSame(held.flow.reply, plan.reply);
    };
    const gone = new Set(create.filter((plan) => !current(plan)).map(flowKey));
    if (gone.size === 0) return effects;
    const kept = <T extends Ended | FlowPlan>(flows: T[]): T[] =>
      flows.filter((flow) => !gone.has(flowKey(flow)));
    return { ...effects, delete: kept(deleted), create: kept(create) };
  }

  /** A batch of a peer's flows. */
  remote(
    peer: string,
    delivery: Pick<Delivery, "first" | "last" | "entries"> & Partial<Pick<Delivery, "reborn" | "terms">>,
    now: MonotonicMs,
  ): StoreEffects {
    const effects = nothing();
    const { terms } = delivery;
    if (terms !== undefined && terms !== this.#heard.get(peer)) this.#hear(peer, terms, effects);
    if (delivery.first) this.#generations.set(peer, (this.#generations.get(peer) ?? 0) + 1);
    for (const entry of delivery.entries) {
      const word = terms?.get(this.#services.routerOf(entry.flow.service)) ?? NO_WORD;
      if (entry.ended) this.#remoteEnd(peer, entry.flow, word, effects);
      else this.#remoteFlow(peer, entry.flow, word, effects, now);
    }
    if (delivery.last) this.#sweep(peer, effects, delivery.reborn === true, terms);
    return effects;
  }
  /**
   * Other terms than before. Who is Active no more gives its flows to the next one, flow by flow and without a word to
   * us: whatever the next one does not speak of runs out here as it does there.
   */
  #hear(peer: string, terms: Delivery["terms"], effects: StoreEffects): void {
    const before = this.#heard.get(peer);
    this.#heard.set(peer, terms);
    this.#sayAll(this.#terms.hear(peer, terms.values()), effects);
    const gone = [...terms.values()].filter(
      (one) => !one.active && before?.get(one.router)?.active !== false,
    );
    if (gone.length === 0) return;
    const routers = new Set(gone.map(({ router }) => router));
    for (const held of this.#held.values())
      if (held.owner === peer && routers.has(this.#services.routerOf(held.flow.service)))
        held.owner = UNCLAIMED;
  }
  /** In a new term. */
  #sayAll(routers: readonly string[], { tell }: Pick<StoreEffects, "tell">): void {
    if (routers.length === 0) return;
    for (const [key, { owner, flow }] of this.#held)
      if (owner === SELF && routers.includes(this.#services.routerOf(flow.service))) tell.push({ key });
  }

  /** Every two seconds: peers' flows that need more time in our kernel, those that it lacks, ours that were doubted. */
  upkeep(now: MonotonicMs): Upkeep {
    const prolong: FlowPlan[] = [];
    const create: FlowPlan[] = [];
    const tell: { key: string }[] = [];
    if (now >= this.#leavingUntil) this.#sayAll(this.#terms.insist(), { tell });
    for (const [key, held] of this.#held) {
      if (held.owner === SELF && held.again) {
        held.again = false;
        tell.push({ key });
      }
      // What nobody claims has its time.
      if (held.owner === UNCLAIMED || (!held.missing && (held.owner === SELF || now < held.prolongAt)))
        continue;
      const plan = this.#services.plan(held.flow);
      if (plan === undefined) continue; // its service is not here (yet)
      if (this.#outlived(held)) {
        held.owner = UNCLAIMED;
        continue;
      }
      (held.missing ? create : prolong).push(plan);
      held.missing = false;
      held.prolongAt = prolongAt(held.flow, now);
    }
    return { prolong, create, tell };
  }
  /** Another node has been Active since, and has not spoken of it. */
  #outlived({ owner, term, flow }: Held): boolean {
    return (
      typeof owner === "string" && this.#terms.isOver(owner, term, this.#services.routerOf(flow.service))
    );
  }
  /** The kernel does not have it (any more), or refused it: `upkeep` puts it back. */
  lost(flow: Pick<Flow, "protocol" | "original">): void {
    const held = this.#held.get(flowKey(flow));
    if (held !== undefined) held.missing = true;
  }

  /**
   * The kernel refuses `flow`: another connection has its answers, as masqueraded ones may once their port is free
   * again. One of the two is no more. Where this node is Active it is the one that has no entry here, and the peers hear
   * so, unless a peer has said that the other ended, or who speaks of `flow` is the node that gives this port, and has
   * given it again. Elsewhere it is the copy: its end may not have been heard of yet, and no packet tells it better.
   */
  clash(flow: FlowPlan, other: Flow): Clash {
    const [key, name] = [flowKey(other), flowKey(flow)];
    const held = this.#held.get(key);
    const known = held !== undefined && tuplesSame(held.flow.reply, other.reply) ? held : undefined;
    const refused = this.#held.get(name);
    const active = this.#services.active.has(this.#services.of(flow)?.router ?? "");
    const again = refused?.claim !== undefined && refused.claim.peer === this.#services.giver(flow);
    // Of one that is not known the event is on its way.
    const lives = known === undefined || (known.owner === SELF && !known.doubted && !again);
    if (active && lives && !closed(other)) {
      if (refused === undefined || !tuplesSame(refused.flow.reply, flow.reply))
        return { delete: [], tell: [] };
      this.#held.delete(name);
      return { delete: [], tell: [{ key: name, ended: ended(refused.flow) }, { key }] };
    }
    if (known !== undefined) this.#held.delete(key);
    const own = active && known?.owner === SELF;
    return { delete: [other], tell: own ? [{ key, ended: ended(known.flow) }] : [] };
  }

  #remoteFlow(peer: string, flow: FlowRecord, word: Word, effects: StoreEffects, now: MonotonicMs): void {
    const service = this.#services.named(flow.service);
    const plan = this.#services.plan(flow);
    const key = flowKey(flow);
    const known = this.#held.get(key);
    if (service === undefined || plan === undefined) {
      this.#unknown(peer, key, flow, word, effects, now);
      return;
    }
    const later = known === undefined || this.#later(peer, word, known, service.router);
    const active = this.#services.active.has(service.router);
    const conflict = known !== undefined && !tuplesSame(known.flow.reply, flow.reply);
    // An earlier word than what we have heard: it was on its way for longer, or its node will take the next term.
    if (!active && !later) return;
    // Whatever is known of it is not before its handshake.
    if (halfOpen(flow) && known !== undefined && !conflict) return;
    if (conflict) this.conflicts++;
    if (known?.owner === SELF && active) {
      const told = known.claim?.peer === peer && timeSince(now, known.claim.at) < ANSWERED_FOR;
      known.claim = { peer, flow, word, at: told ? (known.claim?.at ?? now) : now };
      // Told back, once, where ours is the later word; else there will be one, if we stay Active.
      known.again = true;
      if (!told && !later) effects.tell.push({ key });
      if (conflict) return;
      // In a hand-over its first FIN passed through the other node, and we see the last acknowledgement at most.
      if (closing(flow) && !closing(known.flow)) {
        known.flow = flow;
        effects.update.push(plan);
      } else if (!told) {
        // Its packets may have passed through the other node for long: without time it would run out here.
        effects.lifetime.push({
          ...plan,
          timeout: Math.max(plan.timeout, Math.min(known.flow.timeout, LONGEST)),
        });
      }
      return;
    }
    if (conflict) {
      effects.delete.push(ended(known.flow));
      effects.create.push(plan);
    } else (known === undefined || known.missing ? effects.create : effects.update).push(plan);
    // Who speaks of a handshake does not hear how it ends, unless it is ours meanwhile.
    const owner = active ? SELF : word.active && !halfOpen(flow) ? peer : UNCLAIMED;
    const held = this.#hold(key, known, owner, flow, now, word.term);
    if (!active) return;
    effects.tell.push({ key });
    held.claim = { peer, flow, word, at: now };
  }
  /** Whether what a peer says of a flow is later than what we know, and from whom. */
  #later(peer: string, word: Word, { owner, term }: Held, router: string): boolean {
    if (router === "") return true; // whose service is not here: nothing is known of its terms
    if (owner === SELF) return this.#terms.later(peer, word, router);
    if (owner === UNCLAIMED || owner === peer || word.term > term) return true;
    return word.term === term && peer > owner;
  }

  /**
   * Of a service that is not here: not in the site file, or not in the kernel's tables yet, as after a start or when
   * this node reloads last. The peer will not say it again: it is kept, and put in by `upkeep` once the service is.
   */
  #unknown(
    peer: string,
    key: string,
    flow: FlowRecord,
    word: Word,
    effects: StoreEffects,
    now: MonotonicMs,
  ): void {
    this.unknownServices++;
    const known = this.#held.get(key);
    const same = known !== undefined && tuplesSame(known.flow.reply, flow.reply);
    const missing = !same || known.missing;
    if (known !== undefined && !same) effects.delete.push(ended(known.flow));
    this.#hold(key, known, peer, flow, now, word.term).missing = missing;
  }

  #remoteEnd(peer: string, flow: Ended, word: Word, effects: StoreEffects): void {
    const key = flowKey(flow);
    const known = this.#held.get(key);
    if (known === undefined) return;
    if (known.owner === SELF && this.#services.isActive(known.flow.service)) {
      // It ended there; here it goes on.
      const { claim } = known;
      const other = claim !== undefined && !tuplesSame(claim.flow.reply, known.flow.reply);
      // And the third nodes must not go without it.
      effects.tell.push({ key });
      known.again = true;
      known.doubted = true;
      if (claim?.peer === peer) known.claim = undefined;
      if (claim?.peer === peer && other) return;
      // Or it was closed through the other node while both were Active: without a packet it goes soon.
      const plan = this.#services.plan(known.flow);
      if (plan !== undefined) effects.lifetime.push(unproven(plan));
      return;
    }
    if (
      !this.#later(peer, word, known, this.#services.routerOf(known.flow.service)) &&
      !(known.owner === SELF && word.active)
    ) {
      // The end of an earlier one; but where an Active says so, nobody prolongs it until its owner speaks again.
      if (word.active) known.owner = UNCLAIMED;
      return;
    }
    this.#held.delete(key);
    effects.delete.push(flow);
    // Whoever heard of it from us meanwhile, this peer included, holds it by our word.
    if (known.owner === SELF) effects.tell.push({ key, ended: flow });
  }

  /**
   * What a snapshot did not mention is gone at its owner. One that was reborn may have lost its kernel as well, or not
   * know yet what is active there: its flows stay for a while, for whoever takes over. What an earlier Active owned, and
   * the present one does not mention, nobody prolongs.
   */
  #sweep(peer: string, effects: StoreEffects, reborn: boolean, terms: Delivery["terms"] | undefined): void {
    const generation = this.#generations.get(peer) ?? 0;
    for (const [key, held] of this.#held) {
      if (held.owner === SELF) continue;
      const { active, term } = terms?.get(this.#services.routerOf(held.flow.service)) ?? NO_WORD;
      if (held.owner !== peer) {
        if (!active || (held.owner !== UNCLAIMED && held.term >= term)) continue;
        held.owner = UNCLAIMED;
        // Found at a start, or of an Active before: whatever it is, the present one does not know it.
        const plan = this.#services.plan(held.flow);
        if (plan !== undefined) effects.lifetime.push(unproven(plan));
        continue;
      }
      if (held.generation >= generation) continue;
      if (reborn) {
        // Better an entry too many than a connection lost.
        held.owner = UNCLAIMED;
        const plan = this.#services.plan(held.flow);
        if (plan !== undefined) effects.lifetime.push(unproven(plan));
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
    term = 0,
  ): Held {
    const generation = typeof owner === "string" ? (this.#generations.get(owner) ?? 0) : 0;
    const at = prolongAt(flow, now);
    if (known === undefined) {
      const fresh: Held = {
        owner,
        flow,
        generation,
        prolongAt: at,
        missing: false,
        term,
        claim: undefined,
        again: false,
        doubted: false,
      };
      this.#held.set(key, fresh);
      return fresh;
    }
    // What was said of an earlier flow with these addresses counts no more.
    if (owner !== SELF || !tuplesSame(known.flow.reply, flow.reply)) known.claim = undefined;
    known.owner = owner;
    known.flow = flow;
    known.generation = generation;
    known.prolongAt = at;
    known.missing = false;
    known.term = term;
    known.again = false;
    known.doubted = false;
    return known;
  }
  *#ownKeys(): Iterable<string> {
    for (const [key, { owner }] of this.#held) if (owner === SELF) yield key;
  }
}
