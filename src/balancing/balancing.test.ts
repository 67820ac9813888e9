import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ms, seconds } from "../base/time.ts";
import { type Weighted, hashName } from "./hash.ts";
import { MAGLEV_SLOTS, maglev } from "./maglev.ts";
import { rendezvous, rendezvousIndex, rendezvousOrder } from "./rendezvous.ts";
import { SmoothPicker, smoothSequence } from "./smooth.ts";
import { leastConnections, slowStart } from "./weights.ts";

const pool = (max: number, weights = fc.integer({ min: 1, max: 10 })) =>
  fc
    .array(fc.record({ id: fc.nat(9999), weight: weights }), { minLength: 1, maxLength: max })
    .map((list): Weighted[] => [
      ...new Map(list.map(({ id, weight }) => [id, { name: `app${id}`, weight }])).values(),
    ]);
function counts(names: readonly string[]): Map<string, number> {
  const map = new Map<string, number>();
  for (const name of names) map.set(name, (map.get(name) ?? 0) + 1);
  return map;
}
const sumOf = (backends: readonly Weighted[]) => backends.reduce((sum, one) => sum + one.weight, 0);

describe("maglev", () => {
  it("is pinned: changing it moves every connection of every user", () => {
    const table = maglev(
      [
        { name: "a", weight: 1 },
        { name: "b", weight: 2 },
      ],
      13,
      7,
    );
    expect(table.join("")).toBe("bbbabbaaababb");
    expect(hashName("app1", 0x4e1)).toBe(936087742);
  });
  it("gives every backend its share of the slots", () => {
    fc.assert(
      fc.property(pool(30), fc.nat(), (backends, seed) => {
        const share = counts(maglev(backends, MAGLEV_SLOTS, seed));
        for (const { name, weight } of backends) {
          const wanted = (MAGLEV_SLOTS * weight) / sumOf(backends);
          expect(Math.abs((share.get(name) ?? 0) - wanted)).toBeLessThanOrEqual(Math.max(3, wanted * 0.1));
        }
      }),
      { numRuns: 50 },
    );
  });
  it("does not depend on the order of the list, and leaves out weight 0", () => {
    fc.assert(
      fc.property(pool(12), fc.nat(), (backends, seed) => {
        const more = [...backends.toReversed(), { name: "drained", weight: 0 }];
        expect(maglev(more, 251, seed)).toEqual(maglev(backends, 251, seed));
      }),
      { numRuns: 50 },
    );
  });
  it("moves few slots of the others when one goes", () => {
    // Deterministic, and on average: a single unlucky pair of permutations may move a sixth.
    for (const count of [3, 5, 10, 20]) {
      let moved = 0;
      for (let seed = 0; seed < 50; seed++) {
        const backends = Array.from({ length: count }, (_, i) => ({ name: `app${i}`, weight: 1 }));
        const before = maglev(backends, MAGLEV_SLOTS, seed * 7919);
        const after = maglev(backends.slice(1), MAGLEV_SLOTS, seed * 7919);
        moved += before.filter((name, slot) => name !== "app0" && name !== after[slot]).length;
      }
      // A modulo would move nearly all: (n-1)/n of the slots.
      expect(moved / 50 / MAGLEV_SLOTS).toBeLessThan(0.06);
    }
  });
  it("is empty where nobody takes anything", () => {
    expect(maglev([], 13, 1)).toEqual([]);
    expect(maglev([{ name: "a", weight: 0 }], 13, 1)).toEqual([]);
  });
});

describe("smooth weighted round robin", () => {
  it("is nginx's example: 5, 1, 1 interleaved", () => {
    const backends = [
      { name: "a", weight: 5 },
      { name: "b", weight: 1 },
      { name: "c", weight: 1 },
    ];
    expect(smoothSequence(backends, 7).join("")).toBe("aabacaa");
  });
  it("gives exact shares over a whole round and never two more than due in between", () => {
    fc.assert(
      fc.property(pool(8), (backends) => {
        const sum = sumOf(backends);
        const picks = smoothSequence(backends, sum);
        for (const { name, weight } of backends) {
          let seen = 0;
          picks.forEach((pick, i) => {
            if (pick === name) seen++;
            expect(Math.abs(seen - ((i + 1) * weight) / sum)).toBeLessThan(2);
          });
          expect(seen).toBe(weight);
        }
        const picker = new SmoothPicker(backends);
        expect(picks).toEqual(picks.map(() => picker.next()));
      }),
    );
  });
  it("has nothing to pick from nobody", () => {
    expect(smoothSequence([], 5)).toEqual([]);
    expect(new SmoothPicker([{ name: "a", weight: 0 }]).next()).toBeUndefined();
  });
});

