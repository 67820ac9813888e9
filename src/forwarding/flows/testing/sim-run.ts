/**
 * What one seed does: nodes are started, clients come and go, everything that can fail fails for a while, and all is
 * healed. From then on the kernels must agree; planned switchovers in calm weather must cost nothing; and when the
 * clients have gone, nothing may be left.
 */
import { messageOf } from "../../../base/errors.ts";
import { chance, randomInt } from "../../../base/random.ts";
import type { MakeRouter } from "./sim-contracts.ts";
import type { SimNode } from "./sim-node.ts";
import { LIFETIME, SimWorld, sameBackend } from "./sim-world.ts";

/** ms: an Active that is silent is followed, a stream that is silent is given up, dialed again and resumed. */
const settling = (world: SimWorld): number => 9000 + 8 * world.interval;

/** ms that an entry lives without a packet: machine-store.ts gives a copy 30 s at least. */
const LONGEST = 1000 * Math.max(LIFETIME.tcp, 30);

export interface SeedOptions {
  readonly trace?: boolean;
  readonly masqueraded?: boolean;
}

export function runSeed(
  seed: number,
  makeRouter: MakeRouter,
  { trace = false, masqueraded = false }: SeedOptions = {},
): SimWorld {
  const world = new SimWorld(seed, makeRouter, masqueraded);
  world.trace = trace;
  if (trace) world.say = (what) => console.log(`${world.now.toFixed(1)} ${what}`);
  const { random, nodes } = world;
  const faults = !chance(random, 0.12);
  for (const node of nodes) world.queue.add(random.next() * 500, () => node.powerOn());
  world.run(2500 + 5 * world.interval);
  if (faults) {
    for (let i = randomInt(random, 2, 9); i > 0; i--) {
      mishap(world);
      world.run(chance(random, 0.4) ? random.next() * 300 : random.next() * 4000);
    }
    heal(world);
    expectAgreement(world, "healed", settling(world));
  }
  world.becomeCalm();
  for (let i = randomInt(random, 1, 2); i > 0; i--) planned(world);
  expectAgreement(world, "after planned switchovers", 5000);
  if (!faults) expectNothingTwice(world);
  world.busy = false;
  // The last packets, and the time of an entry; where something is left, whoever held it last may need the same again.
  world.run(LONGEST + 14_000);
  if (leftover(world) !== undefined) world.run(2 * LONGEST);
  const left = leftover(world);
  if (left !== undefined) world.broken(left);
  return world;
}

function pick<T>(world: SimWorld, from: readonly T[]): T {
  const picked = from[randomInt(world.random, 0, from.length - 1)];
  return picked ?? world.broken("nothing to pick from");
}

function mishap(world: SimWorld): void {
  const { random, network, nodes } = world;
  const node = pick(world, nodes);
  const other = pick(
    world,
    nodes.filter((one) => one !== node),
  );
  const kind = randomInt(random, 0, 14);
  world.say(`mishap ${kind} n${node.index} n${other.index}`);
  const later = (after: number, run: () => void): void => world.queue.add(world.now + after, run);
  switch (kind) {
    case 0:
    case 1:
      node.killProcess();
      return later(50 + random.next() * 1500, () => node.startProcess());
    case 2:
      // One at least goes on.
      if (nodes.every((one) => one === node || !one.powered)) return undefined;
      node.powerOff();
      return later(6000 + random.next() * 6000, () => node.powerOn());
    case 3: {
      // Two sides, each of which has what it had.
      for (const one of nodes)
        for (const two of nodes)
          if (one.index % 2 !== two.index % 2) {
            network.cut("flows", one.index, two.index);
            network.cut("segment", one.index, two.index);
          }
      return undefined;
    }
    case 4:
      return network.cut("flows", node.index, other.index);
    case 5:
      return network.stall(node.index, other.index, world.now + random.next() * 4000);
    case 6:
      // Half of the time with batches that wait for the kernel.
      if (chance(random, 0.5)) node.kernel.busyUntil = world.now + random.next() * 100;
      return later(random.next() * 40, () => network.breakBetween(node.index, other.index));
    case 7:
      return node.kernel.overrun(random.next() * 60);
    case 8:
      node.kernel.busyUntil = world.now + random.next() * 600;
      return undefined;
    case 9:
    case 10: {
      const from = pick(world, world.routerNames);
      node.routers.get(from)?.switchover(world.name(other.index));
      return undefined;
    }
    case 11: {
      // Another program removes entries of a node through which no packet goes.
      if ([...node.routers.values()].some(({ active }) => active) || node.process?.listens !== true)
        return undefined;
      for (const key of node.kernel.keys())
        if (chance(random, 0.3) && node.process?.store.own.get(key) === undefined) {
          node.kernel.removed.set(key, world.now);
          node.kernel.remove(key);
        }
      return undefined;
    }
    case 12: {
      const without = pick(world, world.services);
      const sets = nodes.map((one) =>
        one.services.length < world.services.length ? world.services : undefined,
      );
      nodes.forEach((one, i) =>
        later(random.next() * 1500, () =>
          reload(one, sets[i] ?? world.services.filter((s) => s !== without)),
        ),
      );
      return undefined;
    }
    case 13:
      network.slow = random.next() * 40;
      network.loss = random.next() * 0.3;
      return undefined;
    default:
      return network.heal();
  }
}

