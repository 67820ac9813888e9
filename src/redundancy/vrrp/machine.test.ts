/** Conformance: RFC 9568, section 6 (timers and state machine); cases 13 to 20 and the pure part of 22. */
import { describe, expect, it } from "vitest";
import { ip } from "../../base/addresses.ts";
import { type DurationMs, type MonotonicMs, NEVER, addTime, instant, ms, seconds } from "../../base/time.ts";
import {
  type VrrpConfig,
  type VrrpEffect,
  type VrrpEvent,
  type VrrpState,
  VRRP_COUNTERS,
  VRRP_TIMERS,
  activeDownInterval,
  initialVrrp,
  nextVrrpDeadline,
  skewTime,
  stepVrrp,
} from "./machine.ts";

const A = ip("10.0.0.2");
const B = ip("10.0.0.3");

/** Drives one instance: `at` moves the clock, firing what falls due on the way. */
class Bench {
  now: MonotonicMs = instant(0);
  config: VrrpConfig;
  state: VrrpState;
  effects: VrrpEffect[] = [];
  constructor(config: Partial<VrrpConfig> = {}) {
    this.config = {
      version: 3,
      priority: 100,
      interval: seconds(1),
      preempt: true,
      preemptDelay: ms(0),
      source: A,
      ...config,
    };
    this.state = initialVrrp(this.config, this.now);
  }
  /** The effects of one event, those of timers before it left out. */
  send(event: VrrpEvent): readonly VrrpEffect[] {
    const step = stepVrrp(this.state, event, { now: this.now, config: this.config });
    this.state = step.state;
    this.effects.push(...step.effects);
    return step.effects;
  }
  at(when: number): this {
    for (let due = nextVrrpDeadline(this.state); due <= when; due = nextVrrpDeadline(this.state)) {
      this.now = due;
      this.send({ type: "timer" });
    }
    this.now = instant(when);
    return this;
  }
  hear(priority: number, interval: DurationMs = this.config.interval, source = B): readonly VrrpEffect[] {
    return this.send({ type: "advertisement", source, priority, interval });
  }
  active(): this {
    this.send({ type: "start" });
    this.at(this.now + activeDownInterval(this.config.version, this.config.priority, this.config.interval));
    expect(this.state.name).toBe("active");
    this.effects = [];
    return this;
  }
}
const started = (config: Partial<VrrpConfig> = {}): Bench => {
  const bench = new Bench(config);
  bench.send({ type: "start" });
  return bench;
};
const sent = (effects: readonly VrrpEffect[]): number[] =>
  effects.flatMap((e) => (e.type === "advertise" ? [e.priority] : []));

describe("timers (6.1)", () => {
  it("computes the skew in microseconds, not truncated to centiseconds", () => {
    expect(skewTime(3, 100, seconds(1))).toBe(609.375);
    expect(activeDownInterval(3, 100, seconds(1))).toBe(3609.375);
    expect(skewTime(3, 254, ms(10))).toBe(0.078125);
    expect(skewTime(3, 255, ms(100))).toBe(0.390625);
  });
  it("takes 256ths of a second in version 2 (RFC 3768, 6.1)", () => {
    expect(skewTime(2, 100, seconds(10))).toBe(609.375);
    expect(activeDownInterval(2, 100, seconds(10))).toBe(30_609.375);
  });
  it("has a sentence for every timer and counter", () => {
    for (const text of [...Object.values(VRRP_TIMERS), ...Object.values(VRRP_COUNTERS)])
      expect(text.length).toBeGreaterThan(20);
  });
});

describe("Initialize (6.4.1)", () => {
  it("starts as Backup, and as Active where it owns the addresses", () => {
    expect(started().state.name).toBe("backup");
    const owner = new Bench({ priority: 255 });
    expect(owner.send({ type: "start" })).toEqual([
      { type: "advertise", priority: 255 },
      { type: "changed", from: "initialize", to: "active", reason: "owns the addresses (priority 255)" },
    ]);
    expect(owner.send({ type: "start" })).toEqual([]);
  });
  it("hears nothing before it is started", () => {
    const bench = new Bench();
    expect(bench.hear(200)).toEqual([]);
    expect(nextVrrpDeadline(bench.state)).toBe(NEVER);
    expect(bench.send({ type: "shutdown", reason: "x" })).toEqual([]);
    expect(bench.send({ type: "configured" })).toEqual([]);
  });
});