describe("rendezvous", () => {
  const keys = Array.from({ length: 3000 }, (_, i) => `key${i}`);
  it("moves only the keys of the backend that goes, to the next in its order", () => {
    fc.assert(
      fc.property(pool(10), fc.nat(), (backends, seed) => {
        fc.pre(backends.length > 1);
        const [gone, ...rest] = backends;
        for (const key of keys.slice(0, 100)) {
          const before = rendezvous(key, backends, seed);
          const after = rendezvous(key, rest, seed);
          if (before === gone?.name) expect(after).toBe(rendezvousOrder(key, backends, seed)[1]);
          else expect(after).toBe(before);
        }
      }),
      { numRuns: 30 },
    );
  });
  it("shares keys by weight", () => {
    fc.assert(
      fc.property(pool(6), fc.nat(), (backends, seed) => {
        const share = counts(keys.map((key) => rendezvous(key, backends, seed) ?? ""));
        for (const { name, weight } of backends) {
          const due = weight / sumOf(backends);
          // Five standard deviations of as many draws.
          const off = 5 * Math.sqrt((due * (1 - due)) / keys.length);
          expect(Math.abs((share.get(name) ?? 0) / keys.length - due)).toBeLessThanOrEqual(off + 1e-9);
        }
      }),
      { numRuns: 30, seed: 20 },
    );
  });
  it("moves keys only to a backend whose weight grows, and only away from one whose weight falls", () => {
    fc.assert(
      fc.property(pool(8), fc.nat(), fc.integer({ min: 0, max: 30 }), (backends, seed, weight) => {
        const [first, ...rest] = backends;
        if (first === undefined) return;
        const changed = [{ ...first, weight }, ...rest];
        for (const key of keys.slice(0, 200)) {
          const before = rendezvous(key, backends, seed);
          const after = rendezvous(key, changed, seed);
          if (before === after) continue;
          expect(weight > first.weight ? after : before).toBe(first.name);
        }
      }),
      { numRuns: 50 },
    );
  });
  it("gives the second choice of those that lose theirs by weight as well", () => {
    const backends = ["a", "b", "c", "d"].map((name, i) => ({ name, weight: i + 1 }));
    const moved = keys.filter((key) => rendezvous(key, backends, 7) === "d");
    const share = counts(moved.map((key) => rendezvous(key, backends.slice(0, 3), 7) ?? ""));
    expect(moved.length).toBeGreaterThan(1000);
    expect((share.get("c") ?? 0) / moved.length).toBeCloseTo(3 / 6, 1);
    expect((share.get("a") ?? 0) / moved.length).toBeCloseTo(1 / 6, 1);
  });
  it("is the first of the order, whatever the order of the list", () => {
    const some = pool(10, fc.integer({ min: 0, max: 5 }));
    fc.assert(
      fc.property(some, fc.nat(), fc.string(), (backends, seed, key) => {
        const at = rendezvousIndex(key, backends, seed, (one) => one.weight);
        const list = backends.toReversed();
        const other = rendezvousIndex(key, list, seed, (one) => one.weight);
        expect(backends[at]?.name).toBe(rendezvous(key, backends, seed));
        expect(list[other]?.name).toBe(backends[at]?.name);
      }),
    );
    expect(rendezvousIndex("x", [{ name: "a" }], 0, () => 0)).toBe(-1);
  });
});

describe("weights from load and time", () => {
  it("sends what comes to those that have least", () => {
    const weights = leastConnections(
      [
        { name: "a", weight: 1, active: 100 },
        { name: "b", weight: 1, active: 0 },
        { name: "c", weight: 1, active: 20 },
      ],
      40,
    );
    const [a, b, c] = weights.map((one) => one.weight);
    // 30 each for b and c would be the level: b gets 30, c 10, a its floor.
    expect(b).toBeCloseTo(30);
    expect(c).toBeCloseTo(10);
    expect(a).toBeLessThan(1);
  });
  it("keeps to the weights while loads are even, and always gives everybody something", () => {
    fc.assert(
      fc.property(pool(10), fc.nat(50), fc.integer({ min: 1, max: 1000 }), (backends, load, arrivals) => {
        const even = leastConnections(
          backends.map((one) => ({ ...one, active: one.weight * load })),
          arrivals,
        );
        even.forEach((one, i) =>
          expect(one.weight).toBeCloseTo((arrivals * (backends[i]?.weight ?? 0)) / sumOf(backends), 5),
        );
        const odd = leastConnections(
          backends.map((one, i) => ({ ...one, active: i * 97 })),
          arrivals,
        );
        for (const one of odd) expect(one.weight).toBeGreaterThan(0);
      }),
    );
  });
  it("grows from a tenth to all", () => {
    expect(slowStart(10, ms(0), seconds(10))).toBe(1);
    expect(slowStart(10, seconds(5), seconds(10))).toBe(5);
    expect(slowStart(10, seconds(10), seconds(10))).toBe(10);
    expect(slowStart(10, ms(0), ms(0))).toBe(10);
  });
});
