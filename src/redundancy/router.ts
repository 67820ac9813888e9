/**
 * One virtual router of the site on this node: feeds its group machine with what happens, in the order in
 * which it happens, and carries out the effects, in the order in which they stand.
 */
import type { IpAddress } from "../base/addresses.ts";
import type { Log } from "../base/log.ts";
import {
  type Clock,
  type DurationMs,
  type MonotonicMs,
  NEVER,
  type Timer,
  addTime,
  ms,
  timeSince,
} from "../base/time.ts";
import type { RouterPlan, RouterStatus } from "../contracts/redundancy.ts";
import type { Announcer } from "../linux/announce.ts";
import type { AddressKeeper, Placed } from "./addresses.ts";
import { nextGroupDeadline, stepGroup } from "./group/machine.ts";
import { waitsFor } from "./group/machine-flows.ts";
import {
  type GroupEffect,
  type GroupEvent,
  type GroupState,
  type NodeMessage,
  PEER_FRESH,
  type Peer,
  effectivePriority,
  initialGroup,
  isEligible,
} from "./group/machine-state.ts";
import type { HookRunner } from "./hooks.ts";
import type { LinkWatch } from "./links.ts";
import type { Advertisement, ChecksumForm } from "./vrrp/packet.ts";
import type { Listener, VrrpSockets } from "./vrrp/service.ts";

/** Node's timers are whole milliseconds; later than this a timer has been held up. */
export const LATE = 3;

export interface RouterOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly node: string;
  readonly plan: RouterPlan;
  readonly firstId: number;
  readonly links: LinkWatch;
  readonly sockets: VrrpSockets;
  readonly keeper: AddressKeeper;
  readonly announcer: Announcer;
  readonly hooks: HookRunner;
  /** The virtual addresses of all routers of this node: none is ever a source. */
  readonly virtual: () => ReadonlySet<IpAddress>;
  /** The freshness of this router's addresses: renewed at once, or closed at once. */
  readonly fence: {
    renew(): void;
    settle(addresses: readonly IpAddress[]): void;
    close(addresses: readonly IpAddress[]): void;
  };
  readonly send: (to: string, message: NodeMessage) => void;
  readonly onResult: (result: Extract<GroupEffect, { type: "result" }>) => void;
  /** What hello and status tell is another thing now. */
  readonly onChange: () => void;
  readonly onEvent: (event: string, fields: Readonly<Record<string, unknown>>) => void;
  readonly onStopped: () => void;
  /** Calls back exactly once, at the latest after `within`. */
  readonly flush: (to: string, within: DurationMs, done: (ok: boolean, reason: string) => void) => void;
  /** A timer was late: everything that has arrived anywhere is to be read first. */
  readonly drain: () => void;
}

export class RouterRunner {
  readonly #options: RouterOptions;
  #plan: RouterPlan;
  #state: GroupState;
  #listeners: Listener[] = [];
  #forms: ChecksumForm[] = [];
  #sendFailed: boolean[] = [];
  #timer: Timer | undefined;
  #timerAt: MonotonicMs = NEVER;
  /** The deadline whose lateness is known already. */
  #wokeFor: MonotonicMs = NEVER;
  #announceTimer: Timer | undefined;
  #leftover = false;
  #stopped = false;
  readonly counters: Record<string, number> = {};

  constructor(options: RouterOptions) {
    this.#options = options;
    this.#plan = options.plan;
    this.#state = initialGroup(this.#context(), options.firstId);
  }
  get plan(): RouterPlan {
    return this.#plan;
  }
  get state(): GroupState {
    return this.#state;
  }
  get holds(): boolean {
    return this.#options.keeper.held;
  }

