/** Groups: instances that move together, what is tracked, and hand-over. Cases 21 and 25, and the design's orders. */
import { describe, expect, it } from "vitest";
import { type IpAddress, ip } from "../../base/addresses.ts";
import { type MonotonicMs, instant, ms, seconds } from "../../base/time.ts";
import { MAINTENANCE, type RouterPlan, type TrackPlan } from "../../contracts/redundancy.ts";
import { GROUP_TRANSITIONS, nextGroupDeadline, stepGroup } from "./machine.ts";
import {
  GROUP_TIMERS,
  type GroupEffect,
  type GroupEvent,
  type GroupState,
  type NodeMessage,
  effectivePriority,
  initialGroup,
  isEligible,
} from "./machine-state.ts";

const own = (link: number): IpAddress => ip(`10.0.${link}.2`);
const other = (link: number): IpAddress => ip(`10.0.${link}.3`);
const tracks: TrackPlan[] = [
  { name: "interface eth9", kind: "interface", interface: "eth9" },
  { name: "pool apps", kind: "reported" },
  { name: "script x", kind: "reported", lower: 30 },
];

function planOf(change: Partial<RouterPlan> = {}, links = 1): RouterPlan {
  return {
    router: "edge",
    version: 3,
    priority: 100,
    interval: ms(100),
    preempt: false,
    preemptDelay: ms(0),
    startDelay: ms(0),
    checksum: "auto",
    minHopLimit: 255,
    virtualMac: false,
    lease: seconds(2),
    fence: true,
    announce: { count: 5, interval: ms(20), again: seconds(5), refresh: seconds(60) },
    tracks,
    hooks: { timeout: seconds(10) },
    instances: Array.from({ length: links }, (_, i) => ({
      interface: `eth${i}`,
      vrid: 51 + i,
      family: 4,
      unicast: false,
      addresses: [{ address: ip(`10.0.${i}.1`), interface: `eth${i}`, advertise: true }],
      peers: [],
    })),
    nodes: [
      { node: "lb1", address: ip("10.9.0.2"), priority: 100 },
      { node: "lb2", address: ip("10.9.0.3"), priority: 110 },
    ],
    ...change,
  };
}

