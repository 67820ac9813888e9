import { describe, expect, it } from "vitest";
import { systemRandom } from "../../base/random.ts";
import { BackendState } from "./backend.ts";
import { type PickOptions, PoolState } from "./pool.ts";

const options: PickOptions = { scheduler: "maglev", panic: 0, slowStart: 0, requests: 10, connections: 10 };
const keys = Array.from({ length: 400 }, (_, i) => `10.0.${i >> 8}.${i & 255}`);

const the = <T>(value: T | undefined): T => {
  if (value === undefined) throw new Error("there is none");
  return value;
};

function poolOf(names: readonly string[]): PoolState {
  const pool = new PoolState("apps", systemRandom);
  pool.backends = names.map((name, i) => new BackendState("apps", name, "127.0.0.1", 9000 + i));
  return pool;
}
const places = (pool: PoolState, scheduler: "maglev" | "bounded" = "maglev"): string[] =>
  keys.map((key) => the(pool.pick(0, { ...options, scheduler }, key, undefined)).name);

describe("consistent hashing", () => {
  it("depends on names alone, so that two nodes with the backends in another order agree", () => {
    for (const scheduler of ["maglev", "bounded"] as const) {
      expect(places(poolOf(["a", "b", "c"]), scheduler)).toEqual(places(poolOf(["c", "a", "b"]), scheduler));
    }
  });

  it("moves few keys besides those of a backend that goes, and gives them back", () => {
    const pool = poolOf(["a", "b", "c", "d"]);
    const before = places(pool);
    the(pool.backends[1]).health = "down";
    const without = places(pool);
    expect(without).not.toContain("b");
    const moved = before.filter((name, i) => name !== "b" && without[i] !== name).length;
    expect(moved).toBeLessThan(keys.length / 10);
    the(pool.backends[1]).health = "up";
    expect(places(pool)).toEqual(before);
  });

  it("passes over a backend at its limit or already tried", () => {
    const pool = poolOf(["a", "b", "c"]);
    const first = the(pool.pick(0, options, "key", undefined));
    const second = pool.pick(0, options, "key", new Set([first]));
    expect(second).not.toBe(first);
    first.inflight = options.requests;
    expect(pool.pick(0, options, "key", undefined)).toBe(second);
  });

  it("gives shares by weight", () => {
    const pool = poolOf(["a", "b"]);
    for (const [i, weight] of [3, 1].entries()) the(pool.backends[i]).configuredWeight = weight;
    const share = places(pool).filter((name) => name === "a").length / keys.length;
    expect(share).toBeGreaterThan(0.65);
    expect(share).toBeLessThan(0.85);
  });
});
