/**
 * One simulated node: the group machine, a clock of its own that drifts, a socket that queues while the
 * process sleeps, and the kernel's part, which lives on without the process: leased addresses.
 */
import { type IpAddress, ip } from "../../base/addresses.ts";
import { type MonotonicMs, instant } from "../../base/time.ts";
import { MAINTENANCE, type RouterPlan } from "../../contracts/redundancy.ts";
import { nextGroupDeadline, stepGroup } from "../group/machine.ts";
import {
  type GroupEffect,
  type GroupEvent,
  type GroupState,
  effectivePriority,
  initialGroup,
  isEligible,
} from "../group/machine-state.ts";
import type { Network } from "./network.ts";
import type { EventQueue } from "../../base/event-queue.ts";

export const nodeName = (index: number): string => `n${index}`;
/** Bytes beyond 0x7f among them, and another order on every second link. */
export const linkAddress = (link: number, node: number): IpAddress =>
  ip(`10.${link}.0.${link % 2 === 0 ? 250 - 60 * node : 10 + 60 * node}`);

const FENCE = 400;

export class SimNode {
  readonly index: number;
  readonly plan: RouterPlan;
  readonly others: SimNode[] = [];
  state: GroupState | undefined;
  readonly #queue: EventQueue;
  readonly #network: Network;
  readonly #drift: number;
  readonly #offset: number;
  readonly #record: (node: SimNode, what: string) => void;
  #generation = 0;
  #boots = 0;
  #paused = false;
  readonly #inbox: (() => GroupEvent | undefined)[] = [];
  /** Global time until which the kernel keeps the addresses and answers for them. */
  leaseUntil = -1;
  fenceUntil = -1;
  results: Extract<GroupEffect, { type: "result" }>[] = [];
  counters: Record<string, number> = {};
  stopped = false;
  readonly #linkUp: boolean[];
  readonly #bad = new Set<string>();
  #out = false;

  constructor(
    index: number,
    plan: RouterPlan,
    queue: EventQueue,
    network: Network,
    drift: number,
    record: (node: SimNode, what: string) => void,
  ) {
    this.index = index;
    this.plan = plan;
    this.#queue = queue;
    this.#network = network;
    this.#drift = drift;
    this.#offset = 1000 * (index + 1);
    this.#record = record;
    this.#linkUp = plan.instances.map(() => true);
  }

  get running(): boolean {
    return this.state !== undefined && !this.#paused;
  }
  get active(): boolean {
    return this.state?.name === "active";
  }
  /** The kernel answers for the addresses, with a process behind them or not. */
  get answers(): boolean {
    return this.leaseUntil > this.#queue.now && this.fenceUntil > this.#queue.now;
  }
  #local(global: number): MonotonicMs {
    return instant(this.#offset + global * this.#drift);
  }
  #global(local: number): number {
    return (local - this.#offset) / this.#drift;
  }