class Bench {
  now: MonotonicMs = instant(0);
  plan: RouterPlan;
  state: GroupState;
  effects: GroupEffect[] = [];
  constructor(change: Partial<RouterPlan> = {}, links = 1) {
    this.plan = planOf(change, links);
    this.state = initialGroup(this.#context(), 0);
    for (let index = 0; index < links; index++)
      this.send({ type: "link", index, up: true, reason: "up", source: own(index) });
    this.send({ type: "start" });
    this.at(0);
  }
  #context() {
    return { now: this.now, plan: this.plan, node: "lb1" };
  }
  send(event: GroupEvent): GroupEffect[] {
    const step = stepGroup(this.state, event, this.#context());
    this.state = step.state;
    this.effects.push(...step.effects);
    return [...step.effects];
  }
  at(when: number): this {
    for (let due = nextGroupDeadline(this.state); due <= when; due = nextGroupDeadline(this.state)) {
      if (due > this.now) this.now = due;
      this.send({ type: "timer" });
    }
    this.now = instant(when);
    return this;
  }
  after(span: number): this {
    return this.at(this.now + span);
  }
  active(): this {
    this.after(400);
    expect(this.state.name).toBe("active");
    this.effects = [];
    return this;
  }
  hear(priority: number, index = 0, source = other(index)): GroupEffect[] {
    return this.send({ type: "advertisement", index, source, priority, interval: this.plan.interval });
  }
  peer(change: Partial<GroupState["peers"][string]> = {}, node = "lb2"): void {
    const peer = {
      at: this.now,
      state: "backup" as const,
      priority: 110,
      eligible: true,
      life: 1,
      claims: 0,
      ...change,
    };
    this.send({ type: "peer", node, peer });
  }
  message(message: NodeMessage): GroupEffect[] {
    return this.send({ type: "message", from: "lb2", message });
  }
}
const types = (effects: readonly GroupEffect[]): string[] => effects.map(({ type }) => type);

describe("takeover and loss", () => {
  it("advertises, holds, announces, then tells and runs hooks", () => {
    const bench = new Bench({}, 2);
    bench.effects = [];
    bench.after(400);
    expect(types(bench.effects)).toEqual([
      "advertise",
      "advertise",
      "count",
      "hold",
      "announce",
      "changed",
      "hook",
    ]);
  });
  it("takes over only when every link is silent", () => {
    const bench = new Bench({}, 2);
    for (let i = 0; i < 10; i++) {
      bench.after(90);
      bench.hear(110, 1);
    }
    expect(bench.state.name).toBe("backup");
    bench.after(400);
    expect(bench.state.name).toBe("active");
  });
  it("leaves on all links when a better one is heard on one", () => {
    const bench = new Bench({}, 2).active();
    expect(types(bench.hear(110, 1))).toEqual(["advertise", "release", "changed", "hook"]);
    expect(bench.state.links.map(({ vrrp }) => vrrp.name)).toEqual(["backup", "backup"]);
  });
  it("announces again when a hello tells that the other was Active, too, and gave way", () => {
    const bench = new Bench().active();
    const told = (change: Parameters<Bench["peer"]>[0]): string[] => {
      const before = bench.effects.length;
      bench.peer(change);
      return types(bench.effects.slice(before)).filter((type) => type === "announce");
    };
    expect(told({})).toEqual([]);
    // While it is still Active the election speaks; afterwards its announcements outlive it.
    expect(told({ claims: 1, state: "active" })).toEqual([]);
    expect(told({ claims: 1 })).toEqual(["announce"]);
    expect(told({ claims: 1 })).toEqual([]);
    // One that was started again may have died while Active.
    expect(told({ life: 2 })).toEqual(["announce"]);
    expect(told({ life: 2 })).toEqual([]);
  });
  it("announces after 5 s, after a lease, and as a refresh", () => {
    const bench = new Bench().active();
    bench.after(61_000);
    const why = bench.effects.flatMap((e) => (e.type === "announce" ? [e.why] : []));
    expect(why).toEqual(["the predecessor's lease has run out", "a while after the takeover", "refresh"]);
  });
  it("lets the first link break a tie that two links see differently", () => {
    const bench = new Bench({}, 2).active();
    // Lower on the first link, greater on the second: waits for the first to tell.
    expect(types(bench.hear(100, 1, ip("10.0.1.9")))).toEqual([]);
    expect(types(bench.hear(100, 0, ip("10.0.0.1")))).toContain("announce");
    bench.after(300);
    expect(types(bench.hear(100, 1, ip("10.0.1.9")))).toEqual([]);
    expect(bench.state.name).toBe("active");
    // The first link has been deaf for long: the second decides after two intervals.
    bench.after(1000);
    bench.hear(100, 1, ip("10.0.1.9"));
    bench.after(250);
    bench.hear(100, 1, ip("10.0.1.9"));
    expect(bench.state.name).toBe("backup");
  });
  it("hears a release on one link for all", () => {
    const bench = new Bench({}, 2);
    bench.hear(110, 0);
    bench.hear(110, 1);
    bench.hear(0, 0);
    bench.after(62);
    expect(bench.state.name).toBe("active");
  });
});

describe("what is tracked", () => {
  it("faults all links when one goes down, and joins again when it is back (case 25)", () => {
    const bench = new Bench({}, 2).active();
    const effects = bench.send({ type: "link", index: 1, up: false, reason: "eth1 is down" });
    expect(types(effects)).toEqual([
      "advertise",
      "advertise",
      "count",
      "count",
      "release",
      "changed",
      "hook",
    ]);
    expect(effects[0]).toMatchObject({ priority: 0 });
    expect(bench.state).toMatchObject({ name: "fault", reason: "eth1 is down" });
    bench.send({ type: "link", index: 1, up: true, reason: "up", source: own(1) });
    expect(bench.state).toMatchObject({ name: "backup", reason: "recovered" });
  });
  it("does not start with a missing interface", () => {
    const bench = new Bench();
    bench.send({ type: "link", index: 0, up: false, reason: 'there is no interface "eth0"' });
    expect(bench.state.reason).toBe('there is no interface "eth0"');
  });
  it("lowers the priority, tells it at once, and never below 1", () => {
    const bench = new Bench().active();
    const effects = bench.send({ type: "track", name: "script x", good: false, reason: "exit 1" });
    expect(effects).toEqual([{ type: "advertise", index: 0, priority: 70 }]);
    expect(effectivePriority(planOf({ priority: 20 }), bench.state.failing)).toBe(1);
    expect(effectivePriority(planOf({ priority: 255 }), bench.state.failing)).toBe(225);
    bench.send({ type: "track", name: "script x", good: true, reason: "" });
    expect(bench.effects.at(-1)).toEqual({ type: "advertise", index: 0, priority: 100 });
    expect(bench.send({ type: "track", name: "unknown", good: false, reason: "" })).toEqual([]);
  });
  it("keeps the Active where no healthier node is heard, and hands over where one is", () => {
    const bench = new Bench().active();
    bench.send({ type: "track", name: "pool apps", good: false, reason: "0 of 3 are healthy" });
    bench.after(5000);
    expect(bench.state.name).toBe("active");
    bench.peer({ eligible: false });
    bench.after(1100);
    expect(bench.effects.some((e) => e.type === "message")).toBe(false);
    bench.peer();
    bench.after(1100);
    expect(bench.effects.find((e) => e.type === "message")).toMatchObject({
      to: "lb2",
      message: { type: "offer" },
    });
    bench.hear(110);
    expect(bench.state).toMatchObject({ name: "fault", reason: "pool apps: 0 of 3 are healthy" });
  });
  it("faults a Backup, and an Active without other nodes of the site", () => {
    const backup = new Bench();
    backup.send({ type: "track", name: "pool apps", good: false, reason: "none" });
    expect(backup.state.name).toBe("fault");
    expect(isEligible(backup.state)).toBe(false);
    const alone = new Bench({ nodes: [{ node: "lb1", address: ip("10.9.0.2"), priority: 100 }] }).active();
    alone.send({ type: "track", name: "pool apps", good: false, reason: "none" });
    expect(alone.state.name).toBe("fault");
  });
  it("hands over when lowered below a healthier node for a while, without holding itself back later", () => {
    const bench = new Bench({ preempt: true }).active();
    const offers = () => bench.effects.filter((e) => e.type === "message").length;
    bench.send({ type: "lower", name: "nines brain", by: 11, reason: "silent for 10 s" });
    for (let second = 0; second < 3; second++) {
      bench.peer({ priority: 105 });
      bench.after(1000);
    }
    expect(offers()).toBe(0);
    bench.peer({ priority: 105 });
    bench.after(1000);
    expect(offers()).toBeGreaterThan(0);
    bench.hear(95);
    expect(bench.state.name).toBe("backup");
    expect(bench.state.links[0]?.vrrp.yielded).toBe(false);
  });
  it("taken out by an operator it stands at 1 and hands over, and serves on where the other one is out as well", () => {
    const out = { type: "lower", name: MAINTENANCE, by: 254, reason: "drained" } as const;
    const bench = new Bench({ priority: 110 }).active();
    const offers = () => bench.effects.filter((e) => e.type === "message").length;
    bench.send(out);
    expect(effectivePriority(bench.plan, bench.state.failing)).toBe(1);
    for (let second = 0; second < 10; second++) {
      bench.peer({ priority: 1 });
      bench.after(1000);
    }
    expect([bench.state.name, offers()]).toEqual(["active", 0]);
    // That one is enabled: it is the healthier one from now on.
    for (let second = 0; second < 5; second++) {
      bench.peer({ priority: 100 });
      bench.after(1000);
    }
    expect(offers()).toBeGreaterThan(0);
    // A reload keeps it; enabling ends it.
    bench.send({ type: "planned" });
    expect(effectivePriority(bench.plan, bench.state.failing)).toBe(1);
    bench.send({ ...out, by: 0 });
    expect(effectivePriority(bench.plan, bench.state.failing)).toBe(110);
  });
  it.each([true, false])("enabled again it goes back by itself only with preemption (%s)", (preempt) => {
    const bench = new Bench({ priority: 110, preempt }).active();
    bench.send({ type: "lower", name: MAINTENANCE, by: 254, reason: "drained" });
    bench.peer();
    bench.send({ type: "switchover", id: 7 });
    bench.hear(100);
    expect(bench.state.name).toBe("backup");
    bench.send({ type: "lower", name: MAINTENANCE, by: 0, reason: "" });
    for (let i = 0; i < 10; i++) {
      bench.after(100);
      if (bench.state.name === "backup") bench.hear(100);
    }
    expect(bench.state.name).toBe(preempt ? "active" : "backup");
  });
  it("taken out before its start it does not preempt, and still takes over when nobody is left", () => {
    const bench = new Bench({ priority: 110, preempt: true });
    bench.send({ type: "lower", name: MAINTENANCE, by: 254, reason: "drained" });
    bench.hear(100);
    for (let i = 0; i < 30; i++) {
      bench.after(100);
      bench.hear(100);
    }
    expect(bench.state.name).toBe("backup");
    bench.after(1000);
    expect(bench.state.name).toBe("active");
  });
  it("stays where the other node is lowered as much, or was the healthier one for a moment only", () => {
    const bench = new Bench().active();
    const offers = () => bench.effects.filter((e) => e.type === "message").length;
    bench.send({ type: "track", name: "script x", good: false, reason: "exit 1" });
    bench.peer({ priority: 110 });
    bench.after(1000);
    for (let second = 0; second < 10; second++) {
      // Its 80 of 110 is above this node's 70 of 100, and no better.
      bench.peer({ priority: 80 });
      bench.after(1000);
    }
    expect(offers()).toBe(0);
    expect(bench.state.name).toBe("active");
  });
});

describe("switchover, make before break", () => {
  it("serves on until the other one is heard", () => {
    const bench = new Bench().active();
    bench.peer({ priority: 90 });
    expect(bench.send({ type: "switchover", id: 7 })).toEqual([
      { type: "message", to: "lb2", message: { type: "offer", router: "edge", id: 1 } },
    ]);
    bench.after(250);
    expect(bench.effects.filter((e) => e.type === "message")).toHaveLength(3);
    expect(bench.effects.some((e) => e.type === "release")).toBe(false);
    const effects = bench.hear(90);
    expect(types(effects)).toEqual(["count", "release", "changed", "hook", "result"]);
    expect(effects.at(-1)).toEqual({ type: "result", id: 7, ok: true });
    expect(bench.state.links[0]?.vrrp.yielded).toBe(true);
  });
  it("takes an offer of a restarted node whose clock was set back, and no old one of the same process", () => {
    const bench = new Bench();
    bench.hear(110);
    bench.message({ type: "cancel", router: "edge", id: 5000 });
    expect(bench.message({ type: "offer", router: "edge", id: 4999 })).toEqual([]);
    bench.send({ type: "restarted", node: "lb2" });
    expect(types(bench.message({ type: "offer", router: "edge", id: 7 }))).toContain("hold");
  });
  it("installs and announces before it advertises, when it is given the addresses", () => {
    const bench = new Bench();
    bench.peer({ state: "active" });
    bench.hear(110);
    const effects = bench.message({ type: "offer", router: "edge", id: 4 });
    expect(types(effects)).toEqual(["hold", "announce", "advertise", "count", "changed", "hook"]);
    expect(bench.hear(110)).toEqual([]);
    // The offer again: the advertisement was lost.
    expect(types(bench.message({ type: "offer", router: "edge", id: 4 }))).toEqual(["advertise"]);
    bench.after(1100);
    bench.hear(110);
    expect(bench.state.name).toBe("backup");
    // Delayed beyond its end: an old offer.
    expect(bench.message({ type: "offer", router: "edge", id: 4 })).toEqual([]);
  });
  it("does not shut its ears longer than the hand-over lasts, if it stalls right after it", () => {
    const bench = new Bench();
    bench.message({ type: "offer", router: "edge", id: 4 });
    expect(bench.state.name).toBe("active");
    // Five seconds later the packets of whoever took over meanwhile come before the timers.
    bench.now = instant(bench.now + 5000);
    bench.send({ type: "woke", late: seconds(4) });
    bench.hear(90);
    expect(bench.state.name).toBe("backup");
  });
  it("goes on when the other one refuses, or is not heard in time", () => {
    const bench = new Bench().active();
    bench.peer();
    bench.send({ type: "switchover", id: 7, to: "lb2" });
    const refused = bench.message({ type: "refuse", router: "edge", id: 1, reason: "fault" });
    expect(refused.at(-1)).toMatchObject({ id: 7, ok: false, error: "lb2 refused: fault" });
    bench.send({ type: "switchover", id: 8 });
    bench.effects = [];
    bench.after(1100);
    expect(bench.effects).toContainEqual({
      type: "message",
      to: "lb2",
      message: { type: "cancel", router: "edge", id: 2 },
    });
    expect(bench.effects.find((e) => e.type === "result")).toMatchObject({ id: 8, ok: false });
    expect(bench.state.name).toBe("active");
  });
  it("refuses what cannot be, with the reason", () => {
    const error = (bench: Bench, to?: string): string | undefined => {
      const result = bench.send({ type: "switchover", id: 1, to }).find((e) => e.type === "result");
      return result?.error;
    };
    const bench = new Bench().active();
    expect(error(bench)).toBe("no other node of this router is heard and able to take over");
    expect(error(bench, "lb9")).toBe("edge has no node lb9; it has lb1, lb2");
    expect(error(bench, "lb1")).toBe("lb1 is Active already");
    expect(error(bench, "lb2")).toBe("lb2 has not been heard for 3000 ms");
    bench.peer({ eligible: false, state: "fault" });
    expect(error(bench, "lb2")).toBe("lb2 cannot take over: it is in state fault or something fails there");
    bench.peer();
    bench.send({ type: "switchover", id: 2 });
    expect(error(bench)).toBe("a hand-over is under way already");
    expect(error(new Bench())).toBe("lb1 is not Active, and no other node says it is");
  });
  it("asks the Active when commanded on a Backup", () => {
    const bench = new Bench();
    bench.peer({ state: "active" });
    const [asked] = bench.send({ type: "switchover", id: 5 });
    expect(asked).toMatchObject({ to: "lb2", message: { type: "ask", id: 1, to: "lb1" } });
    const effects = bench.message({ type: "offer", router: "edge", id: 9 });
    expect(effects.at(-1)).toEqual({ type: "result", id: 5, ok: true });
    const active = new Bench().active();
    active.peer();
    active.message({ type: "ask", router: "edge", id: 3, to: "lb2" });
    expect(active.state.handover).toMatchObject({ kind: "giving", to: "lb2" });
    expect(active.hear(110).at(-1)).toMatchObject({ message: { type: "answer", id: 3, error: "" } });
    const refused = new Bench();
    refused.peer({ state: "active" });
    refused.send({ type: "switchover", id: 6 });
    expect(refused.message({ type: "answer", router: "edge", id: 1, error: "no" })).toEqual([
      { type: "result", id: 6, ok: false, error: "no" },
    ]);
  });
  it("releases with priority 0 to routers that are no nodes of the site", () => {
    const bench = new Bench({ nodes: [{ node: "lb1", address: ip("10.9.0.2"), priority: 100 }] }).active();
    const effects = bench.send({ type: "switchover", id: 1 });
    expect(effects[0]).toEqual({ type: "advertise", index: 0, priority: 0 });
    expect(effects.at(-1)).toEqual({ type: "result", id: 1, ok: true });
    expect(bench.state.name).toBe("backup");
  });
  it("releases to them as the owner, too, and is Backup on every link until they are silent", () => {
    const nodes = [{ node: "lb1", address: ip("10.9.0.2"), priority: 255 }];
    const bench = new Bench({ nodes, priority: 255 }, 2);
    expect(bench.state.name).toBe("active");
    bench.send({ type: "switchover", id: 1 });
    expect(bench.state.name).toBe("backup");
    expect(bench.state.links.map(({ vrrp }) => vrrp.name)).toEqual(["backup", "backup"]);
    for (let i = 0; i < 10; i++) {
      bench.after(100);
      bench.hear(100);
    }
    expect(bench.state.name).toBe("backup");
    bench.after(400);
    expect(bench.state.name).toBe("active");
  });
  it("stops by handing over, else with priority 0", () => {
    const bench = new Bench().active();
    bench.peer({ priority: 90 });
    expect(types(bench.send({ type: "stop" }))).toEqual(["message"]);
    expect(types(bench.hear(90)).slice(-2)).toEqual(["changed", "stopped"]);
    const alone = new Bench().active();
    expect(types(alone.send({ type: "stop" }))).toEqual([
      "advertise",
      "count",
      "release",
      "changed",
      "stopped",
    ]);
  });
});

describe("a hand-over among three nodes", () => {
  const third = ip("10.0.0.4");
  const three = (change: Partial<RouterPlan> = {}): Bench =>
    new Bench({
      nodes: [
        { node: "lb1", address: ip("10.9.0.2"), priority: 100 },
        { node: "lb2", address: ip("10.9.0.3"), priority: 90 },
        { node: "lb3", address: ip("10.9.0.4"), priority: 80 },
      ],
      ...change,
    });
  const giving = (bench: Bench): Bench => {
    bench.active();
    bench.peer({ priority: 90 });
    bench.peer({ priority: 80 }, "lb3");
    bench.send({ type: "switchover", id: 7, to: "lb2" });
    return bench;
  };
  it("the giver serves on when another one than the taker is heard", () => {
    const bench = giving(three());
    expect(types(bench.hear(80, 0, third))).toEqual(["advertise", "hold", "announce", "count"]);
    expect(bench.state).toMatchObject({ name: "active", handover: { kind: "giving", to: "lb2" } });
    expect(bench.hear(90).at(-1)).toEqual({ type: "result", id: 7, ok: true });
  });
  it("the giver follows a better one than the taker, and says that the hand-over failed", () => {
    const bench = giving(three());
    expect(bench.hear(200, 0, third).find((e) => e.type === "result")).toMatchObject({ id: 7, ok: false });
    expect(bench.state.name).toBe("backup");
    const stopping = three().active();
    stopping.peer({ priority: 90 });
    stopping.send({ type: "stop" });
    expect(types(stopping.hear(200, 0, third)).at(-1)).toBe("stopped");
  });
  it("the taker is known by its address where the site file names it", () => {
    const [instance] = planOf().instances;
    if (!instance) throw new Error("no instance");
    const peers = [
      { node: "lb2", address: other(0) },
      { node: "lb3", address: third },
    ];
    const bench = giving(three({ instances: [{ ...instance, unicast: true, peers }] }));
    // The priority that the taker's hello told, from another node.
    bench.hear(90, 0, third);
    expect(bench.state.name).toBe("active");
    // It was lowered since its last hello.
    bench.hear(60);
    expect(bench.state).toMatchObject({ name: "backup", handover: { kind: "none" } });
  });
  it("of two with one priority the one that says it is Active is meant", () => {
    const bench = giving(three());
    bench.peer({ priority: 90, state: "active" }, "lb3");
    bench.hear(90, 0, third);
    expect(bench.state.name).toBe("active");
    bench.peer({ priority: 90, state: "active" });
    bench.hear(90);
    expect(bench.state.name).toBe("backup");
  });
  const taking = (): Bench => {
    const bench = three();
    bench.peer({ priority: 110, state: "active" });
    bench.hear(110);
    bench.message({ type: "offer", router: "edge", id: 4 });
    expect(bench.hear(110)).toEqual([]);
    expect(bench.state.name).toBe("active");
    return bench;
  };
  it("the taker gives way to a higher one that is not the giver", () => {
    const bench = taking();
    bench.peer({ priority: 120, state: "active" }, "lb3");
    bench.hear(120, 0, third);
    expect(bench.state.name).toBe("backup");
  });
  it("the taker listens to the giver again soon after that one says that it let go", () => {
    const bench = taking();
    bench.peer({ priority: 110 });
    // Sent before, and overtaken by the hello.
    bench.hear(110);
    expect(bench.state.name).toBe("active");
    bench.after(100);
    bench.hear(110);
    expect(bench.state.name).toBe("backup");
  });
});

describe("restart and reload", () => {
  it("resumes within the others' patience when its leases still run (case 21)", () => {
    const bench = new Bench({ startDelay: seconds(9) });
    bench.state = initialGroup({ now: bench.now, plan: bench.plan, node: "lb1" }, 0);
    bench.send({ type: "link", index: 0, up: true, reason: "up", source: own(0) });
    bench.send({ type: "start", resume: true });
    bench.after(133);
    expect(bench.state.name).toBe("active");
  });
  it("keeps its short patience when something lowers it meanwhile", () => {
    const resumed = new Bench();
    resumed.state = initialGroup({ now: resumed.now, plan: resumed.plan, node: "lb1" }, 0);
    resumed.send({ type: "link", index: 0, up: true, reason: "up", source: own(0) });
    resumed.send({ type: "start", resume: true });
    resumed.at(0);
    resumed.send({ type: "track", name: "script x", good: false, reason: "exit 1" });
    resumed.after(135);
    expect(resumed.state.name).toBe("active");
  });
  it("takes over after the skew time of a release that one link heard, though something lowers it", () => {
    const released = new Bench({}, 2);
    released.hear(110, 0);
    released.hear(110, 1);
    released.hear(0, 0);
    released.send({ type: "track", name: "script x", good: false, reason: "exit 1" });
    released.after(74);
    expect(released.state.name).toBe("active");
  });
  it("changes a priority without a change of state", () => {
    const bench = new Bench().active();
    bench.send({ type: "track", name: "script x", good: false, reason: "exit 1" });
    bench.plan = planOf({ priority: 150, tracks: tracks.slice(0, 2) });
    expect(bench.send({ type: "planned" })).toEqual([{ type: "advertise", index: 0, priority: 150 }]);
    expect(bench.state.transitions).toBe(2);
  });
  it("has a sentence for every timer", () => {
    for (const text of Object.values(GROUP_TIMERS)) expect(text.length).toBeGreaterThan(20);
    expect(new Set(GROUP_TRANSITIONS.map(([from, to]) => `${from} ${to}`)).size).toBe(
      GROUP_TRANSITIONS.length,
    );
  });
});
