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
import type {
  BrainToRedundancy,
  RedundancyPlan,
  RedundancyToBrain,
  RouterPlan,
} from "../contracts/redundancy.ts";
import { AddressProbe } from "../linux/address-probe.ts";
import { Announcer } from "../linux/announce.ts";
import { type Fence, NftFence } from "../linux/nftables/fence.ts";
import { type InterfaceAddress, Rtnetlink, whoIs } from "../linux/rtnetlink.ts";
import type { FlowsToRedundancy } from "../contracts/flows.ts";
import { AddressKeeper } from "./addresses.ts";
import { FlowsLink } from "./flows-link.ts";
import type { NodeMessage } from "./group/machine-state.ts";
import { DuplicateWatch } from "./duplicates.ts";
import { type NodeAddress, NodesService } from "./handover/service.ts";
import { type HelloRouter, type WireBody, routerKey } from "./handover/wire.ts";
import { HookRunner } from "./hooks.ts";
import { LinkWatch } from "./links.ts";
import { LATE, RouterRunner } from "./router.ts";
import { Tracker } from "./tracking.ts";
import { VrrpSockets } from "./vrrp/service.ts";

/** The fence's elements live 400 ms; renewed this often. */
const TICK = ms(100);
/** Leases are renewed this often, which also brings a deleted address back within a second. */
const LEASE_EVERY = ms(500);
const STATUS_EVERY = seconds(1);
const HELLO_EVERY = seconds(1);
/** What somebody else changed in the fence's tables is repaired this often. */
const FENCE_EVERY = seconds(5);
/**
 * Without facts for this long the brain counts as silent (contracts/redundancy.ts). Well above the time of a restart
 * on a busy machine (3.75 s was seen): two nodes that both restart their brains must not pass the addresses on.
 */
