/**
 * A seeded run: nodes are started, everything that can happen to them happens for a while, then the
 * network heals and everything is started again; from here on the invariants of a connected, healthy
 * segment must hold. A run ends with one planned or unplanned change in calm weather.
 */
import { type Random, chance, randomInt, seededRandom } from "../../base/random.ts";
import { ms, seconds } from "../../base/time.ts";
import type { RouterPlan, RouterState } from "../../contracts/redundancy.ts";
import { effectivePriority } from "../group/machine-state.ts";
import { activeDownInterval } from "../vrrp/machine.ts";
import { Network } from "./network.ts";
import { SimNode, linkAddress, nodeName } from "./node.ts";
import { EventQueue } from "../../base/event-queue.ts";

const pick = <T>(random: Random, from: readonly T[]): T => from[randomInt(random, 0, from.length - 1)] as T;

/** What a run checks is named, so that a failure says which promise was broken. */
export class InvariantBroken extends Error {
  override readonly name = "InvariantBroken";
}

const TRACKS = ["soft", "lower"] as const;

function makePlans(random: Random): RouterPlan[] {
  const count = randomInt(random, 2, 5);
  const links = pick(random, [1, 1, 2]);
  const interval = ms(pick(random, [50, 100, 100, 1000]));
  const preempt = chance(random, 0.5);
  const preemptDelay = ms(chance(random, 0.3) ? randomInt(random, 1, 1000) : 0);
  const startDelay = ms(chance(random, 0.2) ? randomInt(random, 1, 500) : 0);
  const equal = chance(random, 0.15);
  const owner = chance(random, 0.1) ? randomInt(random, 0, count - 1) : -1;
  const priorities = Array.from({ length: count }, (_, i) =>
    i === owner ? 255 : equal ? 100 : randomInt(random, 1, 254),
  );
  const nodes = priorities.map((priority, i) => ({
    node: nodeName(i),
    address: linkAddress(9, i),
    priority,
  }));
  return priorities.map((priority) => ({
    router: "edge",
    version: 3,
    priority,
    interval,
    preempt,
    preemptDelay,
    startDelay,
    checksum: "auto",
    minHopLimit: 255,
    virtualMac: false,
    lease: ms(Math.ceil((activeDownInterval(3, priority, interval) + 1000) / 1000) * 1000),
    fence: true,
    announce: { count: 5, interval: ms(20), again: seconds(5), refresh: seconds(60) },
    tracks: [
      { name: "soft", kind: "reported" },
      { name: "lower", kind: "reported", lower: 30 },
    ],
    hooks: { timeout: seconds(10) },
    instances: Array.from({ length: links }, (_, link) => ({
      interface: `eth${link}`,
      vrid: 51 + link,
      family: 4 as const,
      unicast: false,
      addresses: [{ address: linkAddress(link, 0), interface: `eth${link}`, advertise: true }],
      peers: [],
    })),
    nodes,
  }));
}

export class World {
  readonly queue = new EventQueue();
  readonly random: Random;
  readonly network: Network;
  readonly nodes: readonly SimNode[];
  readonly log: string[] = [];
  readonly plans: readonly RouterPlan[];
  /** Watched while a calm change runs: the longest time nobody answered for the addresses. */
  #gapFrom: number | undefined;
  longestGap = 0;

