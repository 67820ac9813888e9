/**
 * Replication of connections in a simulation, together with the machine of the virtual routers that moves the
 * addresses: entries, then the address. 100 seeds; more with NINES_SEEDS=10000, others with NINES_SEED_FROM=1000000.
 * Replay one: NINES_SEED=n npx vitest run --project unit src/forwarding/flows/simulation
 */
import { describe, expect, it } from "vitest";
import { ip } from "../../base/addresses.ts";
import { instant, ms, seconds } from "../../base/time.ts";
import type { RouterPlan } from "../../contracts/redundancy.ts";
import { nextGroupDeadline, stepGroup } from "../../redundancy/group/machine.ts";
import {
  type GroupEffect,
  type GroupEvent,
  effectivePriority,
  initialGroup,
  isEligible,
} from "../../redundancy/group/machine-state.ts";
import type { FlowsSaid, RouterHost, SimRouter } from "./testing/sim-contracts.ts";
import { runSeed, runSeeds } from "./testing/sim-run.ts";

/** The machine of src/redundancy, with what its service does around it. */
class GroupRouter implements SimRouter {
  readonly #host: RouterHost;
  readonly #plan: RouterPlan;
  #state;
  #scheduled = 0;
  #timerAt = Number.POSITIVE_INFINITY;
  #ended = false;
  #helloAt = Number.NEGATIVE_INFINITY;

  constructor(host: RouterHost) {
    this.#host = host;
    this.#plan = planOf(host);
    this.#state = initialGroup(this.#context(), host.life * 1000);
    const source = ip(`10.0.9.${host.index + 1}`);
    this.#step({ type: "link", index: 0, up: true, reason: "up", source });
    this.#step({ type: "start", resume: false });
    this.#periodic();
  }
  get active(): boolean {
    return this.#state.name === "active";
  }
  flows(flows: FlowsSaid | undefined): void {
    this.#step({ type: "flows", flows });
  }
  flushed(id: number): void {
    this.#step({ type: "flushed", id });
  }
  switchover(to: string): void {
    this.#step({ type: "switchover", id: 1, to });
  }
  end(): void {
    this.#ended = true;
  }

