/** A router whose connections are replicated: no address before them, and no wait without an end. */
import { describe, expect, it } from "vitest";
import { ip } from "../../base/addresses.ts";
import { instant, ms, seconds } from "../../base/time.ts";
import type { RouterPlan, RouterState } from "../../contracts/redundancy.ts";
import { nextGroupDeadline, stepGroup } from "./machine.ts";
import { waitsFor } from "./machine-flows.ts";
import { type FlowsState, type GroupEffect, type GroupEvent, initialGroup } from "./machine-state.ts";

const plan = (change: Partial<RouterPlan> = {}): RouterPlan => ({
  router: "edge",
  version: 3,
  priority: 110,
  interval: ms(100),
  preempt: true,
  preemptDelay: ms(0),
  startDelay: ms(0),
  checksum: "auto",
  minHopLimit: 255,
  virtualMac: false,
  lease: seconds(2),
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
  nodes: [
    { node: "lb1", address: ip("10.9.0.2"), priority: 110 },
    { node: "lb2", address: ip("10.9.0.3"), priority: 100 },
  ],
  flows: { handover: ms(2000), takeover: ms(1000), otherwise: "promote", settle: [] },
  ...change,
});
const synced: FlowsState = { synced: ["lb2"], arriving: [] };
const arriving: FlowsState = { synced: [], arriving: ["lb2"] };

