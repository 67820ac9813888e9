/** One step of a group under way: the state so far, the effects so far, and the moves that both kinds share. */
import { type DurationMs, type MonotonicMs, NEVER, addTime, timeSince } from "../../base/time.ts";
import { MAINTENANCE, type RouterState } from "../../contracts/redundancy.ts";
import { awaited, unsynced, withheld } from "./machine-flows.ts";
import { type VrrpEffect, type VrrpEvent, stepVrrp } from "../vrrp/machine.ts";
import {
  type GroupContext,
  type GroupEffect,
  type GroupState,
  type GroupStep,
  type GroupTimer,
  type Link,
  type Peer,
  REHOOK_EVERY,
  isOut,
  vrrpConfig,
} from "./machine-state.ts";

export class Turn {
  readonly context: GroupContext;
  /** Why the last instance changed its state in this turn. */
  lastReason = "";
  #state: GroupState;
  readonly #effects: GroupEffect[] = [];

  constructor(state: GroupState, context: GroupContext) {
    this.#state = state;
    this.context = context;
  }
  get state(): GroupState {
    return this.#state;
  }
  finish(): GroupStep {
    return { state: this.#state, effects: this.#effects };
  }
  patch(change: Partial<GroupState>): void {
    this.#state = { ...this.#state, ...change };
  }
  patchLink(index: number, change: Partial<Link>): void {
    this.patch({
      links: this.#state.links.map((link, i) => (i === index ? { ...link, ...change } : link)),
    });
  }
  arm(timer: GroupTimer, at: MonotonicMs): void {
    this.patch({ deadlines: { ...this.#state.deadlines, [timer]: at } });
  }
  push(...effects: readonly GroupEffect[]): void {
    // Behind the gate nothing makes the addresses come.
    const waits = ({ type }: GroupEffect): boolean =>
      type === "hold" || type === "announce" || type === "hook";
    this.#effects.push(...(this.#state.gated ? effects.filter((effect) => !waits(effect)) : effects));
  }

  /** Delivers an event to one instance. Its change of state is the group's to make of what it will. */
  one(index: number, event: VrrpEvent): readonly VrrpEffect[] {
    const link = this.#state.links[index];
    if (!link) return [];
    const { plan } = this.context;
    const preempt = plan.preempt && !this.#mustNotPreempt(link);
    const config = vrrpConfig(plan, this.#state.failing, link, preempt);
    const step = stepVrrp(link.vrrp, event, { now: this.context.now, config });
    this.patchLink(index, { vrrp: step.state });
    for (const effect of step.effects) this.#translate(index, effect);
    return step.effects;
  }
  /** Nor does a node that slept take back what another one took over meanwhile, before it has its connections. */
  #mustNotPreempt({ vrrp }: Link): boolean {
    return (vrrp.name === "backup" || vrrp.suspect) && withheld(this.#state, this.context) !== undefined;
  }
  all(event: VrrpEvent): void {
    this.#state.links.forEach((_, index) => this.one(index, event));
  }
  #translate(index: number, effect: VrrpEffect): void {
    if (effect.type === "advertise") this.push({ type: "advertise", index, priority: effect.priority });
    else if (effect.type === "count") this.push(effect);
    else if (effect.type === "changed") this.lastReason = effect.reason;
    else this.#reannounce(effect.reason);
  }
  /**
   * Another node's hello. One that was Active without this node's knowledge, and is no more, has left its
   * addresses in the neighbours' tables; its last advertisement may have been lost, or it died before it.
   */
  heardPeer(node: string, peer: Peer): void {
    const before = this.#state.peers[node];
    const active = this.#state.name === "active";
    // While it is Active, too, the election speaks; what it claimed is looked at once that is over.
    const known = active && peer.state === "active" ? before : peer;
    const { life, claims } = known ?? { life: 0, claims: 0 };
    this.patch({ peers: { ...this.#state.peers, [node]: { ...peer, life, claims } } });
    if (!active || known === before) return;
    const reborn = peer.life > (before?.life ?? 0);
    if (claims > (reborn ? 0 : (before?.claims ?? 0)))
      this.#reannounce(`${node} was Active, too, and gave way`);
    else if (before && reborn) this.push({ type: "announce", why: `${node} was started again` });
  }
  /** Healed: whoever heard the other one must learn again, and what the hooks moved must be moved again. */
  #reannounce(reason: string): void {
    const { now, plan } = this.context;
    const lacks = this.#state.flows !== undefined && unsynced(this.#state, this.context) !== undefined;
    if (plan.flows !== undefined && lacks) {
      // Whoever is served by the other node stays there until its connections are here.
      if (this.#state.healing === undefined) this.arm("heal", addTime(now, plan.flows.handover));
      this.patch({ healing: reason });
      return;
    }
    this.healed(reason);
  }
  healed(reason: string): void {
    const { now } = this.context;
    this.patch({ healing: undefined });
    this.arm("heal", NEVER);
    // Held anew, since a lease may have run out during a stall.
    this.push({ type: "hold" }, { type: "announce", why: reason });
    if (timeSince(now, this.#state.rehookedAt) < REHOOK_EVERY) return;
    this.patch({ rehookedAt: now });
    this.push({ type: "hook", hook: "active", previous: "active", reason });
  }

  announce(timer: GroupTimer, next: MonotonicMs, why: string): void {
    this.arm(timer, next);
    this.push({ type: "announce", why });
  }

  #change(to: RouterState, reason: string): void {
    const from = this.#state.name;
    this.patch({
      name: to,
      reason,
      since: this.context.now,
      transitions: this.#state.transitions + (from === to ? 0 : 1),
    });
    if (from === to) return;
    if (to === "active") this.patch({ claims: this.#state.claims + 1 });
    this.push({ type: "changed", from, to, reason });
    if (to !== "initialize") this.push({ type: "hook", hook: to, previous: from, reason });
  }

  /** Into the election, once nothing fails. */
  join(reason: string): void {
    const { links, failing } = this.#state;
    const down = links.find(({ up }) => !up);
    const fault = failing.find(({ lower }) => lower === undefined);
    if (down || fault) {
      this.push({ type: "count", counter: "faults" });
      this.#change("fault", down?.reason ?? `${fault?.name}: ${fault?.reason}`);
      return;
    }
    this.all({ type: "start", resume: this.#state.resume });
    this.patch({ resume: false });
    if (this.#state.links.some(({ vrrp }) => vrrp.name === "active")) this.#entered(this.lastReason);
    else this.#change("backup", reason);
  }

  /** Every link is silent. Each instance advertises first; then the addresses. */
  takeOver(): void {
    this.all({ type: "timer" });
    this.push({ type: "count", counter: "takeovers" });
    this.#entered(this.lastReason);
  }
  #entered(reason: string): void {
    const { now, plan } = this.context;
    if (plan.flows !== undefined && awaited(this.#state)) {
      this.patch({ gated: true });
      this.arm("gate", plan.flows.otherwise === "wait" ? NEVER : addTime(now, plan.flows.takeover));
      this.push({ type: "count", counter: "flows_gates" });
      this.push({
        type: "tell",
        event: "redundancy.flows_awaited",
        reason: "connections are still arriving",
      });
    }
    this.push({ type: "hold" }, { type: "announce", why: reason });
    this.#armAnnouncements();
    this.#change("active", reason);
  }
  /** The connections are here, or were waited for long enough. */
  openGate(why: string, expired: boolean): void {
    if (!this.#state.gated) return;
    this.patch({ gated: false });
    this.arm("gate", NEVER);
    if (expired) this.push({ type: "count", counter: "flows_gates_expired" });
    this.push({ type: "tell", event: "redundancy.flows_gate_opened", reason: why });
    this.push({ type: "hold" }, { type: "announce", why });
    this.push({ type: "hook", hook: "active", previous: "backup", reason: why });
    this.#armAnnouncements();
  }
  #armAnnouncements(): void {
    const { now, plan } = this.context;
    const soon = (span: DurationMs): MonotonicMs => (span > 0 ? addTime(now, span) : NEVER);
    this.arm("again", soon(plan.announce.again));
    this.arm("lease", soon(plan.lease));
    this.arm("refresh", soon(plan.announce.refresh));
    this.arm("watch", now);
    this.patch({ rehookedAt: now, tieSince: NEVER, weakSince: NEVER });
  }

  /** Taking over from a node that serves on: it lets go when it hears the advertisement, which comes last. */
  take(from: string): void {
    const reason = `handed over by ${from}`;
    this.push({ type: "hold" }, { type: "announce", why: reason });
    this.all({ type: "promote", reason });
    this.push({ type: "count", counter: "handovers_taken" });
    this.#armAnnouncements();
    this.#change("active", reason);
  }

  /** A better one is heard on one link: the others follow, and the addresses go. */
  lost(reason: string, index: number): void {
    this.state.links.forEach((_, i) => {
      if (i !== index) this.one(i, { type: "yield", reason, keep: false });
    });
    this.settle("another node took over");
    this.#left("backup", reason);
    if (this.#state.stopping) this.shutDown("stopped");
  }

  /** The node that was offered the addresses is heard as Active. */
  given(reason: string): void {
    const { handover } = this.#state;
    const keep = handover.kind === "giving" && handover.requester.kind !== "self";
    this.all({ type: "yield", reason, keep });
    // The instance that heard it has left Active already, and is to forget a hand-over of the node's own.
    this.state.links.forEach((link, i) => this.patchLink(i, { vrrp: { ...link.vrrp, yielded: keep } }));
    this.push({ type: "count", counter: "handovers_given" });
    this.#left("backup", reason);
    this.settle("");
    if (this.#state.stopping) this.shutDown("stopped");
  }

  /** Whom an operator has brought back goes by the site file alone: what it gave away when it went out is forgotten. */
  broughtBack(name: string): void {
    if (name !== MAINTENANCE || !isOut(this.#state)) return;
    this.state.links.forEach((link, i) => this.patchLink(i, { vrrp: { ...link.vrrp, yielded: false } }));
  }

  #left(to: RouterState, reason: string): void {
    for (const timer of ["again", "lease", "refresh", "watch", "gate", "yield", "heal"] as const)
      this.arm(timer, NEVER);
    this.patch({ gated: false, yielding: undefined, healing: undefined });
    this.push({ type: "release" });
    this.#change(to, reason);
  }

  fault(reason: string): void {
    const active = this.#state.name === "active";
    this.all({ type: "shutdown", reason });
    this.push({ type: "count", counter: "faults" });
    if (active) this.push({ type: "count", counter: "releases" });
    this.settle(reason);
    if (active) this.#left("fault", reason);
    else this.#change("fault", reason);
  }

  /** Out of the election for good. */
  shutDown(reason: string): void {
    const active = this.#state.name === "active";
    this.all({ type: "shutdown", reason });
    if (active) this.push({ type: "count", counter: "releases" });
    this.settle(reason);
    for (const timer of Object.keys(this.#state.deadlines)) this.arm(timer as GroupTimer, NEVER);
    this.patch({ gated: false, yielding: undefined, healing: undefined });
    if (active) this.push({ type: "release" });
    this.#change("initialize", reason);
    this.push({ type: "stopped" });
  }

  /** Release to routers that are no nodes of this site: priority 0, and their skew time. */
  releaseToForeign(reason: string): void {
    this.state.links.forEach((_, index) => this.push({ type: "advertise", index, priority: 0 }));
    this.push({ type: "count", counter: "releases" });
    this.all({ type: "yield", reason, keep: true });
    this.#left("backup", reason);
  }

  /** Ends a hand-over, however it ended, and tells whoever waits; `error` is empty where it came about. */
  settle(error: string): void {
    const { handover } = this.#state;
    if (handover.kind === "none") return;
    this.patch({ handover: { kind: "none" } });
    this.arm("handover", NEVER);
    this.arm("offer", NEVER);
    const outcome = error === "" ? { ok: true } : { ok: false, error };
    if (handover.kind === "asking") this.push({ type: "result", id: handover.command, ...outcome });
    if (handover.kind !== "giving") return;
    if (error !== "") this.push({ type: "count", counter: "handovers_failed" });
    const { requester } = handover;
    if (requester.kind === "command") this.push({ type: "result", id: requester.id, ...outcome });
    if (requester.kind === "node") {
      const { router } = this.context.plan;
      this.push({
        type: "message",
        to: requester.node,
        message: { type: "answer", router, id: requester.id, error },
      });
    }
  }

  /** Another plan with the same instances: nothing flaps, and what is announced changes at once. */
  replanned(): void {
    const known = new Set(this.context.plan.tracks.map(({ name }) => name));
    const lowers = new Map(this.context.plan.tracks.map(({ name, lower }) => [name, lower]));
    const own = (name: string): boolean => !known.has(name) && name.startsWith("nines ");
    this.patch({
      failing: this.#state.failing
        .filter(({ name }) => known.has(name) || own(name))
        .map((failing) => (own(failing.name) ? failing : { ...failing, lower: lowers.get(failing.name) })),
    });
    this.all({ type: "configured" });
  }
}
