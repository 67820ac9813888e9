import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { instant } from "../base/time.ts";
import { boundedLoad } from "./bounded-load.ts";
import { leastRequests } from "./least-requests.ts";
import { powerOfTwo, weightedIndex } from "./p2c.ts";
import { PeakEwma } from "./peak-ewma.ts";

const loaded = fc.array(fc.record({ weight: fc.nat(5), inflight: fc.nat(20) }), { maxLength: 8 });
/** The values in turn. */
const drawing = (...values: readonly number[]) => {
  let turn = 0;
  return { next: () => values[turn++ % values.length] ?? 0 };
};

describe("fewest requests", () => {
  it("are never passed over, per weight", () => {
    fc.assert(
      fc.property(loaded, fc.nat(100), (backends, start) => {
        const at = leastRequests(backends, start);
        const takers = backends.filter(({ weight }) => weight > 0);
        const load = (one: { weight: number; inflight: number }): number => (one.inflight + 1) / one.weight;
        const chosen = backends[at];
        if (chosen === undefined) expect(takers).toEqual([]);
        else expect(load(chosen)).toBe(Math.min(...takers.map(load)));
      }),
    );
  });
  it("share out equals in turn", () => {
    const equal = [1, 2, 3].map(() => ({ weight: 1, inflight: 0 }));
    expect([0, 1, 2, 3].map((start) => leastRequests(equal, start))).toEqual([0, 1, 2, 0]);
  });
});

describe("the power of two choices", () => {
  const backends = [
    { weight: 1, inflight: 9 },
    { weight: 3, inflight: 0 },
    { weight: 0, inflight: 0 },
  ];
  const cost = (one: { inflight: number }): number => one.inflight;
  it("draws by weight", () => {
    expect([0, 0.24, 0.25, 0.99].map((value) => weightedIndex(backends, drawing(value)))).toEqual([
      0, 0, 1, 1,
    ]);
    expect(weightedIndex([{ weight: 0 }], drawing(0.5))).toBe(-1);
  });
  it("takes the cheaper of two, and the one that was drawn twice", () => {
    expect(powerOfTwo(backends, cost, drawing(0, 0.9))).toBe(1);
    expect(powerOfTwo(backends, cost, drawing(0.9, 0))).toBe(1);
    expect(powerOfTwo(backends, cost, drawing(0, 0))).toBe(0);
    expect(powerOfTwo([], cost, drawing(0))).toBe(-1);
  });
});

describe("peak EWMA", () => {
  it("rises with the first slow answer and sinks with time and with good ones", () => {
    const latency = new PeakEwma(1000);
    latency.observe(10, instant(0));
    latency.observe(500, instant(1));
    expect(latency.value(instant(1))).toBe(500);
    expect(latency.value(instant(1001))).toBeCloseTo(500 / Math.E);
    latency.observe(10, instant(1001));
    expect(latency.value(instant(1001))).toBeLessThan(500 / Math.E + 10);
    expect(latency.value(instant(1001))).toBeGreaterThan(10);
  });
});

describe("consistent hashing with bounded loads", () => {
  it("takes the first in order that stays within its share, and with room everywhere the first of all", () => {
    fc.assert(
      fc.property(loaded, (backends) => {
        const order = backends.map((_, i) => i);
        const at = boundedLoad(order, backends);
        const takers = order.filter((i) => (backends[i]?.weight ?? 0) > 0);
        expect(at === -1 ? [] : takers).toEqual(takers);
        if (at < 0) return;
        const sum = backends.reduce((all, one) => all + one.inflight, 1);
        const weights = backends.reduce((all, one) => all + one.weight, 0);
        const within = (i: number): boolean => {
          const one = backends[i];
          return one !== undefined && one.inflight + 1 <= Math.ceil((1.25 * sum * one.weight) / weights);
        };
        expect(at).toBe(takers.find(within) ?? takers[0]);
      }),
    );
  });
});