class Bench {
  now = instant(0);
  readonly #plan: RouterPlan;
  state;
  constructor(change: Partial<RouterPlan> = {}) {
    this.#plan = plan(change);
    this.state = initialGroup(this.#context(), 0);
    this.send({ type: "link", index: 0, up: true, reason: "up", source: ip("10.0.0.2") });
    this.send({ type: "start" });
    this.until(0);
  }
  #context() {
    return { now: this.now, node: "lb1", plan: this.#plan };
  }
  get waiting() {
    return waitsFor(this.state, this.#context());
  }
  send(event: GroupEvent): GroupEffect[] {
    const step = stepGroup(this.state, event, this.#context());
    this.state = step.state;
    return [...step.effects];
  }
  /** Runs the timers. */
  until(at: number): GroupEffect[] {
    const effects: GroupEffect[] = [];
    for (let next = nextGroupDeadline(this.state); next <= at; next = nextGroupDeadline(this.state)) {
      this.now = instant(Math.max(next, this.now));
      effects.push(...this.send({ type: "timer" }));
    }
    this.now = instant(at);
    return effects;
  }
  hear(priority: number): GroupEffect[] {
    return this.send({
      type: "advertisement",
      index: 0,
      source: ip("10.0.0.3"),
      priority,
      interval: ms(100),
    });
  }
  peer(state: RouterState, priority = 100, node = "lb2", claims = 0): void {
    const peer = { at: this.now, state, priority, eligible: true, life: 1, claims };
    this.send({ type: "peer", node, peer });
  }
  flows(flows: FlowsState | undefined): GroupEffect[] {
    return this.send({ type: "flows", flows });
  }
  active(): this {
    this.until(1000);
    expect(this.state.name).toBe("active");
    return this;
  }
}
const types = (effects: readonly GroupEffect[]): string[] => effects.map(({ type }) => type);

describe("a hand-over", () => {
  it("offers when the connections are acknowledged", () => {
    const bench = new Bench().active();
    bench.flows(synced);
    bench.peer("backup");
    const begun = bench.send({ type: "switchover", id: 7 });
    expect(types(begun)).toEqual(["flush"]);
    const [flush] = begun;
    if (flush?.type !== "flush") throw new Error("no flush");
    expect([flush.to, flush.within]).toEqual(["lb2", 2000]);
    expect(types(bench.until(1500))).not.toContain("message");
    expect(types(bench.send({ type: "flushed", id: flush.id }))).toEqual(["message"]);
    // Asked again only as a lost offer is.
    expect(bench.send({ type: "flushed", id: flush.id })).toEqual([]);
  });
  it("offers without them when they take too long, or when nobody replicates", () => {
    const slow = new Bench().active();
    slow.flows(synced);
    slow.peer("backup");
    slow.send({ type: "switchover", id: 7 });
    expect(types(slow.until(2990))).not.toContain("message");
    expect(types(slow.until(3001))).toContain("message");
    const silent = new Bench().active();
    silent.peer("backup");
    expect(types(silent.send({ type: "switchover", id: 7 }))).toEqual(["tell", "message"]);
    const without = new Bench({ flows: undefined }).active();
    without.peer("backup");
    expect(types(without.send({ type: "switchover", id: 7 }))).toEqual(["message"]);
  });
});

describe("what is heard while the connections of a hand-over are acknowledged", () => {
  const begun = (): Bench => {
    const bench = new Bench().active();
    bench.flows(synced);
    bench.peer("backup");
    bench.send({ type: "switchover", id: 7 });
    return bench;
  };
  it("is no taker's: a lower one is answered", () => {
    const bench = begun();
    expect(types(bench.hear(100))).toEqual(["advertise", "hold", "announce", "count"]);
    expect(bench.state).toMatchObject({ name: "active", handover: { kind: "giving", offered: false } });
  });
  it("is followed where it is better, with the connections sent first", () => {
    const bench = begun();
    bench.peer("active", 120);
    const [flush] = bench.hear(120);
    if (flush?.type !== "flush") throw new Error("no flush");
    expect(bench.state.name).toBe("active");
    const after = bench.send({ type: "flushed", id: flush.id });
    expect(after.find((e) => e.type === "result")).toMatchObject({ id: 7, ok: false });
    expect(bench.state).toMatchObject({ name: "backup", handover: { kind: "none" } });
  });
});

describe("a takeover while connections are arriving", () => {
  const takeOver = (change: Partial<RouterPlan> = {}): Bench => {
    const bench = new Bench(change);
    bench.flows(arriving);
    return bench;
  };
  it("advertises at once and keeps the addresses closed until they have arrived", () => {
    const bench = takeOver();
    const effects = types(bench.until(700));
    expect(bench.state.name).toBe("active");
    expect(effects).toContain("advertise");
    for (const type of ["hold", "announce", "hook"]) expect(effects).not.toContain(type);
    expect(bench.waiting).toContain("closed");
    expect(types(bench.flows(synced))).toEqual(["tell", "hold", "announce", "hook"]);
    expect(bench.waiting).toBeUndefined();
  });
  it("waits for no node that never was Active", () => {
    const bench = new Bench();
    bench.peer("active");
    bench.peer("backup", 90, "lb3");
    bench.flows({ synced: ["lb2"], arriving: ["lb3"] });
    expect(types(bench.until(700))).toContain("hold");
    const before = new Bench();
    before.peer("backup", 90, "lb3", 1);
    before.flows({ synced: ["lb2"], arriving: ["lb3"] });
    expect(types(before.until(700))).not.toContain("hold");
    expect(types(before.flows({ synced: ["lb2", "lb3"], arriving: [] }))).toContain("hold");
  });
  it("promotes without them after the deadline, or waits on where the site says so", () => {
    const bench = takeOver();
    expect(types(bench.until(3000))).toContain("hold");
    const patient = takeOver({ flows: { handover: ms(1), takeover: ms(1), otherwise: "wait", settle: [] } });
    expect(types(patient.until(60_000))).not.toContain("hold");
    // Its flows process died: nothing arrives any more.
    expect(types(patient.flows(undefined))).toContain("hold");
  });
  it("forgets the gate when it has to give way", () => {
    const bench = takeOver();
    bench.until(500);
    expect(bench.hear(200).some(({ type }) => type === "release")).toBe(true);
    expect([bench.state.name, bench.state.gated]).toEqual(["backup", false]);
    expect(types(bench.flows(synced))).toEqual([]);
  });
});

describe("preemption", () => {
  const listen = (bench: Bench, to: number, hello = true): void => {
    for (let at = bench.now + 100; at <= to; at += 100) {
      bench.until(at);
      if (hello) bench.peer("active");
      bench.hear(100);
    }
  };
  it("waits for the connections of the Active, and says so", () => {
    const bench = new Bench();
    listen(bench, 5000);
    expect(bench.state.name).toBe("backup");
    expect(bench.waiting).toContain("the flows process says nothing");
    bench.flows(arriving);
    listen(bench, 10_000);
    expect(bench.state.name).toBe("backup");
    expect(bench.waiting).toContain("lb2 are not in sync");
    bench.flows(synced);
    listen(bench, 11_000);
    expect(bench.state.name).toBe("active");
  });
  it("of one that never says hello, as a router that is no node of the site, waits for a while, and says so", () => {
    const bench = new Bench();
    bench.flows(synced);
    listen(bench, 29_000, false);
    expect(bench.state.name).toBe("backup");
    expect(bench.waiting).toContain("has not said hello");
    listen(bench, 31_000, false);
    expect(bench.state.name).toBe("active");
  });
  it("waits for the connections of one that says hello late, or not any more", () => {
    const late = new Bench();
    late.flows(arriving);
    listen(late, 10_000, false);
    listen(late, 40_000);
    expect(late.state.name).toBe("backup");
    listen(late, 69_000, false);
    expect(late.state.name).toBe("backup");
    listen(late, 71_000, false);
    expect(late.state.name).toBe("active");
  });
  it("never delays a takeover from a silent node", () => {
    const bench = new Bench();
    bench.peer("active");
    bench.hear(100);
    bench.until(500);
    expect(bench.state.name).toBe("active");
  });
});

describe("two Actives that meet again", () => {
  it("the one that gives way sends its connections first", () => {
    const bench = new Bench().active();
    bench.peer("active", 120);
    bench.flows({ synced: [], arriving: [] });
    const heard = bench.hear(120);
    expect(types(heard)).toEqual(["flush"]);
    expect(bench.state.name).toBe("active");
    // Heard again meanwhile, it is not asked for again.
    expect(bench.hear(120)).toEqual([]);
    const [flush] = heard;
    if (flush?.type !== "flush") throw new Error("no flush");
    expect(types(bench.send({ type: "flushed", id: flush.id }))).toContain("release");
    expect(bench.state.name).toBe("backup");
  });
  it("and gives way without that after a while", () => {
    const bench = new Bench().active();
    bench.peer("active", 120);
    bench.flows(synced);
    bench.hear(120);
    expect(types(bench.until(3001))).toContain("release");
    expect(bench.state.name).toBe("backup");
  });
  const flushes = (effects: readonly GroupEffect[]) =>
    effects.flatMap((e) => (e.type === "flush" ? [e] : []));
  it("the one that gives way sends them to the Active that it hears, not to whoever said hello once", () => {
    const bench = new Bench().active();
    bench.flows(synced);
    bench.peer("backup", 90, "lb0");
    bench.peer("active", 115, "lb3");
    bench.peer("active", 120, "lb2");
    expect(flushes(bench.hear(120)).map(({ to }) => to)).toEqual(["lb2"]);
  });
  it("and to every node that is there where none has said that it is Active", () => {
    const bench = new Bench().active();
    bench.flows(synced);
    bench.peer("active", 120, "lb9");
    bench.until(bench.now + 5000);
    bench.peer("backup", 120, "lb2");
    bench.peer("backup", 90, "lb3");
    const sent = flushes(bench.hear(120));
    expect(sent.map(({ to }) => to)).toEqual(["lb2", "lb3"]);
    const [id] = sent.map((flush) => flush.id);
    if (id === undefined) throw new Error("no flush");
    bench.send({ type: "flushed", id });
    expect(bench.state.name).toBe("active");
    bench.send({ type: "flushed", id });
    expect(bench.state.name).toBe("backup");
  });
  it("the one that gives way waits for nobody where no other node is there any more", () => {
    const bench = new Bench().active();
    bench.flows(synced);
    bench.peer("backup");
    bench.until(bench.now + 5000);
    expect(types(bench.hear(120))).toContain("release");
  });
  it("the one that stays waits for no node that is long gone, nor for one that never was Active", () => {
    const bench = new Bench().active();
    bench.flows({ synced: ["lb2"], arriving: [] });
    bench.peer("active", 90, "lb9");
    bench.until(bench.now + 5000);
    bench.peer("backup", 80, "lb3");
    bench.peer("active");
    expect(types(bench.hear(100))).toContain("announce");
    // One that was Active, and gave way.
    bench.peer("backup", 80, "lb3", 1);
    expect(bench.state.healing).toBe("lb3 was Active, too, and gave way");
  });
  it("the one that stays announces when it has the other's connections, or after a while", () => {
    for (const late of [false, true]) {
      const bench = new Bench().active();
      bench.peer("active");
      bench.flows({ synced: [], arriving: [] });
      expect(types(bench.hear(100))).not.toContain("announce");
      const then = late ? bench.until(3001) : bench.flows(synced);
      expect(types(then)).toContain("announce");
      expect(bench.state.healing).toBeUndefined();
    }
  });
});
