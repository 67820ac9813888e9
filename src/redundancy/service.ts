/**
 * The redundancy process without its process: plans, facts and commands in, addresses and advertisements
 * out, status and events back. Everything runs on one thread and one clock.
 */
import type { IpAddress } from "../base/addresses.ts";
import { messageOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import {
  type Clock,
  type MonotonicMs,
  type Timer,
  addTime,
  instant,
  ms,
  seconds,
  timeSince,
} from "../base/time.ts";
import {
  type BrainToRedundancy,
  MAINTENANCE,
  type RedundancyPlan,
  type RedundancyToBrain,
  type RouterPlan,
} from "../contracts/redundancy.ts";
import { AddressProbe } from "../linux/address-probe.ts";
import { Announcer } from "../linux/announce.ts";
import { type InterfaceAddress, Rtnetlink, whoIs } from "../linux/rtnetlink.ts";
import type { FlowsToRedundancy } from "../contracts/flows.ts";
import { AddressKeeper } from "./addresses.ts";
import { FlowsLink } from "./flows-link.ts";
import { DuplicateWatch, heardOf } from "./duplicates.ts";
import { BrainWatch } from "./brain-watch.ts";
import { Fencing } from "./fencing.ts";
import { HookRunner } from "./hooks.ts";
import { LinkWatch } from "./links.ts";
import { Peers } from "./peers.ts";
import { virtualAddresses } from "./plan.ts";
import { LATE, RouterRunner } from "./router.ts";
import { Telling } from "./telling.ts";
import { Tracker } from "./tracking.ts";
import { VrrpSockets } from "./vrrp/service.ts";

/** The fence's elements live 400 ms; renewed this often. */
const TICK = ms(100);
/** Leases are renewed this often, which also brings a deleted address back within a second. */
const LEASE_EVERY = ms(500);
const STATUS_EVERY = seconds(1);
const HELLO_EVERY = seconds(1);
/** Time for the next process of this node, a whole restart of it included, before another node takes over. */
const LEAVE_GRACE = seconds(6);
/** A hand-over's own deadline is a second or three intervals. */
const ORPHAN_WAITS = ms(1500);

export type StopMode = "release" | "leave" | "orphaned";

export interface ServiceOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly toBrain: (message: RedundancyToBrain) => void;
  /** Shared by the nodes of the site, for their messages; undefined for none. */
  readonly secret?: Uint8Array | undefined;
}

interface Running {
  readonly runner: RouterRunner;
  readonly keeper: AddressKeeper;
  readonly duplicates: DuplicateWatch;
  tracker: Tracker;
  hooks: HookRunner;
}

/** Which VRRP instances a router is made of; another answer means another router. */
const identity = (plan: RouterPlan): string =>
  JSON.stringify([
    plan.version,
    plan.virtualMac,
    plan.password,
    plan.instances.map((i) => [i.interface, i.vrid, i.family]),
  ]);

