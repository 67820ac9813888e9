/** What one seed does, and what must hold. */
import { messageOf } from "../../base/errors.ts";
import { chance, randomInt } from "../../base/random.ts";
import { activeDownInterval } from "../vrrp/machine.ts";
import { WEAK_FOR } from "../group/machine-state.ts";
import { type SimNode, nodeName } from "./node.ts";
import { World } from "./world.ts";

/** Runs one seed; throws InvariantBroken with the tail of its log. */
export function runSeed(seed: number): World {
  const world = new World(seed);
  const { random, interval } = world;
  for (const node of world.nodes) if (chance(random, 0.9)) node.boot();
  const mishaps = randomInt(random, 0, 12);
  for (let i = 0; i < mishaps; i++) {
    world.run(random.next() * 8 * interval);
    world.mishap();
  }
  world.run(random.next() * 4 * interval);
  world.heal();
  world.run(world.settling);
  const active = world.expectOne("healed and settled");
  // Neighbours keep the last announcement that they heard, for as long as a minute.
  if (world.network.believed !== active.index)
    world.broken(`n${active.index} is Active, but the last to announce was n${world.network.believed}`);
  const changes = world.nodes.map((n) => n.state?.transitions ?? 0);
  world.run(20 * interval);
  if (world.expectOne("left alone") !== active) world.broken("the Active changed in calm weather");
  world.nodes.forEach((node, i) => {
    if (node.state?.transitions !== changes[i]) world.broken(`n${i} changed its state in calm weather`);
  });
  const yielded = world.nodes.some((n) => n.state?.links.some(({ vrrp }) => vrrp.yielded));
  if (active.plan.preempt && !yielded && world.highest() > active.plan.priority)
    world.broken(`n${active.index} is Active, preemption is on, and it is not the highest`);
  world.say(`calm, n${active.index} Active`);
  calmChange(world);
  if (chance(random, 0.3)) {
    world.heal();
    world.run(world.settling);
    weakness(world);
  }
  if (chance(random, 0.3)) {
    world.heal();
    world.run(world.settling + 1000);
    drained(world);
  }
  return world;
}

/** The Active is taken out, restarted, needed after all, relieved, and brought back. */
function drained(world: World): void {
  const { random, interval } = world;
  const out = world.expectOne("before it is drained");
  const others = world.nodes.filter((node) => node !== out);
  const calm = WEAK_FOR + 3000 + 20 * interval;
  const elsewhere = (when: string): void => {
    if (world.expectOne(when) === out) world.broken(`n${out.index} is out and Active ${when}`);
  };
  world.say(`n${out.index} is drained`);
  world.resetGap();
  out.results = [];
  // The plan is carried out a moment before or after the command.
  const lower = (): void => out.setOut(true);
  const before = chance(random, 0.5);
  if (before) lower();
  out.step({ type: "switchover", id: 9 });
  if (!before) lower();
  world.run(50);
  const [result] = out.results;
  if (!result?.ok) world.broken(`the drain failed: ${result?.error ?? "no result"}`);
  elsewhere("after the drain");
  world.run(calm);
  elsewhere("long after the drain");
  if (world.endGap() > 0) world.broken(`a drain left ${world.endGap()} ms without an owner`);
  world.say("it is restarted");
  out.powerOff();
  out.boot();
  world.run(world.settling);
  elsewhere("after its restart");
  world.say("the others die");
  for (const node of others) node.powerOff();
  world.run(world.settling);
  if (world.expectOne("when nobody else is left") !== out) world.broken("a dead node is Active");
  for (const node of others) node.boot();
  world.run(world.settling + calm);
  // One that has priority 1 in the site file looks like one that is taken out, too.
  if (others.some(({ plan }) => plan.priority > 1)) elsewhere("when healthier nodes are back");
  const now = world.expectOne("before it is enabled");
  world.say("it is enabled");
  out.setOut(false);
  world.run(world.settling + 1000);
  if (world.expectOne("after it is enabled") !== now && !out.plan.preempt)
    world.broken("an enabled node took the addresses back without preemption");
}