describe("Backup (6.4.2)", () => {
  it("takes over after ActiveDownInterval of silence, not before, and advertises first (case 13)", () => {
    const bench = started();
    bench.at(3609);
    expect(bench.state.name).toBe("backup");
    bench.at(3610);
    expect(bench.effects.slice(-2)).toEqual([
      { type: "advertise", priority: 100 },
      { type: "changed", from: "backup", to: "active", reason: "no other router was heard" },
    ]);
  });
  it("is kept Backup by advertisements, and counts the silence from the last one", () => {
    const bench = started();
    for (let t = 1000; t <= 9000; t += 1000) {
      bench.at(t);
      bench.hear(110);
    }
    bench.at(12_609);
    expect(bench.state.name).toBe("backup");
    bench.at(12_610);
    expect(bench.effects.at(-1)).toMatchObject({ to: "active", reason: `${B} was silent for 3609 ms` });
  });
  it("takes over Skew after a priority of 0 (case 14)", () => {
    const bench = started();
    bench.hear(110);
    bench.at(500).hear(0);
    bench.at(1109);
    expect(bench.state.name).toBe("backup");
    bench.at(1110);
    expect(bench.effects.at(-1)).toMatchObject({ to: "active", reason: `${B} released` });
  });
  it("learns the Active's interval (case 15)", () => {
    const bench = started({ interval: ms(100) });
    bench.hear(110, seconds(2));
    bench.at(7218);
    expect(bench.state.name).toBe("backup");
    bench.at(7219);
    expect(bench.state.name).toBe("active");
    // Its own advertisements keep its own interval.
    bench.effects = [];
    bench.at(7219 + 1000);
    expect(sent(bench.effects).length).toBe(10);
  });
  it("does not learn in version 2, where another interval is dropped (RFC 3768, 7.1)", () => {
    const bench = started({ version: 2 });
    expect(bench.hear(110, seconds(2))).toEqual([{ type: "count", counter: "interval_mismatch" }]);
    bench.at(3610);
    expect(bench.state.name).toBe("active");
  });
  it("preempts a lower priority, or leaves it alone (case 16)", () => {
    for (const preempt of [true, false]) {
      const bench = started({ preempt });
      for (let t = 0; t <= 6000; t += 1000) {
        bench.at(t);
        if (bench.state.name === "backup") bench.hear(90);
      }
      expect(bench.state.name).toBe(preempt ? "active" : "backup");
      if (preempt)
        expect(bench.effects.find((e) => e.type === "changed" && e.to === "active")).toMatchObject({
          reason: `preempts ${B}, which advertises the lower priority 90`,
        });
    }
  });
  it("waits with preemption for the delay, counted from the first lower advertisement (case 17)", () => {
    const bench = started({ preemptDelay: seconds(10) });
    for (let t = 2000; bench.state.name === "backup" && t <= 30_000; t += 1000) {
      bench.at(t);
      if (bench.state.name === "backup") bench.hear(90);
    }
    // Respected last at 11 s; from 12 s on ignored: 11 s + 3.609 s.
    expect(bench.effects.findIndex((e) => e.type === "changed" && e.to === "active")).toBeGreaterThan(0);
    expect(bench.now).toBe(15_000);
    const other = started({ preemptDelay: seconds(10) });
    other.at(2000).hear(90);
    other.at(3000).hear(110);
    expect(other.state.deadlines.preempt).toBe(NEVER);
  });
  it("moves the running timer when its priority changes", () => {
    const bench = started();
    bench.hear(110);
    bench.config = { ...bench.config, priority: 200 };
    bench.send({ type: "configured" });
    bench.at(3218);
    expect(bench.state.name).toBe("backup");
    bench.at(3219);
    expect(bench.state.name).toBe("active");
  });
  it("is told of a release that another instance heard", () => {
    const bench = started();
    bench.hear(110);
    bench.send({ type: "released" });
    bench.at(610);
    expect(bench.state.name).toBe("active");
    expect(bench.send({ type: "released" })).toEqual([]);
  });
});