  #context() {
    const { world, index } = this.#host;
    return { now: instant(world.now), node: world.name(index), plan: this.#plan };
  }
  #step(event: GroupEvent): void {
    if (this.#ended) return;
    const step = stepGroup(this.#state, event, this.#context());
    this.#state = step.state;
    for (const effect of step.effects) this.#apply(effect);
    this.#arm();
  }
  /** One timer: one that comes too early is set again. */
  #arm(): void {
    const at = nextGroupDeadline(this.#state);
    if (this.#ended || !Number.isFinite(at) || at >= this.#timerAt) return;
    const scheduled = ++this.#scheduled;
    this.#timerAt = at;
    const { queue } = this.#host.world;
    queue.add(at, () => {
      if (scheduled !== this.#scheduled) return;
      this.#timerAt = Number.POSITIVE_INFINITY;
      if (queue.now >= nextGroupDeadline(this.#state)) this.#step({ type: "timer" });
      else this.#arm();
    });
  }
  #apply(effect: GroupEffect): void {
    const { world, index } = this.#host;
    switch (effect.type) {
      case "advertise":
        this.#broadcast((there) =>
          there.#step({
            type: "advertisement",
            index: 0,
            source: ip(`10.0.9.${index + 1}`),
            priority: effect.priority,
            interval: this.#plan.interval,
          }),
        );
        break;
      case "hold":
        this.#host.hold();
        break;
      case "release":
        this.#host.release();
        break;
      case "announce":
        this.#host.announce();
        break;
      case "changed":
        this.#host.changed(effect.to, effect.reason);
        this.#hello();
        break;
      case "message": {
        const to = world.nodes.findIndex((_, i) => world.name(i) === effect.to);
        const from = world.name(index);
        this.#host.send(to, (there) =>
          (there as GroupRouter).#step({ type: "message", from, message: effect.message }),
        );
        break;
      }
      case "flush":
        this.#host.flush(effect.id, effect.to, effect.within);
        break;
      case "tell":
        world.say(`n${index} ${effect.event}: ${effect.reason}`);
        break;
      case "hook":
      case "result":
      case "count":
      case "stopped":
        break;
    }
  }
  #broadcast(deliver: (there: GroupRouter) => void): void {
    const { world, index } = this.#host;
    world.nodes.forEach((_, to) => {
      if (to !== index) this.#host.send(to, (there) => deliver(there as GroupRouter));
    });
  }
  #hello(): void {
    const { world, index } = this.#host;
    this.#helloAt = world.now;
    const { name, failing, life, claims } = this.#state;
    const priority = effectivePriority(this.#plan, failing);
    const told = { state: name, priority, eligible: isEligible(this.#state), life, claims };
    this.#broadcast((there) =>
      there.#step({ type: "peer", node: world.name(index), peer: { ...told, at: instant(world.now) } }),
    );
  }
  #periodic(): void {
    const { world } = this.#host;
    if (this.#ended) return;
    if (world.now - this.#helloAt >= 1000) this.#hello();
    world.queue.add(world.now + 1000, () => this.#periodic());
  }
}

/** The first node is the best one for the first router, the last one for the second. */
function planOf({ world, index, router }: RouterHost): RouterPlan {
  const priorityOf = (node: number): number =>
    router === world.routerNames[0] ? 200 - 20 * node : 100 + 20 * node;
  return {
    router,
    version: 3,
    priority: priorityOf(index),
    interval: ms(world.interval),
    preempt: world.preempt,
    preemptDelay: ms(0),
    startDelay: ms(0),
    checksum: "auto",
    minHopLimit: 255,
    virtualMac: false,
    lease: seconds(5),
    fence: true,
    announce: { count: 5, interval: ms(20), again: seconds(5), refresh: seconds(60) },
    tracks: [],
    hooks: { timeout: seconds(10) },
    instances: [
      {
        interface: "eth0",
        vrid: 51,
        family: 4,
        unicast: false,
        addresses: [{ address: ip("10.0.0.1"), interface: "eth0", advertise: true }],
        peers: [],
      },
    ],
    nodes: world.nodes.map((_, node) => ({
      node: world.name(node),
      address: ip(`10.0.9.${node + 1}`),
      priority: priorityOf(node),
    })),
    flows: { handover: seconds(2), takeover: seconds(1), otherwise: "promote", settle: [] },
  };
}

const make = (host: RouterHost): SimRouter => new GroupRouter(host);
const count = Number(process.env["NINES_SEEDS"] ?? 100);
const from = Number(process.env["NINES_SEED_FROM"] ?? 1);
const replay = process.env["NINES_SEED"];

describe("simulation of 2 to 4 nodes with connections", () => {
  it.runIf(replay !== undefined)("replays one seed", () => {
    runSeed(Number(replay), make, {
      trace: true,
      masqueraded: process.env["NINES_MASQUERADED"] !== undefined,
    });
  });
  it(`keeps its invariants for ${count} seeds`, { timeout: 60_000 + count * 200 }, () => {
    expect(runSeeds(from, from + count - 1, make)).toEqual({ seeds: count, broken: [] });
  });
  const masqueraded = Math.ceil(count / 2);
  it(
    `keeps them for ${masqueraded} seeds of masqueraded connections`,
    { timeout: 60_000 + count * 100 },
    () => {
      const summary = runSeeds(from, from + masqueraded - 1, make, { masqueraded: true });
      expect(summary).toEqual({ seeds: masqueraded, broken: [] });
    },
  );
});

/** What a seed shows when the machines are broken again. They run in every check, wherever the range above goes. */
describe("seeds that find", () => {
  it.each([
    [22, "a service that is not here yet, and whose connections were dropped"],
    [41, "batches that waited for the kernel when their connection broke"],
    [169, "an owner that was reborn and had not spoken of its flows yet"],
    [287, "copies that are given no time"],
    [302, "the word of an earlier Active that comes later than the next one's"],
    [1987, "a flow that a node ends because another says so, which others hold by its own word"],
    [5833, "flows that were given to a node that a third one does not hear"],
    [17305, "an Active that hands over and has not had the last word"],
    [24387, "the later word of one that is Active no more"],
  ])("seed %i: %s", (seed) => {
    expect(runSeeds(seed, seed, make).broken).toEqual([]);
  });
  it.each([
    [1, "a copy whose masqueraded port is used again"],
    [131, "a peer's word of a connection whose port lives on at the Active"],
    [10475, "a port that its node has given again, while another one was Active with the connection before"],
    [10056, "two terms that are alike, of which one node has heard both"],
    [1065, "a port that is used again while the addresses move"],
  ])("masqueraded, seed %i: %s", (seed) => {
    expect(runSeeds(seed, seed, make, { masqueraded: true }).broken).toEqual([]);
  });
});
