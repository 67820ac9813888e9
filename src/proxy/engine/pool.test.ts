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

describe("backup backends", () => {
  it("wait until no other is healthy, and do so again when one is", () => {
    for (const scheduler of ["maglev", "bounded", "round-robin", "p2c"] as const) {
      const pool = poolOf(["a", "b", "spare", "other"]);
      for (const i of [2, 3]) the(pool.backends[i]).backup = true;
      const used = (): string[] => {
        const names = keys.map((key) => pool.pick(0, { ...options, scheduler }, key, undefined)?.name ?? "");
        return [...new Set(names)].sort();
      };
      expect(used()).toEqual(["a", "b"]);
      the(pool.backends[0]).health = "down";
      expect(used()).toEqual(["b"]);
      the(pool.backends[1]).admin = "drain";
      expect(used()).toEqual(["other", "spare"]);
      the(pool.backends[0]).health = "up";
      expect(used()).toEqual(["a"]);
    }
  });
  it("are no share of the healthy ones below which health is not believed", () => {
    const pool = poolOf(["a", "b", "spare", "other"]);
    for (const i of [2, 3]) the(pool.backends[i]).backup = true;
    the(pool.backends[0]).health = "down";
    expect(pool.pick(0, { ...options, panic: 0.5 }, "key", undefined)?.name).toBe("b");
    the(pool.backends[1]).health = "down";
    expect(pool.pick(0, { ...options, panic: 0.5 }, "key", undefined)?.backup).toBe(true);
  });
  it("are tried where all others are ejected", () => {
    const pool = poolOf(["a", "spare"]);
    the(pool.backends[1]).backup = true;
    const first = the(pool.backends[0]);
    first.outlier.eject(0, 1000, true);
    expect(pool.pick(1, options, "key", undefined)?.name).toBe("spare");
  });
});

describe("which backends are used", () => {
  const turns = (
    pool: PoolState,
    more: Partial<PickOptions>,
    now = 0,
    count = 40,
  ): Record<string, number> => {
    const seen: Record<string, number> = {};
    for (let i = 0; i < count; i++) {
      const name =
        pool.pick(now, { ...options, scheduler: "round-robin", ...more }, "", undefined)?.name ?? "none";
      seen[name] = (seen[name] ?? 0) + 1;
    }
    return seen;
  };

  it("health is not believed where fewer than the panic share are healthy", () => {
    const pool = poolOf(["a", "b", "c", "d"]);
    for (const backend of pool.backends.slice(1)) backend.health = "down";
    expect(turns(pool, { panic: 0 })).toEqual({ a: 40 });
    expect(turns(pool, { panic: 0.25 })).toEqual({ a: 40 });
    expect(turns(pool, { panic: 0.5 })).toEqual({ a: 10, b: 10, c: 10, d: 10 });
    the(pool.backends[3]).admin = "maintenance";
    expect(Object.keys(turns(pool, { panic: 0.5 }))).toEqual(["a", "b", "c"]);
  });

  it("with all down: none, all, or those that were good last, as the pool says", () => {
    const pool = poolOf(["a", "b"]);
    expect(turns(pool, {})).toEqual({ a: 20, b: 20 });
    the(pool.backends[1]).health = "down";
    expect(turns(pool, {})).toEqual({ a: 40 });
    the(pool.backends[0]).health = "down";
    expect(turns(pool, {})).toEqual({ none: 40 });
    pool.allDown = "all";
    expect(turns(pool, {})).toEqual({ a: 20, b: 20 });
    pool.allDown = "last";
    expect(turns(pool, {})).toEqual({ a: 40 });
  });

  it("one that came back starts slowly, and with its whole share for those whose key it has", () => {
    const pool = poolOf(["a", "b"]);
    const [a, b] = [the(pool.backends[0]), the(pool.backends[1])];
    b.upSince = 1000;
    const slow = { slowStart: 10_000 };
    const share = (now: number): number => (turns(pool, slow, now, 400)["b"] ?? 0) / 400;
    expect(share(1001)).toBeLessThan(0.1);
    expect(share(6000)).toBeCloseTo(1 / 3, 1);
    expect(share(11_000)).toBeCloseTo(1 / 2, 2);
    const placed = (now: number): string[] =>
      keys.map((key) => the(pool.place(now, { ...options, ...slow }, key, undefined)).name);
    expect(placed(1001)).toEqual(placed(50_000));
    // A weight of the site counts, and one that grows takes keys and gives none away.
    const before = placed(50_000);
    a.configuredWeight = 3;
    const after = placed(50_000);
    const ofA = after.filter((name) => name === "a").length / keys.length;
    expect(Math.abs(ofA - 0.75)).toBeLessThan(0.1);
    expect(after.filter((name, i) => name === "b" && before[i] === "a")).toEqual([]);
  });
});
