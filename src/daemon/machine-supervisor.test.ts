import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NEVER, addTime, instant, ms, seconds } from "../base/time.ts";
import {
  type SlotConfig,
  type SlotEffect,
  type SlotEvent,
  type SlotState,
  initialSlot,
  nextSlotDeadline,
  stepSlot,
} from "./machine-supervisor.ts";

const config: SlotConfig = {
  startWithin: seconds(10),
  stopWithin: seconds(5),
  silence: seconds(5),
  backoffFirst: ms(100),
  backoffMost: seconds(1),
  overlap: false,
};

/** Feeds events at their instants and keeps what came out. */
class Bench {
  state: SlotState = initialSlot;
  now = instant(0);
  effects: SlotEffect[] = [];
  config = config;
  at(time: number, event: SlotEvent): this {
    this.now = instant(time);
    const step = stepSlot(this.state, event, { now: this.now, config: this.config });
    this.state = step.state;
    this.effects = [...step.effects];
    return this;
  }
  get types(): string[] {
    return this.effects.map((effect) => (effect.type === "report" ? effect.event : effect.type));
  }
}

const running = (): Bench =>
  new Bench()
    .at(0, { type: "want" })
    .at(50, { type: "warm", process: 1 })
    .at(60, { type: "ready", process: 1 });