  start(): void {
    this.#listeners = this.#plan.instances.map((_, index) => this.#listener(index));
    this.#forms = this.#plan.instances.map(() =>
      this.#plan.checksum === "pseudo-header" ? "pseudo-header" : "rfc",
    );
    this.#leftover = this.#options.keeper.leftovers();
    this.linksChanged();
    this.step({ type: "start", resume: this.#leftover });
  }

  /** Another plan with the same instances. */
  replan(plan: RouterPlan): void {
    this.#plan = plan;
    this.#options.keeper.replan(plan);
    for (const [index, old] of this.#listeners.entries()) {
      this.#options.sockets.unlisten(old);
      const listener = this.#listener(index, old);
      this.#listeners[index] = listener;
      this.#options.sockets.listen(listener);
    }
    if (plan.checksum !== "auto") this.#forms = this.#forms.map(() => plan.checksum as ChecksumForm);
    this.linksChanged();
    this.step({ type: "planned" });
  }

  step(event: GroupEvent): void {
    const before = effectivePriority(this.#plan, this.#state.failing);
    const step = stepGroup(this.#state, event, this.#context());
    this.#state = step.state;
    // Before the offer of a hand-over, perhaps: the others know by it whom they hear.
    if (effectivePriority(this.#plan, step.state.failing) !== before) this.#options.onChange();
    for (const effect of step.effects) this.#apply(effect);
    if (!this.#stopped) this.#arm();
  }

  /** The interfaces are not what they were. */
  linksChanged(): void {
    const virtual = this.#options.virtual();
    this.#plan.instances.forEach((instance, index) => {
      const { interface: name, family, source: wanted } = instance;
      const usable = this.#options.links.usable(name, family, virtual, wanted);
      const old = this.#listeners[index];
      if (!old) return;
      let { up, reason } = usable;
      if (old.ifindex !== usable.ifindex || old.own !== usable.source) {
        this.#options.sockets.unlisten(old);
        const listener: Listener = { ...old, ifindex: usable.ifindex, own: usable.source };
        this.#listeners[index] = listener;
      }
      const listener = this.#listeners[index];
      if (up && listener && !this.#options.sockets.listen(listener)) {
        up = false;
        reason = `no VRRP socket on ${name}`;
      }
      const link = this.#state.links[index];
      if (link && (link.up !== up || link.reason !== reason || (up && link.source !== usable.source)))
        this.step({ type: "link", index, up, reason, source: usable.source });
    });
  }

  /** A timer of this process was late by this much: decide before anything is sent or renewed. */
  woke(late: DurationMs): void {
    this.step({ type: "woke", late });
  }
  /** Lets what is due happen now. */
  settle(): void {
    this.step({ type: "timer" });
  }

  renew(): readonly Placed[] {
    return this.#options.keeper.held ? this.#options.keeper.hold() : [];
  }
  /**
   * This process ends, and another goes on soon. The last advertisement names a longer interval, which the others
   * learn (RFC 9568, 6.4.2): they wait for three of it. Version 2 cannot say so.
   */
  linger(grace: DurationMs): void {
    if (this.#state.name !== "active") return;
    const { keeper } = this.#options;
    const interval = ms(Math.max(this.#plan.interval, Math.ceil(grace / 30) * 10));
    // Kept until the others, should nobody come, have surely taken over: whole seconds for the kernel's clock.
    keeper.hold(ms(Math.ceil((4 * interval) / 1000) * 1000));
    if (this.#plan.version === 2) return;
    const priority = effectivePriority(this.#plan, this.#state.failing);
    this.#listeners.forEach((listener, i) => {
      this.#options.sockets.send(listener, priority, this.#forms[i] ?? "rfc", keeper.senderLink(i), interval);
    });
  }
  peer(node: string, peer: Peer): void {
    this.step({ type: "peer", node, peer });
  }
  hello(): Omit<Peer, "at"> {
    const state = this.#state;
    const priority = effectivePriority(this.#plan, state.failing);
    return {
      state: state.name,
      priority,
      eligible: isEligible(state),
      life: state.life,
      claims: state.claims,
    };
  }

  status(): RouterStatus {
    const { name, reason, failing, transitions, since, links, peers } = this.#state;
    const { clock, node, keeper } = this.#options;
    const priority = effectivePriority(this.#plan, failing);
    const now = clock.monotonic();
    const heard = links.map(({ vrrp }) => vrrp.heard).find((h) => h !== undefined && h.priority > 0);
    const own = links[0]?.source;
    const active =
      name === "active"
        ? own && { node, address: own, priority }
        : heard && {
            node: Object.entries(peers).find(
              ([, peer]) => peer.state === "active" && now - peer.at < 3000,
            )?.[0],
            address: heard.source,
            priority: heard.priority,
          };
    return {
      router: this.#plan.router,
      state: name,
      reason,
      priority,
      basePriority: this.#plan.priority,
      failing,
      active,
      others: Object.entries(peers).flatMap(([peer, { at, state, priority: theirs }]) =>
        peer !== node && now - at < PEER_FRESH ? [{ node: peer, state, priority: theirs }] : [],
      ),
      addresses: keeper.all,
      waiting: waitsFor(this.#state, this.#context()),
      transitions,
      since: timeSince(now, since),
      counters: { ...this.counters },
    };
  }

  /** Ends the shell; the kernel keeps what it has. */
  close(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#announceTimer?.cancel();
    for (const listener of this.#listeners) this.#options.sockets.unlisten(listener);
  }

  #context() {
    const { clock, node } = this.#options;
    return { now: clock.monotonic(), node, plan: this.#plan };
  }
  #count(counter: string): void {
    this.counters[counter] = (this.counters[counter] ?? 0) + 1;
  }

  #listener(index: number, old?: Listener): Listener {
    const instance = this.#plan.instances[index];
    if (!instance) throw new RangeError(`no instance ${index}`);
    return {
      plan: this.#plan,
      instance,
      ifindex: old?.ifindex,
      own: old?.own,
      heard: (source, advertisement, form) => this.#heard(index, source, advertisement, form),
      count: (counter) => this.#count(counter),
    };
  }
  #heard(index: number, source: IpAddress, advertisement: Advertisement, form: ChecksumForm): void {
    // After a stall, packets may come before the timer that is overdue: it is the stall that counts.
    const late = timeSince(this.#options.clock.monotonic(), this.#timerAt);
    if (late > LATE && this.#wokeFor !== this.#timerAt) {
      this.#wokeFor = this.#timerAt;
      this.woke(late);
    }
    // `auto` answers in the dialect that it hears: keepalived's pseudo-header, or the RFC's none.
    if (this.#plan.checksum === "auto") this.#forms[index] = form;
    if (!sameAddresses(advertisement.addresses, this.#plan, index)) this.#count("odd_other_addresses");
    const { priority, interval } = advertisement;
    this.step({ type: "advertisement", index, source, priority, interval });
    if (this.#leftover && priority > 0 && this.#state.name !== "active") this.#dropLeftovers();
  }
  /** What an earlier process of this node left to its lease, now that another node is Active. */
  #dropLeftovers(): void {
    this.#leftover = false;
    this.#options.fence.close(this.#options.keeper.all);
    this.#options.keeper.release();
  }

  #arm(): void {
    const at = nextGroupDeadline(this.#state);
    if (at === this.#timerAt && this.#timer) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#timerAt = at;
    if (at === NEVER) return;
    this.#timer = this.#options.clock.setTimer(at, () => {
      this.#timer = undefined;
      this.#timerAt = NEVER;
      const late = timeSince(this.#options.clock.monotonic(), at);
      if (late > LATE) {
        this.#count("late_timers");
        this.woke(late);
        this.#options.drain();
      }
      this.step({ type: "timer" });
    });
  }

  #apply(effect: GroupEffect): void {
    const { fence, keeper, send, onResult, onStopped } = this.#options;
    switch (effect.type) {
      case "advertise":
        this.#advertise(effect.index, effect.priority);
        break;
      case "hold":
        this.#leftover = false;
        if (!keeper.held) fence.settle(this.plan.flows?.settle ?? []);
        keeper.hold();
        fence.renew();
        break;
      case "release":
        this.#announceTimer?.cancel();
        this.#announceTimer = undefined;
        keeper.release();
        fence.close(keeper.all);
        break;
      case "announce":
        this.#announce(effect.why);
        break;
      case "hook":
        this.#hook(effect);
        break;
      case "changed":
        this.#changed(effect);
        break;
      case "message":
        send(effect.to, effect.message);
        break;
      case "result":
        onResult(effect);
        break;
      case "flush":
        this.#flush(effect);
        break;
      case "tell":
        this.#options.log.warn({ event: effect.event, reason: effect.reason, router: this.#plan.router });
        this.#options.onEvent(effect.event, { router: this.#plan.router, reason: effect.reason });
        break;
      case "count":
        this.#count(effect.counter);
        break;
      case "stopped":
        this.#stopped = true;
        onStopped();
        break;
    }
  }

  #advertise(index: number, priority: number): void {
    const listener = this.#listeners[index];
    if (!listener) return;
    const { keeper, sockets, log } = this.#options;
    const errno = sockets.send(listener, priority, this.#forms[index] ?? "rfc", keeper.senderLink(index));
    const fields = { router: this.#plan.router, interface: listener.instance.interface };
    if (errno === 0) {
      this.#count("advertisements_sent");
      if (this.#sendFailed[index] === true) {
        this.#sendFailed[index] = false;
        log.info({
          event: "vrrp.send_recovered",
          reason: "the kernel takes advertisements again",
          ...fields,
        });
        // Nobody heard this node for a while: another one may have announced the addresses meanwhile.
        if (this.#state.name === "active") this.#announce("advertisements could not be sent for a while");
      }
      return;
    }
    this.#count("send_errors");
    if (this.#sendFailed[index] !== true)
      log.warn({
        event: "vrrp.send_failed",
        reason: `the kernel refused an advertisement (errno ${errno}): the other nodes may take over`,
        errno,
        ...fields,
      });
    this.#sendFailed[index] = true;
  }

  #announce(why: string): void {
    const { keeper, clock, log, announcer } = this.#options;
    const { count, interval } = this.#plan.announce;
    const router = this.#plan.router;
    log.debug({ event: "redundancy.announced", reason: why, router });
    let left = count;
    const burst = (): void => {
      this.#announceTimer = undefined;
      if (!keeper.held) return;
      for (const { ifindex, address, mac, loopback } of keeper.hold()) {
        if (loopback) continue;
        if (announcer.announce({ ifindex, address, mac }) === 0) this.#count("announcements_sent");
        else this.#count("announcement_errors");
      }
      if (--left > 0) this.#announceTimer = clock.setTimer(addTime(clock.monotonic(), interval), burst);
    };
    this.#announceTimer?.cancel();
    burst();
  }

  #hook({ hook, previous, reason }: Extract<GroupEffect, { type: "hook" }>): void {
    const command = this.#plan.hooks[hook];
    if (!command) return;
    const { router } = this.#plan;
    const { node, keeper, hooks } = this.#options;
    const input = { router, node, state: hook, previous, reason, addresses: keeper.all };
    hooks.run({ command, timeout: this.#plan.hooks.timeout, input });
  }

  /** For how long no Active has been heard on any link; undefined where none ever was, or it released. */
  #silence(): number | undefined {
    const heard = this.#state.links.flatMap(({ vrrp }) => vrrp.heard ?? []);
    if (heard.length === 0 || heard.some(({ priority }) => priority === 0)) return undefined;
    const last = Math.max(...heard.map(({ at }) => at)) as MonotonicMs;
    return Math.round(timeSince(this.#options.clock.monotonic(), last));
  }

  /** The answer is an event of its own, never part of the step that asked. */
  #flush({ id, to, within }: Extract<GroupEffect, { type: "flush" }>): void {
    const { clock, log, flush } = this.#options;
    const begun = clock.monotonic();
    flush(to, within, (ok, reason) => {
      this.#count(ok ? "flows_flushed" : "flows_flush_failures");
      const fields = { router: this.#plan.router, node: to, took: timeSince(clock.monotonic(), begun) };
      if (ok)
        log.info({ event: "redundancy.flows_flushed", reason: `${to} has every connection`, ...fields });
      else log.warn({ event: "redundancy.flows_not_flushed", reason, ...fields });
      clock.setTimer(clock.monotonic(), () => {
        if (!this.#stopped) this.step({ type: "flushed", id });
      });
    });
  }

  #changed({ from, to, reason }: Extract<GroupEffect, { type: "changed" }>): void {
    const { log, onChange, onEvent } = this.#options;
    const priority = effectivePriority(this.#plan, this.#state.failing);
    const fields = { router: this.#plan.router, from, to, reason, priority };
    log.info({ event: "vrrp.state_changed", ...fields });
    onEvent("vrrp.state_changed", { ...fields, silence: this.#silence() });
    onChange();
  }
}

/** RFC 9568, 7.1: a different list is worth a word (in VRRP's own terms "SHOULD log"), not a drop. */
function sameAddresses(heard: readonly IpAddress[], plan: RouterPlan, index: number): boolean {
  const own = plan.instances[index]?.addresses.filter((a) => a.advertise) ?? [];
  return heard.length === own.length && own.every(({ address }) => heard.includes(address));
}