  constructor(seed: number, plans?: readonly RouterPlan[]) {
    this.random = seededRandom(seed);
    this.network = new Network(this.queue, this.random);
    this.plans = plans ?? makePlans(this.random);
    this.nodes = this.plans.map((plan, i) => {
      const drift = 1 + (this.random.next() - 0.5) * 0.002;
      return new SimNode(i, plan, this.queue, this.network, drift, (node, what) => this.#after(node, what));
    });
    for (const node of this.nodes) node.others.push(...this.nodes.filter((other) => other !== node));
  }
  get interval(): number {
    return this.plans[0]?.interval ?? 0;
  }
  get longestDown(): number {
    return Math.max(...this.plans.map((p) => activeDownInterval(3, 1, p.interval)));
  }
  actives(): SimNode[] {
    return this.nodes.filter((node) => node.running && node.active);
  }
  say(what: string): void {
    this.log.push(`${this.queue.now.toFixed(1)} ${what}`);
  }
  broken(what: string): never {
    throw new InvariantBroken(
      `${what} at ${this.queue.now.toFixed(1)} ms\n${this.log.slice(-40).join("\n")}`,
    );
  }

  readonly #names = new Map<SimNode, RouterState | "dead">();
  #after(node: SimNode, event: string): void {
    const name = node.state?.name ?? "dead";
    if (this.#names.get(node) !== name) {
      this.#names.set(node, name);
      this.say(`n${node.index} ${name} on ${event}: ${node.state?.reason}`);
    }
    // An address is held only while Active, and always while Active.
    if (node.state && name !== "initialize") {
      const leftover = node.state.transitions <= 1 && name === "backup";
      if (node.answers && name !== "active" && !leftover) this.broken(`n${node.index} holds while ${name}`);
      if (
        name === "active" &&
        node.leaseUntil < this.queue.now &&
        !node.state.links.some((l) => l.vrrp.suspect)
      )
        if (event !== "woke" && event !== "timer") this.broken(`n${node.index} is Active and holds nothing`);
      const inside = new Set<string>(node.state.links.map(({ vrrp }) => vrrp.name));
      const expected = name === "fault" ? "initialize" : name;
      if (inside.size !== 1 || !inside.has(expected))
        this.broken(`n${node.index} is ${name}, its instances are ${[...inside].join(" and ")}`);
    }
    this.#watchGap();
  }
  #watchGap(): void {
    const served = this.nodes.some((n) => n.answers && n.running);
    const { now } = this.queue;
    if (served) {
      if (this.#gapFrom !== undefined) this.longestGap = Math.max(this.longestGap, now - this.#gapFrom);
      this.#gapFrom = undefined;
    } else this.#gapFrom ??= now;
  }
  resetGap(): void {
    this.longestGap = 0;
    this.#gapFrom = undefined;
    this.#watchGap();
  }
  endGap(): number {
    const open = this.#gapFrom === undefined ? 0 : this.queue.now - this.#gapFrom;
    return Math.max(this.longestGap, open);
  }

  run(span: number): void {
    this.queue.runTo(this.queue.now + span);
  }

  /** One random event: a fault, or the end of one. */
  mishap(): void {
    const { random, network } = this;
    const node = pick(random, this.nodes);
    const link = randomInt(random, -1, (this.plans[0]?.instances.length ?? 1) - 1);
    const kind = randomInt(random, 0, 13);
    this.say(`mishap ${kind} n${node.index} link ${link}`);
    switch (kind) {
      case 0:
        return node.kill();
      case 1:
        return node.powerOff();
      case 2:
      case 3:
        return node.boot();
      case 4:
        return node.pause();
      case 5:
        return node.resume();
      case 6: {
        for (const other of this.nodes) {
          network.cut(link, node.index, other.index);
          if (chance(random, 0.5)) network.cut(link, other.index, node.index);
        }
        return undefined;
      }
      case 7:
        return network.heal();
      case 8:
        network.weather = {
          loss: random.next() * 0.5,
          duplicate: random.next() * 0.3,
          minDelay: 0,
          maxDelay: random.next() * 3 * this.interval,
        };
        return undefined;
      case 9:
        return node.setLink(Math.max(0, link), chance(random, 0.5));
      case 10:
        return node.setTrack(pick(random, TRACKS), chance(random, 0.5));
      case 11:
        return node.running ? node.step({ type: "stop" }) : undefined;
      case 12:
        // One direction of one pair.
        return network.cut(link, node.index, pick(random, this.nodes).index);
      default: {
        const to = pick(random, [undefined, ...this.nodes.map(({ index }) => nodeName(index))]);
        if (node.running) node.step({ type: "switchover", id: 1, to });
        return undefined;
      }
    }
  }

  /** Everything works again: nodes run, links are up, nothing fails. */
  heal(): void {
    this.say("heal");
    this.network.heal();
    for (const node of this.nodes) {
      node.resume();
      if (node.stopped || node.state?.stopping === true) node.kill();
      node.boot();
      this.plans[0]?.instances.forEach((_, link) => node.setLink(link, true));
      for (const track of TRACKS) node.setTrack(track, true);
    }
  }
  /** How long a healed segment may take until one node is Active and nothing changes any more. */
  get settling(): number {
    const delay = (this.plans[0]?.preemptDelay ?? 0) + (this.plans[0]?.startDelay ?? 0);
    return 4 * this.longestDown + delay + 3 * this.interval + 4000;
  }
  /** Where preemption is on, nobody above the Active is left waiting; equals do not preempt each other. */
  highest(): number {
    const running = this.nodes.filter((n) => n.running);
    return Math.max(...running.map((n) => effectivePriority(n.plan, n.state?.failing ?? [])));
  }
  expectOne(what: string): SimNode {
    const actives = this.actives();
    const [only] = actives;
    if (actives.length !== 1 || !only)
      this.broken(`${what}: ${actives.length} Active (${actives.map((n) => n.index).join(", ")})`);
    return only;
  }
}