describe("a child", () => {
  it("loads, is told to go, and is watched once it is ready", () => {
    const bench = new Bench().at(0, { type: "want" });
    expect(bench.effects).toEqual([{ type: "spawn", process: 1, successor: false }]);
    expect(nextSlotDeadline(bench.state)).toBe(10_000);
    expect(bench.at(50, { type: "warm", process: 1 }).effects).toEqual([{ type: "go", process: 1 }]);
    bench.at(60, { type: "ready", process: 1 });
    expect([bench.state.phase, nextSlotDeadline(bench.state)]).toEqual(["running", 5060]);
    bench.at(1000, { type: "alive", process: 1 });
    expect(nextSlotDeadline(bench.state)).toBe(6000);
    expect(bench.at(6000, { type: "time" }).types).toEqual(["silent", "kill"]);
    expect(nextSlotDeadline(bench.state)).toBe(NEVER);
  });

  it("is killed when it is not ready or does not end in time", () => {
    const late = new Bench().at(0, { type: "want" }).at(10_000, { type: "time" });
    expect(late.types).toEqual(["late", "kill"]);
    const stopping = running().at(100, { type: "unwant", mode: "release" });
    expect(stopping.effects).toEqual([{ type: "stop", process: 1, mode: "release" }]);
    expect(stopping.at(5100, { type: "time" }).types).toEqual(["late", "kill"]);
    stopping.at(5101, { type: "exited", process: 1, how: "ended by SIGKILL" });
    expect([stopping.state.phase, stopping.types]).toEqual(["off", ["ended"]]);
  });

  it("starts again at once, then after waits that double up to the most, and afresh after running well", () => {
    const bench = running();
    const waits: number[] = [];
    let process = 1;
    let now = 100;
    for (let i = 0; i < 7; i++) {
      bench.at(now, { type: "exited", process, how: "ended by SIGKILL" });
      if (bench.state.phase === "waiting") {
        waits.push(bench.state.restartAt - now);
        now = bench.state.restartAt;
        bench.at(now, { type: "time" });
      } else waits.push(0);
      process = bench.state.process ?? -1;
    }
    expect(waits).toEqual([0, 100, 200, 400, 800, 1000, 1000]);
    bench.at(now + 10, { type: "ready", process });
    bench.at(now + 20_000, { type: "exited", process, how: "ended by SIGSEGV" });
    expect([bench.state.phase, bench.state.failures]).toEqual(["starting", 1]);
  });

  it("is replaced without a gap: the successor is loaded before the predecessor leaves", () => {
    const bench = running().at(1000, { type: "replace" });
    expect(bench.effects).toEqual([{ type: "spawn", process: 2, successor: true }]);
    expect(bench.state.phase).toBe("running");
    bench.at(1200, { type: "warm", process: 2 });
    expect(bench.effects).toEqual([{ type: "stop", process: 1, mode: "leave" }]);
    bench.at(1210, { type: "exited", process: 1, how: "ended with status 0" });
    expect(bench.effects[0]).toEqual({ type: "go", process: 2 });
    bench.at(1215, { type: "ready", process: 2 });
    expect([bench.state.phase, bench.state.process, bench.state.successor]).toEqual([
      "running",
      2,
      undefined,
    ]);
  });

  it("serves beside its successor where both may, until it has finished or its time is up", () => {
    const bench = running();
    bench.config = { ...config, overlap: true };
    bench.at(1000, { type: "replace" }).at(1200, { type: "warm", process: 2 });
    expect(bench.types).toEqual(["go", "stop", "replaced"]);
    bench.at(1210, { type: "ready", process: 2 });
    expect([bench.state.phase, bench.state.process, bench.state.leaving?.process]).toEqual(["running", 2, 1]);
    bench.at(4000, { type: "alive", process: 2 });
    expect(bench.at(6200, { type: "time" }).effects).toEqual([{ type: "kill", process: 1 }]);
    bench.at(6201, { type: "exited", process: 1, how: "ended by SIGKILL" });
    expect([bench.state.leaving, bench.state.phase]).toEqual([undefined, "running"]);
  });

  it("keeps the old process where the new one cannot load", () => {
    const broken = running().at(1000, { type: "replace" });
    broken.at(1100, { type: "exited", process: 2, how: "ended with status 70" });
    expect([broken.types, broken.state.phase, broken.state.process]).toEqual([
      ["replace_failed"],
      "running",
      1,
    ]);
    const slow = running().at(1000, { type: "replace" }).at(4000, { type: "alive", process: 1 });
    slow.at(8000, { type: "alive", process: 1 }).at(11_000, { type: "time" });
    expect([slow.types, slow.state.process]).toEqual([["replace_failed", "kill"], 1]);
  });

  it("has its sockets closed where it cannot start, or waits long, and only where others share them", () => {
    const bench = running();
    bench.config = { ...config, overlap: true };
    bench.at(100, { type: "exited", process: 1, how: "ended by SIGSEGV" });
    expect(bench.types).toEqual(["restarting", "spawn"]);
    bench.at(200, { type: "exited", process: 2, how: "status 5" });
    expect(bench.types).toEqual(["restarting", "close_listeners"]);
    const crashing = running();
    crashing.config = { ...config, overlap: true };
    const seen: boolean[] = [];
    for (let process = 1, now = 100; process < 7; process++, now += 2000) {
      crashing.at(now, { type: "exited", process, how: "ended by SIGSEGV" });
      seen.push(crashing.types.includes("close_listeners"));
      if (crashing.state.phase === "waiting") crashing.at(now + 1000, { type: "time" });
      crashing.at(now + 1500, { type: "ready", process: process + 1 });
    }
    expect(seen).toEqual([false, false, false, false, false, true]);
    const alone = running().at(100, { type: "exited", process: 1, how: "x" });
    expect(alone.at(200, { type: "exited", process: 2, how: "x" }).types).toEqual(["restarting"]);
  });

  it("restarts plainly where the old process dies while its successor loads", () => {
    const bench = running().at(1000, { type: "replace" });
    bench.at(1050, { type: "exited", process: 1, how: "ended by SIGKILL" });
    expect(bench.types).toEqual(["kill", "restarting", "spawn"]);
    expect(bench.at(1051, { type: "exited", process: 2, how: "ended by SIGKILL" }).effects).toEqual([]);
    expect([bench.state.phase, bench.state.process]).toEqual(["starting", 3]);
  });

  it("never has two processes in charge, whatever happens in whatever order", () => {
    const event = fc.oneof(
      fc.constantFrom<SlotEvent>(
        { type: "want" },
        { type: "unwant", mode: "release" },
        { type: "replace" },
        { type: "time" },
      ),
      fc.record({ type: fc.constantFrom("warm", "ready", "alive"), process: fc.integer({ min: 1, max: 6 }) }),
      fc.record({
        type: fc.constant("exited"),
        process: fc.integer({ min: 1, max: 6 }),
        how: fc.constant("x"),
      }),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(3000), event)), (events) => {
        const bench = new Bench();
        const alive = new Set<number>();
        const told = new Set<number>();
        let now = instant(0);
        for (const [wait, each] of events) {
          now = addTime(now, ms(wait));
          // Only what was spawned and still lives can speak or end.
          if ("process" in each && !alive.has(each.process)) continue;
          if (each.type === "exited") {
            alive.delete(each.process);
            told.delete(each.process);
          }
          bench.at(now, each);
          for (const effect of bench.effects) {
            if (effect.type === "spawn") alive.add(effect.process);
            if (effect.type === "go") told.add(effect.process);
          }
          expect(told.size).toBeLessThanOrEqual(1);
          const { phase, wanted } = bench.state;
          // What is wanted is never forgotten: something runs, or a restart is due.
          if (wanted && alive.size === 0)
            expect([phase, bench.state.restartAt < NEVER]).toEqual(["waiting", true]);
        }
      }),
      { numRuns: 300 },
    );
  });
});
