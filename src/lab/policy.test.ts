import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Observation,
  figuresOf,
  findGaps,
  missed,
  ownerSpans,
  ownership,
  quantile,
  summarise,
} from "./policy.ts";

const good = (due: number): Observation => ({ due, done: due + 1 });
const bad = (due: number, error = "timeout"): Observation => ({ due, done: due + 200, error });

describe("gaps", () => {
  it("last from the first failed to the first good send", () => {
    expect(findGaps([good(0), bad(10), bad(20, "reset"), good(30), good(40), bad(50), good(60)])).toEqual([
      { from: 10, to: 30, error: "timeout" },
      { from: 50, to: 60, error: "timeout" },
    ]);
  });

  it("that never end, end with the last probe", () => {
    expect(findGaps([good(0), bad(10), bad(20)])).toEqual([{ from: 10, to: 20, error: "timeout" }]);
  });

  it("do not depend on the order in which probes were settled", () => {
    const probes = fc
      .uniqueArray(fc.nat(1000), { minLength: 1 })
      .map((dues) => dues.map((due) => (due % 3 === 0 ? bad(due) : good(due))));
    fc.assert(
      fc.property(probes, fc.nat(), (list, turn) => {
        const turned = [...list.slice(turn % list.length), ...list.slice(0, turn % list.length)];
        expect(findGaps(turned)).toEqual(findGaps(list));
      }),
    );
  });

  it("cover every failed probe and no good one", () => {
    const probes = fc.array(fc.boolean(), { minLength: 1, maxLength: 200 });
    fc.assert(
      fc.property(probes, (list) => {
        const observations = list.map((fine, i) => (fine ? good(i * 10) : bad(i * 10)));
        const gaps = findGaps(observations);
        const inside = (due: number): boolean =>
          gaps.some(
            ({ from, to }) => due >= from && (due < to || (due === to && to === (list.length - 1) * 10)),
          );
        for (const { due, error } of observations)
          if (error !== undefined) expect(inside(due)).toBe(true);
          else expect(gaps.some(({ from, to }) => due > from && due < to)).toBe(false);
      }),
    );
  });
});

describe("a stream's summary", () => {
  it("counts errors by class and tells times from the fault", () => {
    const outcome = summarise(
      "connect web",
      "connect",
      [good(90), bad(100), bad(110, "refused"), good(120)],
      100,
    );
    expect(outcome).toMatchObject({
      sent: 4,
      good: 2,
      errors: { timeout: 1, refused: 1 },
      longestGap: 20,
      badTime: 20,
    });
    expect(outcome.gaps).toEqual([{ from: 0, to: 20, error: "timeout" }]);
    expect(outcome.latency).toEqual({ median: 1, p99: 1, max: 1 });
  });

  it("takes the nearest rank for a quantile", () => {
    expect([0, 0.5, 0.99, 1].map((q) => quantile([5, 1, 3, 2, 4], q))).toEqual([1, 3, 5, 5]);
    expect(quantile([], 0.5)).toBe(0);
  });
});

describe("ownership", () => {
  const events = [
    { at: 0, node: "lb1", address: "v", owns: true },
    { at: 100, node: "lb2", address: "v", owns: true },
    { at: 130, node: "lb1", address: "v", owns: false },
    { at: 200, node: "lb2", address: "v", owns: false },
    { at: 250, node: "lb1", address: "v", owns: true },
  ];

  it("spans begin before the window and end with it", () => {
    expect(ownerSpans(events, 50, 300)).toEqual([
      { node: "lb1", address: "v", from: 50, to: 130 },
      { node: "lb2", address: "v", from: 100, to: 200 },
      { node: "lb1", address: "v", from: 250, to: 300 },
    ]);
  });

  it("adds up the time with none and with two", () => {
    expect(ownership(ownerSpans(events, 50, 300), ["v"], 50, 300)).toEqual({ noOwner: 50, twoOwners: 30 });
  });

  it("of an address that nobody ever had is none at all", () => {
    expect(ownership([], ["v"], 0, 70)).toEqual({ noOwner: 70, twoOwners: 0 });
  });
});

describe("the verdict", () => {
  const probes = [
    summarise("connect web", "connect", [good(0), bad(10), good(60)], 0),
    summarise("client-first web", "established-client-first", [good(0), bad(10), good(900)], 0, {
      before: 20,
      kept: 19,
    }),
  ];
  const figures = figuresOf(probes, { noOwner: 0, twoOwners: 12, takeovers: 1 });

  it("judges new connections by gap and loss, established ones by those kept", () => {
    expect(figures).toEqual({
      gap: 50,
      lost: 1,
      kept: 0.95,
      settled: 60,
      noOwner: 0,
      twoOwners: 12,
      takeovers: 1,
    });
  });

  it("names every line of the budget that was missed, and judges nothing that has no line", () => {
    expect(missed(figures, { gap: 50, takeovers: 1 })).toEqual([]);
    expect(missed(figures, { gap: 49, lost: 0, kept: 1, twoOwners: 10 })).toEqual([
      "gap 50 ms, budget 49",
      "1 new connections lost, budget 0",
      "95 % of established connections kept, budget 100 %",
      "12 ms with two owners, budget 10",
    ]);
    expect(missed(figures, {})).toEqual([]);
  });
});