function reload(node: SimNode, services: SimNode["services"]): void {
  // All files are whole again by then.
  if (node.world.healed && services !== node.world.services) return;
  node.services = services;
  node.reloadedAt = node.world.now;
  node.say(`reloads: ${services.map(({ name }) => name).join(", ")}`);
  node.configure();
}

function heal(world: SimWorld): void {
  world.say("heal");
  world.healed = true;
  world.network.heal();
  for (const node of world.nodes) {
    node.kernel.busyUntil = 0;
    if (node.services !== world.services) reload(node, world.services);
    node.powerOn();
    node.startProcess();
  }
}

function planned(world: SimWorld): void {
  const { random } = world;
  const router = pick(world, world.routerNames);
  const [active] = world.actives(router);
  const others = world.nodes.filter((node) => node !== active);
  if (active === undefined) return world.broken(`${router} has no Active`);
  const to = pick(world, others);
  world.say(`planned switchover of ${router} from n${active.index} to n${to.index}`);
  (chance(random, 0.3) ? to : active).routers.get(router)?.switchover(world.name(to.index));
  world.run(2000 + random.next() * 2000);
  return undefined;
}

/** Within this time everything must be as it should; nothing moves meanwhile but what the nodes do themselves. */
function expectAgreement(world: SimWorld, when: string, within: number): void {
  const until = world.now + within;
  for (;;) {
    world.run(300);
    world.frozen = true;
    world.run(300);
    const wrong = disagreement(world);
    world.frozen = false;
    if (wrong === undefined) return;
    if (world.now >= until) world.broken(`${when}: ${wrong}`);
  }
}

/** Whatever is open and in the Active's kernel is in every kernel, and has one owner. */
function disagreement(world: SimWorld): string | undefined {
  for (const { index, process } of world.nodes)
    for (const peer of process?.peers.values() ?? []) {
      const { connected, sentAll, receivedAll, unacknowledged } = peer.machine.status;
      if (!connected || !sentAll || !receivedAll || unacknowledged > 0)
        return `n${index} and n${peer.index} are not in sync: ${JSON.stringify(peer.machine.status)}`;
    }
  for (const router of world.routerNames) {
    const actives = world.actives(router);
    const [active] = actives;
    if (active === undefined || actives.length > 1) return `${router} has ${actives.length} Active`;
    for (const connection of world.connections.values()) {
      const { key, flow, service, state } = connection;
      if (state !== "open" || service.router !== router) continue;
      if (!sameBackend(active.kernel.backend(key), flow)) continue;
      for (const node of world.nodes) {
        const what = world.describe(connection);
        if (!sameBackend(node.kernel.backend(key), flow))
          return `n${node.index} has no ${what}, which n${active.index} has`;
        const owned = node.process?.store.own.get(key) !== undefined;
        if (owned !== (node === active))
          return `n${node.index} ${owned ? "owns" : "does not own"} ${what}, with n${active.index} Active`;
      }
    }
  }
  return undefined;
}

/** No fault, no repetition: a snapshot at the beginning, and then each change at most once. */
function expectNothingTwice(world: SimWorld): void {
  for (const { index, process } of world.nodes)
    for (const peer of process?.peers.values() ?? []) {
      const { snapshots, resumes, entriesSent } = peer.machine.status;
      const told = process?.told ?? 0;
      if (snapshots !== 1 || resumes !== 0 || entriesSent > told)
        world.broken(
          `n${index} sent n${peer.index} ${snapshots} snapshots, ${resumes} resumptions, ${entriesSent} entries of ${told} changes`,
        );
    }
}

/** The clients have gone long ago. */
function leftover(world: SimWorld): string | undefined {
  for (const { index, kernel, process } of world.nodes) {
    const [key] = kernel.keys();
    const connection = key === undefined ? undefined : world.connections.get(key);
    if (connection !== undefined)
      return `n${index} still has ${world.describe(connection)}, which ended at ${connection.endedAt}`;
    const { own, others } = process?.store.counts ?? { own: 0, others: 0 };
    if (own + others > 0) return `n${index} still keeps ${own} flows of its own and ${others} of others`;
  }
  return undefined;
}

export interface Summary {
  readonly seeds: number;
  readonly broken: readonly string[];
}
/** Runs a range of seeds; what broke is named with how to see it again. */
export function runSeeds(
  from: number,
  to: number,
  makeRouter: MakeRouter,
  options: SeedOptions = {},
): Summary {
  const broken: string[] = [];
  for (let seed = from; seed <= to && broken.length < 5; seed++) {
    try {
      runSeed(seed, makeRouter, options);
    } catch (error) {
      const how = options.masqueraded === true ? " NINES_MASQUERADED=1" : "";
      broken.push(`seed ${seed} (replay: NINES_SEED=${seed}${how}): ${messageOf(error)}`);
    }
  }
  return { seeds: to - from + 1, broken };
}