describe("Active (6.4.3)", () => {
  it("advertises every interval, in step with the clock", () => {
    const bench = new Bench({ interval: ms(100) }).active();
    const from = bench.now;
    for (let i = 1; i <= 20; i++) bench.at(from + i * 100 + 3);
    expect(sent(bench.effects)).toEqual(Array(20).fill(100));
  });
  it("answers priority 0 with an advertisement", () => {
    const bench = new Bench().active();
    expect(bench.hear(0)).toEqual([{ type: "advertise", priority: 100 }]);
  });
  it("gives way to a higher priority whether or not it preempts, with a last word for the other", () => {
    for (const preempt of [true, false]) {
      const bench = new Bench({ preempt }).active();
      expect(bench.hear(101)).toEqual([
        { type: "advertise", priority: 100 },
        { type: "changed", from: "active", to: "backup", reason: `${B} advertises 101, which is above 100` },
      ]);
      expect(nextVrrpDeadline(bench.state)).toBe(addTime(bench.now, activeDownInterval(3, 100, seconds(1))));
    }
  });
  it("breaks a tie by the unsigned source address (case 18)", () => {
    const pairs = [
      ["10.0.0.200", "10.0.0.3"],
      ["200.0.0.1", "3.0.0.1"],
      ["fe80::8000:0:0:1", "fe80::1"],
      ["fe80::ff", "fe80::1f"],
    ] as const;
    for (const [greater, less] of pairs) {
      const low = new Bench({ source: ip(less) }).active();
      low.hear(100, seconds(1), ip(greater));
      expect(low.state.name).toBe("backup");
      const high = new Bench({ source: ip(greater) }).active();
      high.hear(100, seconds(1), ip(less));
      expect(high.state.name).toBe("active");
    }
  });
  it("answers a lower priority at once and announces again (case 19)", () => {
    const bench = new Bench().active();
    expect(bench.hear(99)).toEqual([
      { type: "advertise", priority: 100 },
      { type: "reannounce", reason: `${B} advertised the lower priority 99` },
      { type: "count", counter: "lower_priority_answered" },
    ]);
  });
  it("elects among two owners instead of discarding (erratum 8298, case 20)", () => {
    const low = new Bench({ priority: 255 });
    low.send({ type: "start" });
    expect(low.hear(255)).toEqual([
      { type: "count", counter: "owner_conflict" },
      { type: "advertise", priority: 255 },
      {
        type: "changed",
        from: "active",
        to: "backup",
        reason: `${B} advertises 255, which is equal, from a greater address`,
      },
    ]);
    const high = new Bench({ priority: 255, source: B });
    high.send({ type: "start" });
    high.hear(255, seconds(1), A);
    expect(high.state.name).toBe("active");
  });
  it("releases on shutdown", () => {
    const bench = new Bench().active();
    expect(bench.send({ type: "shutdown", reason: "stopped" })).toEqual([
      { type: "advertise", priority: 0 },
      { type: "changed", from: "active", to: "initialize", reason: "stopped" },
    ]);
  });
  it("tells a changed priority at once", () => {
    const bench = new Bench().active();
    bench.config = { ...bench.config, priority: 80 };
    expect(bench.send({ type: "configured" })).toEqual([{ type: "advertise", priority: 80 }]);
  });
  it("ignores its own echo", () => {
    const bench = new Bench().active();
    expect(bench.hear(200, seconds(1), A)).toEqual([{ type: "count", counter: "own_echo" }]);
  });
});

describe("after a stall (case 22)", () => {
  it("gives way to whoever took over meanwhile, before it advertises", () => {
    const bench = new Bench({ preempt: false }).active();
    bench.now = addTime(bench.now, seconds(5));
    bench.send({ type: "stalled", late: seconds(4) });
    bench.hear(90);
    expect(bench.state.name).toBe("backup");
    expect(sent(bench.effects)).toEqual([]);
  });
  it("goes on where nobody did, and announces again", () => {
    const bench = new Bench({ preempt: false }).active();
    bench.now = addTime(bench.now, seconds(5));
    bench.send({ type: "stalled", late: seconds(4) });
    expect(bench.send({ type: "timer" })).toEqual([
      { type: "advertise", priority: 100 },
      { type: "reannounce", reason: "this node was stalled" },
    ]);
    bench.hear(90);
    expect(bench.state.name).toBe("active");
  });
  it("keeps its right where it preempts", () => {
    const bench = new Bench({ preempt: true }).active();
    bench.send({ type: "stalled", late: seconds(4) });
    bench.hear(90);
    expect(bench.state.name).toBe("active");
  });
  it("counts a late Backup, too", () => {
    expect(started().send({ type: "stalled", late: seconds(4) })).toEqual([
      { type: "count", counter: "stalls" },
    ]);
  });
});

describe("hand-over", () => {
  it("serves on until the other one is heard, and does not take it back", () => {
    const bench = new Bench({ priority: 110 }).active();
    bench.send({ type: "advertisement", source: B, priority: 100, interval: seconds(1), handover: "giving" });
    expect(bench.state.name).toBe("backup");
    for (let i = 1; i < 10; i++) {
      bench.at(bench.now + 1000);
      bench.hear(100);
    }
    expect(bench.state.name).toBe("backup");
    bench.at(bench.now + 4000);
    expect(bench.state).toMatchObject({ name: "active", yielded: false });
  });
  it("takes although the other one's priority is higher, and answers by the rules afterwards", () => {
    const bench = started();
    expect(bench.send({ type: "promote", reason: "handed over by lb1" })).toHaveLength(2);
    const ad = { type: "advertisement", source: B, priority: 110, interval: seconds(1) } as const;
    expect(bench.send({ ...ad, handover: "taking" })).toEqual([]);
    bench.send(ad);
    expect(bench.state.name).toBe("backup");
    expect(bench.send({ type: "yield", reason: "x", keep: false })).toEqual([]);
  });
  it("yields with the group", () => {
    const bench = new Bench().active();
    expect(bench.send({ type: "yield", reason: "eth1 lost the election", keep: true })).toEqual([
      { type: "changed", from: "active", to: "backup", reason: "eth1 lost the election" },
    ]);
    expect(bench.state.yielded).toBe(true);
    expect(bench.send({ type: "promote", reason: "x" })).toHaveLength(2);
    expect(bench.send({ type: "promote", reason: "x" })).toEqual([]);
  });
});