/** The Active, or every node, is lowered; nothing else happens. */
function weakness(world: World): void {
  const { random, interval } = world;
  const active = world.expectOne("healed again");
  const long = WEAK_FOR + 3000 + 20 * interval;
  const lower = (bad: boolean, nodes: readonly SimNode[]): void => {
    for (const node of nodes) {
      const at = world.queue.now + random.next() * 1000;
      world.queue.add(at, () => node.setTrack("lower", !bad));
    }
  };
  world.resetGap();
  if (chance(random, 0.5)) {
    world.say("every node is lowered");
    lower(true, world.nodes);
    world.run(long);
    // With preemption the first that is lowered may be preempted meanwhile: that is what it says.
    if (world.expectOne("all lowered") !== active && !active.plan.preempt)
      world.broken("all nodes are lowered alike, and the addresses moved");
  } else {
    world.say(`n${active.index} is lowered`);
    const weak = Math.max(1, Math.min(254, active.plan.priority - 30));
    const better = world.nodes.some((node) => node !== active && node.plan.priority > weak);
    lower(true, [active]);
    world.run(long);
    const now = world.expectOne("one lowered");
    if (better === (now === active))
      world.broken(better ? "a lowered Active did not hand over" : "handed over to none that is better");
  }
  if (world.endGap() > 0) world.broken(`lowering left ${world.endGap()} ms without an owner`);
  lower(false, world.nodes);
  world.run(world.settling + 1000);
  world.expectOne("recovered");
}

function calmChange(world: World): void {
  const { random, interval } = world;
  const active = world.expectOne("before");
  const others = world.nodes.filter((node) => node !== active);
  const other = others[randomInt(random, 0, others.length - 1)];
  if (!other) return;
  const slack = 0.01 * world.longestDown + 5;
  switch (randomInt(random, 0, 4)) {
    case 0: {
      world.say(`switchover to n${other.index}`);
      world.resetGap();
      const from = chance(random, 0.3) ? other : active;
      from.results = [];
      from.step({ type: "switchover", id: 7, to: nodeName(other.index) });
      world.run(50);
      const [result] = from.results;
      if (!result?.ok) world.broken(`switchover failed: ${result?.error ?? "no result"}`);
      if (world.expectOne("after a switchover") !== other) world.broken("another node than asked is Active");
      if (world.endGap() > 0) world.broken(`a switchover left ${world.endGap()} ms without an owner`);
      world.run(20 * interval);
      const now = world.expectOne("long after a switchover");
      // With preemption a third node may be entitled to it; the giver never takes it back.
      if (now === active || (!other.plan.preempt && now !== other)) world.broken("a switchover was undone");
      break;
    }
    case 1:
    case 2: {
      const death = chance(random, 0.5) ? "power cut" : "kill -9";
      world.say(`${death} of n${active.index}`);
      const before = world.queue.now;
      if (death === "power cut") active.powerOff();
      else active.kill();
      const down = Math.min(...others.map((n) => activeDownInterval(3, n.plan.priority, n.plan.interval)));
      world.run(down - interval - slack);
      if (world.actives().length > 0) world.broken("taken over before the Active could be known dead");
      world.run(before + down + slack - world.queue.now);
      if (world.actives().length === 0) world.broken(`nobody took over within ${down + slack} ms`);
      world.run(world.settling);
      world.expectOne("after a death");
      break;
    }
    case 3: {
      world.say(`stop of n${active.index}`);
      world.resetGap();
      active.step({ type: "stop" });
      world.run(50);
      if (!active.stopped) world.broken("a stop with able nodes beside it took more than 50 ms");
      if (world.endGap() > 0) world.broken(`a stop left ${world.endGap()} ms without an owner`);
      world.expectOne("after a stop");
      break;
    }
    default: {
      // A quick restart of redundancy alone: its lease keeps the addresses, nobody takes over.
      if (interval < 1000) break;
      world.say(`restart of n${active.index}`);
      active.kill();
      world.run(300);
      active.boot();
      world.run(1.5 * interval + interval + slack);
      if (world.expectOne("after a restart") !== active) world.broken("a quick restart moved the addresses");
      break;
    }
  }
}

/** Runs a range of seeds; what broke is named with how to see it again. */
export function runSeeds(from: number, to: number): { seeds: number; broken: string[] } {
  const broken: string[] = [];
  for (let seed = from; seed <= to; seed++) {
    try {
      runSeed(seed);
    } catch (error) {
      broken.push(`seed ${seed} (replay: NINES_SEED=${seed}): ${messageOf(error)}`);
      if (broken.length >= 5) break;
    }
  }
  return { seeds: to - from + 1, broken };
}