export class RedundancyService {
  readonly #options: ServiceOptions;
  readonly #rtnetlink: Rtnetlink;
  readonly #links: LinkWatch;
  readonly #sockets: VrrpSockets;
  readonly #announcer: Announcer;
  readonly #telling: Telling;
  readonly #fencing: Fencing;
  readonly #peers: Peers;
  readonly #brain: BrainWatch;
  readonly #flows: FlowsLink;
  #plan: RedundancyPlan | undefined;
  readonly #routers = new Map<string, Running>();
  #tickAt: MonotonicMs;
  #timer: Timer | undefined;
  readonly #last = { lease: instant(0), status: instant(0), hello: instant(0) };
  #deciding = false;
  #applying: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(options: ServiceOptions) {
    this.#options = options;
    const { clock } = options;
    const telling = new Telling(clock, options.log, options.toBrain);
    const problem = (what: string, reason: string): void => telling.problem(what, reason);
    this.#telling = telling;
    this.#rtnetlink = Rtnetlink.open(clock);
    this.#links = new LinkWatch({
      clock,
      rtnetlink: this.#rtnetlink,
      onChange: () => this.#linksChanged(),
      onAddress: (address, gone, by) => this.#addressChanged(address, gone, by),
      onError: (error) => problem("reading the interfaces", messageOf(error)),
    });
    this.#sockets = new VrrpSockets((counter) => telling.count(counter), problem);
    this.#announcer = Announcer.open();
    this.#fencing = new Fencing({ clock, held: () => this.#fencedAddresses(), onProblem: problem });
    this.#brain = new BrainWatch(clock, telling, () => this.#runners());
    this.#peers = new Peers({
      clock,
      secret: options.secret,
      telling,
      routers: () => [...this.#routers].map(([name, { runner }]) => [name, runner] as const),
      onNews: () => this.#status(),
    });
    this.#flows = new FlowsLink(clock, (flows) => {
      for (const { runner } of this.#routers.values()) runner.step({ type: "flows", flows });
    });
    this.#tickAt = addTime(clock.monotonic(), TICK);
  }

  static async open(options: ServiceOptions): Promise<RedundancyService> {
    const service = new RedundancyService(options);
    await service.#links.refresh();
    service.#schedule();
    return service;
  }

  /** From the brain, or the last plan from disk. */
  receive(message: BrainToRedundancy): void {
    switch (message.type) {
      case "plan":
        this.plan(message.plan);
        break;
      case "facts":
        this.#brain.heard();
        for (const { name, good, reason } of message.facts)
          for (const { runner } of this.#routers.values()) runner.step({ type: "track", name, good, reason });
        break;
      case "switchover":
        this.#switchover(message);
        break;
      case "stop":
        break;
    }
  }

  /** From the flows process, by a link on which `send` reaches it. */
  receiveFlows(message: FlowsToRedundancy, send: Parameters<FlowsLink["receive"]>[1]): void {
    if (!this.#closed) this.#flows.receive(message, send);
  }
  flowsLost(send: Parameters<FlowsLink["lost"]>[0]): void {
    this.#flows.lost(send);
  }

  plan(plan: RedundancyPlan): void {
    this.#applying = this.#applying
      .then(() => this.#apply(plan))
      .catch((error: unknown) => this.#telling.problem("carrying out the plan", messageOf(error)));
  }
  /** Settles when everything asked for so far has been carried out. */
  get idle(): Promise<void> {
    return this.#applying;
  }
  get digest(): string | undefined {
    return this.#plan?.digest;
  }

  status(): Extract<RedundancyToBrain, { type: "status" }> {
    const routers = [...this.#routers.values()].map(({ runner }) => runner.status());
    const flows = this.#flows.report;
    return { type: "status", routers, counters: this.#telling.counters, ...(flows && { flows }) };
  }

  /** What lasts, for a brain that was not there when it began. */
  get standing(): Telling["standing"] {
    return this.#telling.standing;
  }

  /**
   * The end. `release`: every router is handed over or released with priority 0, addresses and tables go.
   * `leave`: the kernel keeps everything for the process that comes next, and the other nodes wait for it a while.
   * `orphaned`: handed over where a node can take over, else left to the leases.
   */
  async stop(mode: StopMode): Promise<void> {
    await this.#applying;
    if (mode === "orphaned") await this.#handOverAll();
    if (mode === "release") {
      await Promise.all([...this.#routers.keys()].map((name) => this.#end(name)));
      await this.#fencing.uninstall();
    } else if (mode === "leave") {
      for (const { runner } of this.#routers.values()) runner.linger(LEAVE_GRACE);
      this.#fencing.linger(ms((LEAVE_GRACE * 4) / 3));
    } else {
      this.#renew();
    }
    this.#closed = true;
    this.#flows.close();
    this.#timer?.cancel();
    for (const { runner, tracker } of this.#routers.values()) {
      tracker.stop();
      runner.close();
    }
    this.#peers.close();
    this.#sockets.close();
    this.#announcer.close();
    this.#fencing.dispose();
    this.#links.close();
    this.#rtnetlink.close();
  }

  #runners(): RouterRunner[] {
    return [...this.#routers.values()].map(({ runner }) => runner);
  }

  // Plans

  async #apply(plan: RedundancyPlan): Promise<void> {
    if (this.#closed) return;
    const same = this.#plan && JSON.stringify(this.#plan) === JSON.stringify(plan);
    this.#plan = plan;
    if (same) return;
    this.#peers.update(plan);
    const wanted = new Map(plan.routers.map((router) => [router.router, router]));
    for (const [name, { runner }] of this.#routers) {
      const next = wanted.get(name);
      if (!next || identity(next) !== identity(runner.plan)) await this.#end(name);
    }
    await this.#links.refresh();
    await this.#fencing.plan(plan);
    for (const router of plan.routers) {
      const running = this.#routers.get(router.router);
      if (running) this.#replan(running, router);
      else await this.#begin(router, plan.node);
      this.#maintain(router.router);
    }
    this.#options.log.info({
      event: "redundancy.plan_applied",
      reason: `${plan.routers.length} virtual routers`,
      digest: plan.digest,
    });
    this.#hello();
    this.#status();
  }

  async #begin(plan: RouterPlan, node: string): Promise<void> {
    const { clock, log } = this.#options;
    const keeper = new AddressKeeper(plan, {
      rtnetlink: this.#rtnetlink,
      links: this.#links,
      onProblem: (what, reason) => this.#telling.problem(`${plan.router}: ${what}`, reason),
    });
    await keeper.prepare();
    const hooks = new HookRunner(clock, log, (counter) => this.#telling.count(counter));
    const runner: RouterRunner = new RouterRunner({
      clock,
      log,
      node,
      plan,
      // Above every id of an earlier process, as long as the clock is not set back by its life.
      firstId: Math.floor(clock.wall() / 1000) >>> 0,
      links: this.#links,
      sockets: this.#sockets,
      keeper,
      announcer: this.#announcer,
      hooks,
      // Of those to come and of those that are about to go.
      virtual: () =>
        new Set(virtualAddresses([...(this.#plan?.routers ?? []), ...this.#runners().map((r) => r.plan)])),
      fence: this.#fencing,
      send: (to, message) => this.#peers.send(to, message),
      onResult: ({ id, ok, error }) => this.#options.toBrain({ type: "result", id, ok, error }),
      onChange: () => {
        this.#hello();
        this.#status();
      },
      onEvent: (event, fields) => this.#options.toBrain({ type: "event", event, fields }),
      onStopped: () => this.#ended.get(plan.router)?.(),
      flush: (to, within, done) => this.#flows.flush(to, within, done),
      drain: () => this.#drain(),
    });
    runner.step({ type: "flows", flows: this.#flows.state });
    const tracker = this.#tracker(plan, runner);
    const duplicates = this.#duplicates(plan.router);
    this.#routers.set(plan.router, { runner, keeper, duplicates, tracker, hooks });
    runner.start();
    this.#brain.begin(runner);
    tracker.start();
  }
  /**
   * An operator took the node out: lowered below every other one, never out of the election. In the plan, so that it
   * is known from the first moment after a restart, brain or no brain.
   */
  #maintain(router: string): void {
    const reason = this.#plan?.maintenance;
    const by = reason === undefined ? 0 : 254;
    this.#routers.get(router)?.runner.step({ type: "lower", name: MAINTENANCE, by, reason: reason ?? "" });
  }
  #tracker(plan: RouterPlan, runner: RouterRunner): Tracker {
    return new Tracker(plan.tracks, {
      clock: this.#options.clock,
      rtnetlink: this.#rtnetlink,
      links: this.#links,
      onTrack: (name, good, reason) => {
        const fields = { router: plan.router, track: name, good, reason };
        this.#options.log.info({ event: "redundancy.track_changed", ...fields });
        runner.step({ type: "track", name, good, reason });
      },
    });
  }
  #replan(running: Running, plan: RouterPlan): void {
    const tracks = JSON.stringify(running.runner.plan.tracks) !== JSON.stringify(plan.tracks);
    running.runner.replan(plan);
    if (!tracks) return;
    running.tracker.stop();
    running.tracker = this.#tracker(plan, running.runner);
    running.tracker.start();
  }
  readonly #ended = new Map<string, () => void>();
  /** Hands over or releases one router, and forgets it. */
  async #end(name: string): Promise<void> {
    const running = this.#routers.get(name);
    if (!running) return;
    const { runner, keeper, duplicates, tracker } = running;
    tracker.stop();
    await new Promise<void>((resolve) => {
      this.#ended.set(name, resolve);
      runner.step({ type: "stop" });
    });
    this.#ended.delete(name);
    runner.close();
    this.#routers.delete(name);
    duplicates.end();
    await keeper.dispose();
  }

  async #handOverAll(): Promise<void> {
    const { clock } = this.#options;
    for (const { runner } of this.#routers.values())
      if (runner.state.name === "active") runner.step({ type: "switchover", id: 0 });
    await new Promise<void>((resolve) => {
      const until = addTime(clock.monotonic(), ORPHAN_WAITS);
      const look = (): void => {
        const busy = this.#runners().some(({ state }) => state.handover.kind === "giving");
        if (!busy || clock.monotonic() > until) resolve();
        else clock.setTimer(addTime(clock.monotonic(), ms(20)), look);
      };
      look();
    });
  }

  #switchover({ id, router, to }: Extract<BrainToRedundancy, { type: "switchover" }>): void {
    const running = this.#routers.get(router);
    if (running) return running.runner.step({ type: "switchover", id, to });
    const names = [...this.#routers.keys()].join(", ") || "none";
    const error = `this node runs no virtual router ${router}; it runs: ${names}`;
    return this.#options.toBrain({ type: "result", id, ok: false, error });
  }

  // The kernel

  #linksChanged(): void {
    for (const { runner, tracker, keeper } of this.#routers.values()) {
      tracker.linksChanged();
      // An interface that has come only now may need its macvlan.
      void keeper.prepare().then(() => {
        if (!this.#closed) runner.linksChanged();
      });
    }
  }
  #addressChanged({ ifindex, address, duplicate }: InterfaceAddress, gone: boolean, by: number): void {
    if (this.#closed) return;
    // What expired during a stall is not put back before it is known who is Active now.
    const late = timeSince(this.#options.clock.monotonic(), this.#tickAt);
    if (gone && late > LATE) this.#decideFirst(late);
    for (const [router, { keeper }] of this.#routers) {
      if (!keeper.all.includes(address) || !keeper.held) continue;
      if (duplicate)
        this.#telling.problem(`${router}: ${address}`, "the kernel found a duplicate of it (dadfailed)");
      if (!gone || by === this.#rtnetlink.portid || !keeper.restore(ifindex, address)) continue;
      this.#telling.count("addresses_restored");
      const fields = { router, address, reason: `removed by ${whoIs(by)}` };
      this.#telling.event("warn", "redundancy.address_restored", fields);
    }
  }
  #duplicates(router: string): DuplicateWatch {
    const telling = this.#telling;
    const key = (address: IpAddress): string => `duplicate of ${address} in ${router}`;
    return new DuplicateWatch({
      ask: ({ ifindex, address, mac }) => this.#ask(ifindex, address, mac),
      found: (address, mac, when) => {
        telling.count("duplicate_addresses");
        const reason = `${mac} answers for it, too`;
        telling.begins(key(address), "warn", "redundancy.duplicate_address", {
          router,
          address,
          mac,
          when,
          reason,
        });
      },
      gone: (address) => {
        const reason = "nobody else answers for it";
        telling.ends(key(address), "redundancy.duplicate_gone", { router, address, reason });
      },
    });
  }
  #lookForDuplicates(now: MonotonicMs): void {
    for (const { runner, keeper, duplicates } of this.#routers.values()) {
      const { name: state, since } = runner.state;
      const heard = heardOf(runner.state);
      duplicates.look(now, { state, since, lease: runner.plan.lease, heard, placed: keeper.placed() });
    }
  }
  async #ask(ifindex: number, address: IpAddress, mac: Parameters<Announcer["announce"]>[0]["mac"]) {
    try {
      const probe = AddressProbe.open({ clock: this.#options.clock, ifindex, mac });
      const answer = await probe.ask(address, { timeout: ms(300) });
      probe.close();
      return answer;
    } catch {
      return undefined;
    }
  }

  #fencedAddresses(): IpAddress[] {
    return [...this.#routers.values()].flatMap(({ runner, keeper }) =>
      runner.plan.fence && keeper.held ? keeper.all : [],
    );
  }

  // Time

  #schedule(): void {
    if (this.#closed) return;
    const { clock } = this.#options;
    this.#timer = clock.setTimer(this.#tickAt, () => {
      const late = timeSince(clock.monotonic(), this.#tickAt);
      this.#tickAt = addTime(clock.monotonic(), TICK);
      if (late > LATE) this.#decideFirst(late);
      this.#tick();
      this.#schedule();
    });
  }
  /** No renewal after a stall before it is known whether another node has taken over. */
  #decideFirst(late: number): void {
    if (this.#deciding) return;
    this.#deciding = true;
    this.#telling.count("late_ticks");
    for (const { runner } of this.#routers.values()) runner.woke(ms(late));
    this.#drain();
    for (const { runner } of this.#routers.values()) runner.settle();
    this.#deciding = false;
  }
  #drain(): void {
    this.#sockets.drain();
    this.#peers.drain();
    this.#links.drain();
  }
  #tick(): void {
    const now = this.#options.clock.monotonic();
    const due = (what: "lease" | "status" | "hello", every: number): boolean => {
      if (now - this.#last[what] < every) return false;
      this.#last[what] = now;
      return true;
    };
    this.#fencing.renew();
    this.#flows.look();
    if (due("lease", LEASE_EVERY)) this.#renew();
    if (due("hello", HELLO_EVERY)) this.#hello();
    if (due("status", STATUS_EVERY)) this.#status();
    this.#fencing.look(now);
    this.#lookForDuplicates(now);
    this.#brain.look(now);
    this.#peers.forget(now);
  }
  #renew(): void {
    for (const { runner } of this.#routers.values()) runner.renew();
  }
  #hello(): void {
    this.#last.hello = this.#options.clock.monotonic();
    this.#peers.hello();
  }
  #status(): void {
    this.#last.status = this.#options.clock.monotonic();
    this.#options.toBrain(this.status());
  }
}
