import { describe, expect, it } from "vitest";
import { dueAt } from "./policy-renewal.ts";

const DAY = 86_400_000;
const kept = {
  notBefore: 0,
  notAfter: 90 * DAY,
  names: ["shop.example", "www.shop.example"],
  directory: "https://one/dir",
  ordered: 0,
};
const wanted = (...names: string[]) => ({ names, directory: "https://one/dir", node: "a" });

describe("a certificate is ordered", () => {
  it("at once where there is none, or one without a name that is wanted", () => {
    expect(dueAt(wanted("shop.example"), undefined, undefined, 0.5)).toBe(0);
    expect(dueAt(wanted("shop.example", "new.example"), kept, undefined, 0.5)).toBe(0);
    expect(dueAt({ ...wanted("shop.example"), directory: "https://two/dir" }, kept, undefined, 0.5)).toBe(0);
    const unknown = { ...kept, directory: undefined };
    expect(dueAt(wanted("shop.example"), unknown, undefined, 0)).toBe(60 * DAY);
  });
  it("after two thirds of its life, spread by a twentieth of it", () => {
    expect(dueAt(wanted("shop.example"), kept, undefined, 0)).toBe(60 * DAY);
    expect(dueAt(wanted("shop.example"), kept, undefined, 1)).toBeCloseTo(55.5 * DAY, -3);
  });
  const again = (failures: number, chance: number, node?: string): number =>
    dueAt(wanted("shop.example"), undefined, { failures, at: 1000, reason: "", node }, chance) - 1000;
  it("again after a failure, later each time and never later than six hours and a half of it more", () => {
    expect([1, 2, 3].map((failures) => again(failures, 0) / 1000)).toEqual([150, 300, 600]);
    expect(again(50, 1)).toBe(6 * 3_600_000 * 1.5);
  });
  it.each([undefined, "a", "b"])(
    "five times in any hour at most, by whatever chance, after failures of %s",
    (node) => {
      for (const chance of [0, 0.5, 0.999]) {
        const tries = [0];
        for (let failures = 1; failures < 20; failures++)
          tries.push((tries.at(-1) ?? 0) + again(failures, chance, node));
        for (const from of tries)
          expect(tries.filter((at) => at >= from && at < from + 3_600_000).length).toBeLessThanOrEqual(5);
      }
    },
  );
  it("first by the nodes that have not failed last", () => {
    expect(again(3, 0.999, "b")).toBeLessThan(again(3, 0, "a"));
  });
  it("not before its time because an order failed long ago", () => {
    expect(dueAt(wanted("shop.example"), kept, { failures: 1, at: 0, reason: "" }, 0)).toBe(60 * DAY);
  });
});