const BRAIN_SILENT = seconds(10);
const PEER_FORGOTTEN = seconds(10);
const BRAIN_TRACK = "nines brain";
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
  readonly #fence: Fence;
  readonly #flows: FlowsLink;
  #fenced: "unknown" | "yes" | "no" = "unknown";
  #nodes: NodesService | undefined;
  #plan: RedundancyPlan | undefined;
  readonly #routers = new Map<string, Running>();
  readonly #counters: Record<string, number> = {};
  readonly #problems = new Map<string, MonotonicMs>();
  readonly #digests = new Map<string, { digest: string; at: MonotonicMs; differs: boolean }>();
  #factsAt: MonotonicMs;
  #silent = false;
  #tickAt: MonotonicMs;
  #timer: Timer | undefined;
  readonly #last = { lease: instant(0), status: instant(0), hello: instant(0), fence: instant(0) };
  #deciding = false;
  #applying: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(options: ServiceOptions) {
    this.#options = options;
    const { clock } = options;
    const problem = (what: string, reason: string): void => this.#problem(what, reason);
    this.#rtnetlink = Rtnetlink.open(clock);
    this.#links = new LinkWatch({
      clock,
      rtnetlink: this.#rtnetlink,
      onChange: () => this.#linksChanged(),
      onAddress: (address, gone, by) => this.#addressChanged(address, gone, by),
      onError: (error) => problem("reading the interfaces", messageOf(error)),
    });
    this.#sockets = new VrrpSockets((counter) => this.#count(counter), problem);
    this.#announcer = Announcer.open();
    this.#fence = new NftFence({ clock, onError: () => this.#installFence() });
    this.#flows = new FlowsLink(clock, (flows) => {
      for (const { runner } of this.#routers.values()) runner.step({ type: "flows", flows });
    });
    this.#factsAt = clock.monotonic();
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
        this.#factsAt = this.#options.clock.monotonic();
        this.#brainSilent(false);
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
      .catch((error: unknown) => this.#problem("carrying out the plan", messageOf(error)));
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
    return { type: "status", routers, counters: { ...this.#counters }, ...(flows && { flows }) };
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
      await this.#fence.uninstall().catch(() => undefined);
    } else if (mode === "leave") {
      for (const { runner } of this.#routers.values()) runner.linger(LEAVE_GRACE);
      if (this.#fenced === "yes") {
        const fresh = this.#fencedAddresses(true);
        this.#fence.renew(fresh, fresh, ms((LEAVE_GRACE * 4) / 3));
      }
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
    this.#nodes?.close();
    this.#sockets.close();
    this.#announcer.close();
    this.#fence.dispose();
    this.#links.close();
    this.#rtnetlink.close();
  }

  // Plans

  async #apply(plan: RedundancyPlan): Promise<void> {
    if (this.#closed) return;
    const same = this.#plan && JSON.stringify(this.#plan) === JSON.stringify(plan);
    this.#plan = plan;
    if (same) return;
    this.#updateNodes(plan);
    const wanted = new Map(plan.routers.map((router) => [router.router, router]));
    for (const [name, { runner }] of this.#routers) {
      const next = wanted.get(name);
      if (!next || identity(next) !== identity(runner.plan)) await this.#end(name);
    }
    await this.#links.refresh();
    await this.#installFenceNow();
    for (const router of plan.routers) {
      const running = this.#routers.get(router.router);
      if (running) this.#replan(running, router);
      else await this.#begin(router, plan.node);
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
      onProblem: (what, reason) => this.#problem(`${plan.router}: ${what}`, reason),
    });
    await keeper.prepare();
    const hooks = new HookRunner(clock, log, (counter) => this.#count(counter));
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
      fence: {
        renew: () => this.#renewFence(),
        close: (addresses) => {
          if (this.#fenced === "yes") this.#fence.close(addresses);
        },
      },
      send: (to, message) => this.#nodes?.send(to, message),
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
    if (this.#silent) this.#lower(runner, true);
    tracker.start();
  }
  #tracker(plan: RouterPlan, runner: RouterRunner): Tracker {
    return new Tracker(plan.tracks, {
      clock: this.#options.clock,
      rtnetlink: this.#rtnetlink,
      links: this.#links,
      onTrack: (name, good, reason) => {
        this.#options.log.info({
          event: "redundancy.track_changed",
          router: plan.router,
          track: name,
          good,
          reason,
        });
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
    const { runner, keeper, tracker } = running;
    tracker.stop();
    await new Promise<void>((resolve) => {
      this.#ended.set(name, resolve);
      runner.step({ type: "stop" });
    });
    this.#ended.delete(name);
    runner.close();
    this.#routers.delete(name);
    await keeper.dispose();
  }

  async #handOverAll(): Promise<void> {
    const { clock } = this.#options;
    for (const { runner } of this.#routers.values())
      if (runner.state.name === "active") runner.step({ type: "switchover", id: 0 });
    await new Promise<void>((resolve) => {
      const until = addTime(clock.monotonic(), ORPHAN_WAITS);
      const look = (): void => {
        const busy = [...this.#routers.values()].some(
          ({ runner }) => runner.state.handover.kind === "giving",
        );
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

  // Other nodes

  #updateNodes(plan: RedundancyPlan): void {
    const nodes = new Map<string, NodeAddress>();
    for (const router of plan.routers)
      for (const { node, address } of router.nodes) nodes.set(node, { node, address });
    const change = {
      site: plan.site,
      node: plan.node,
      digest: plan.digest,
      nodes: [...nodes.values()],
      minHopLimit: Math.min(255, ...plan.routers.map((router) => router.minHopLimit)),
    };
    if (this.#nodes) {
      this.#nodes.update(change);
      for (const [node, known] of this.#digests) this.#compare(node, known.digest);
      return;
    }
    this.#nodes = new NodesService({
      ...change,
      clock: this.#options.clock,
      secret: this.#options.secret,
      onMessage: (from, body, digest) => this.#nodeMessage(from, body, digest),
      onRestart: (node) => {
        for (const { runner } of this.#routers.values()) runner.step({ type: "restarted", node });
      },
      count: (counter) => this.#count(counter),
      onProblem: (what, reason) => this.#problem(what, reason),
    });
  }
  #nodeMessage(from: string, body: WireBody, digest: string): void {
    this.#compare(from, digest);
    if (body.type !== "hello") {
      this.#routers
        .get(body.router)
        ?.runner.step({ type: "message", from, message: body satisfies NodeMessage });
      return;
    }
    const at = this.#options.clock.monotonic();
    const told = new Map(body.routers.map((router) => [router.key, router]));
    for (const [name, { runner }] of this.#routers) {
      const router = told.get(routerKey(name));
      if (!router || !runner.plan.nodes.some(({ node }) => node === from)) continue;
      const { state, priority, eligible, life, claims } = router;
      runner.peer(from, { at, state, priority, eligible, life, claims });
    }
  }
  /** Two nodes with different site files: named and alarmed; everything goes on. */
  #compare(node: string, digest: string): void {
    const { clock, log, toBrain } = this.#options;
    const differs = digest !== this.#plan?.digest;
    const before = this.#digests.get(node);
    this.#digests.set(node, { digest, at: clock.monotonic(), differs });
    if ((before?.differs ?? false) === differs) return;
    const event = differs ? "redundancy.site_differs" : "redundancy.site_agrees";
    const reason = differs
      ? `${node} runs another site file than this node`
      : `${node} runs the same site file`;
    log[differs ? "error" : "info"]({ event, reason, node, digest, own: this.#plan?.digest });
    if (differs) this.#count("sites_differ");
    toBrain({ type: "event", event, fields: { node, digest, reason } });
  }
  #hello(): void {
    if (!this.#nodes) return;
    this.#last.hello = this.#options.clock.monotonic();
    const routers = [...this.#routers].map(([name, { runner }]): HelloRouter => ({
      key: routerKey(name),
      ...runner.hello(),
    }));
    this.#nodes.broadcast({ type: "hello", routers: routers.slice(0, 64) });
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
      if (duplicate) this.#problem(`${router}: ${address}`, "the kernel found a duplicate of it (dadfailed)");
      if (!gone || by === this.#rtnetlink.portid || !keeper.restore(ifindex, address)) continue;
      this.#count("addresses_restored");
      const fields = { router, address, reason: `removed by ${whoIs(by)}` };
      this.#options.log.warn({ event: "redundancy.address_restored", ...fields });
      this.#options.toBrain({ type: "event", event: "redundancy.address_restored", fields });
    }
  }
  #duplicates(router: string): DuplicateWatch {
    const tell = (event: string, fields: Readonly<Record<string, unknown>>, level: "info" | "warn"): void => {
      this.#options.log[level]({ event, ...fields });
      this.#options.toBrain({ type: "event", event, fields });
    };
    return new DuplicateWatch({
      ask: ({ ifindex, address, mac }) => this.#ask(ifindex, address, mac),
      found: (address, mac, when) => {
        this.#count("duplicate_addresses");
        const reason = `${mac} answers for it, too`;
        tell("redundancy.duplicate_address", { router, address, mac, when, reason }, "warn");
      },
      gone: (address) =>
        tell("redundancy.duplicate_gone", { router, address, reason: "nobody else answers for it" }, "info"),
    });
  }
  #lookForDuplicates(now: MonotonicMs): void {
    for (const { runner, keeper, duplicates } of this.#routers.values()) {
      const { name: state, since, links } = runner.state;
      const heard = links.some(({ vrrp }) => vrrp.heard !== undefined);
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

  // The fence

  #fencedAddresses(held: boolean): IpAddress[] {
    return [...this.#routers.values()].flatMap(({ runner, keeper }) =>
      runner.plan.fence && (!held || keeper.held) ? keeper.all : [],
    );
  }
  #installFence(): void {
    if (this.#closed) return;
    this.#installFenceNow().catch(() => undefined);
  }
  async #installFenceNow(): Promise<void> {
    this.#last.fence = this.#options.clock.monotonic();
    const planned = (this.#plan?.routers ?? []).flatMap((router) =>
      router.fence ? router.instances.flatMap((i) => i.addresses.map((a) => a.address)) : [],
    );
    if (planned.length === 0 && this.#fenced !== "yes") return;
    try {
      await this.#fence.install([...new Set(planned)]);
      this.#fenced = "yes";
      this.#renewFence();
    } catch (error) {
      this.#fenced = "no";
      this.#problem("the fence (addresses then go by their lease only)", messageOf(error));
    }
  }
  #renewFence(): void {
    if (this.#fenced !== "yes") return;
    const fresh = this.#fencedAddresses(true);
    if (fresh.length > 0) this.#fence.renew(fresh, fresh);
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
    this.#count("late_ticks");
    for (const { runner } of this.#routers.values()) runner.woke(ms(late));
    this.#drain();
    for (const { runner } of this.#routers.values()) runner.settle();
    this.#deciding = false;
  }
  #drain(): void {
    this.#sockets.drain();
    this.#nodes?.drain();
    this.#links.drain();
  }
  #tick(): void {
    const now = this.#options.clock.monotonic();
    const due = (what: "lease" | "status" | "fence", every: number): boolean => {
      if (now - this.#last[what] < every) return false;
      this.#last[what] = now;
      return true;
    };
    this.#renewFence();
    this.#flows.look();
    if (due("lease", LEASE_EVERY)) this.#renew();
    if (now - this.#last.hello >= HELLO_EVERY) this.#hello();
    if (due("status", STATUS_EVERY)) this.#options.toBrain(this.status());
    // Without it soon again: a predecessor may have owned the tables until a moment ago.
    if (due("fence", this.#fenced === "no" ? LEASE_EVERY : FENCE_EVERY)) this.#installFence();
    this.#lookForDuplicates(now);
    if (now - this.#factsAt > BRAIN_SILENT) this.#brainSilent(true);
    for (const [node, { at }] of this.#digests) if (now - at > PEER_FORGOTTEN) this.#digests.delete(node);
  }
  #renew(): void {
    for (const { runner } of this.#routers.values()) runner.renew();
  }
  #status(): void {
    this.#last.status = this.#options.clock.monotonic();
    this.#options.toBrain(this.status());
  }

  // The brain's silence

  #brainSilent(silent: boolean): void {
    if (silent === this.#silent) return;
    this.#silent = silent;
    const event = silent ? "redundancy.brain_silent" : "redundancy.brain_heard";
    const reason = silent ? `no facts for ${BRAIN_SILENT} ms; the priority is lowered` : "facts come again";
    this.#options.log.warn({ event, reason });
    for (const { runner } of this.#routers.values()) this.#lower(runner, silent);
  }
  /** Below every other node of the router, but never out of the election. */
  #lower(runner: RouterRunner, silent: boolean): void {
    const { plan } = runner;
    const least = Math.min(...plan.nodes.map(({ priority }) => priority), plan.priority);
    const by = silent ? Math.max(1, plan.priority - least + 1) : 0;
    runner.step({ type: "lower", name: BRAIN_TRACK, by, reason: "the brain process is silent" });
  }

  #count(counter: string): void {
    this.#counters[counter] = (this.#counters[counter] ?? 0) + 1;
  }
  /** Told once a minute for each kind. */
  #problem(what: string, reason: string): void {
    this.#count("problems");
    const now = this.#options.clock.monotonic();
    const last = this.#problems.get(what);
    if (last !== undefined && now - last < 60_000) return;
    if (this.#problems.size > 200) this.#problems.clear();
    this.#problems.set(what, now);
    this.#options.log.warn({ event: "redundancy.problem", what, reason });
    this.#options.toBrain({ type: "event", event: "redundancy.problem", fields: { what, reason } });
  }
}