  boot(): void {
    if (this.state) return;
    this.#boots++;
    this.#paused = false;
    this.stopped = false;
    const now = this.#local(this.#queue.now);
    const context = { now, plan: this.plan, node: nodeName(this.index) };
    this.state = initialGroup(context, this.#boots * 1000);
    this.plan.instances.forEach((_, index) => this.step(this.#linkEvent(index)));
    for (const name of this.#bad) this.step({ type: "track", name, good: false, reason: "simulated" });
    if (this.#out) this.step(this.#outEvent());
    this.step({ type: "start", resume: this.leaseUntil > this.#queue.now });
    this.#periodic(++this.#generation);
  }
  /** kill -9: the kernel keeps the lease. */
  kill(): void {
    this.state = undefined;
    this.#inbox.length = 0;
    this.#generation++;
  }
  powerOff(): void {
    this.kill();
    this.leaseUntil = -1;
    this.fenceUntil = -1;
  }
  pause(): void {
    if (this.state) this.#paused = true;
  }
  /** The service's order after a sleep: how late, then all that queued, then the timer. */
  resume(): void {
    if (!this.#paused || !this.state) return;
    this.#paused = false;
    const late = this.#local(this.#queue.now) - nextGroupDeadline(this.state);
    if (late > 0) this.step({ type: "woke", late: instant(late) as never });
    for (const take of this.#inbox.splice(0)) this.#take(take);
    if (this.state) this.step({ type: "timer" });
  }
  setLink(link: number, up: boolean): void {
    this.#linkUp[link] = up;
    if (this.state) this.#deliver(() => this.#linkEvent(link));
  }
  setTrack(name: string, good: boolean): void {
    if (good) this.#bad.delete(name);
    else this.#bad.add(name);
    this.#deliver(() => ({ type: "track", name, good: !this.#bad.has(name), reason: "simulated" }));
  }
  /** An operator takes it out or brings it back: its plan says so, after a restart as well. */
  setOut(out: boolean): void {
    this.#out = out;
    this.#deliver(() => this.#outEvent());
  }
  #outEvent(): GroupEvent {
    return { type: "lower", name: MAINTENANCE, by: this.#out ? 254 : 0, reason: "simulated" };
  }
  isUp(link: number): boolean {
    return this.#linkUp[link] === true && this.leaseable;
  }
  get leaseable(): boolean {
    return this.state !== undefined;
  }
  #linkEvent(index: number): GroupEvent {
    const up = this.#linkUp[index] === true;
    const reason = up ? "up" : `link ${index} is down`;
    return { type: "link", index, up, reason, source: linkAddress(index, this.index) };
  }

  #deliver(take: () => GroupEvent | undefined): void {
    if (this.#paused) this.#inbox.push(take);
    else this.#take(take);
  }
  #take(take: () => GroupEvent | undefined): void {
    const event = this.state && take();
    if (event) this.step(event);
  }

  step(event: GroupEvent): void {
    if (!this.state) return;
    const context = { now: this.#local(this.#queue.now), plan: this.plan, node: nodeName(this.index) };
    const step = stepGroup(this.state, event, context);
    this.state = step.state;
    for (const effect of step.effects) this.#apply(effect);
    this.#record(this, event.type);
    this.#schedule();
  }
  #schedule(): void {
    if (!this.state) return;
    const generation = ++this.#scheduled;
    const at = this.#global(nextGroupDeadline(this.state));
    if (Number.isFinite(at))
      this.#queue.add(at + 1e-6, () => {
        if (generation === this.#scheduled && this.running) this.step({ type: "timer" });
      });
  }
  #scheduled = 0;

  /** Renewals and hello, as long as this life lasts. */
  #periodic(generation: number): void {
    if (generation !== this.#generation) return;
    if (!this.#paused) {
      if (this.active) this.#renew();
      this.#hello();
    }
    this.#queue.add(this.#queue.now + 100, () => this.#periodic(generation));
  }
  #renew(): void {
    this.leaseUntil = this.#queue.now + this.plan.lease;
    this.fenceUntil = this.#queue.now + FENCE;
  }
  #helloAt = -1000;
  #hello(): void {
    const { state } = this;
    if (!state || this.#queue.now - this.#helloAt < 1000) return;
    this.#helloAt = this.#queue.now;
    const priority = effectivePriority(this.plan, state.failing);
    const told = {
      state: state.name,
      priority,
      eligible: isEligible(state),
      life: state.life,
      claims: state.claims,
    };
    for (const other of this.others)
      this.#network.send(-1, this.index, other.index, () =>
        other.#deliver(() => ({
          type: "peer",
          node: nodeName(this.index),
          peer: { ...told, at: other.#local(this.#queue.now) },
        })),
      );
  }

  #apply(effect: GroupEffect): void {
    switch (effect.type) {
      case "advertise":
        this.#advertise(effect.index, effect.priority);
        break;
      case "hold":
        this.#renew();
        break;
      case "release":
        this.leaseUntil = -1;
        this.fenceUntil = -1;
        break;
      case "message": {
        const to = this.others.find(({ index }) => nodeName(index) === effect.to);
        const from = nodeName(this.index);
        if (to)
          this.#network.send(-1, this.index, to.index, () =>
            to.#deliver(() => ({ type: "message", from, message: effect.message })),
          );
        break;
      }
      case "changed":
        if (effect.to === "backup" || effect.to === "fault") {
          // The service removes what a predecessor's lease left behind once another one is Active.
          if (effect.from !== "initialize") this.leaseUntil = -1;
        }
        this.#helloAt = -1000;
        this.#hello();
        break;
      case "result":
        this.results.push(effect);
        break;
      case "count":
        this.counters[effect.counter] = (this.counters[effect.counter] ?? 0) + 1;
        break;
      case "stopped":
        this.stopped = true;
        break;
      case "announce":
        this.#network.believed = this.index;
        break;
      case "flush":
      case "tell":
      case "hook":
        break;
    }
  }
  #advertise(link: number, priority: number): void {
    if (!this.#linkUp[link]) return;
    const { interval } = this.plan;
    const source = linkAddress(link, this.index);
    for (const other of this.others)
      this.#network.send(link, this.index, other.index, () => {
        if (other.#linkUp[link])
          other.#deliver(() => ({ type: "advertisement", index: link, source, priority, interval }));
      });
  }
}
