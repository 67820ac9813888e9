import { describe, expect, it } from "vitest";
import { dueAt } from "./policy-renewal.ts";

const DAY = 86_400_000;
const kept = { notBefore: 0, notAfter: 90 * DAY, names: ["shop.example", "www.shop.example"] };

describe("a certificate is ordered", () => {
  it("at once where there is none, or one without a name that is wanted", () => {
    expect(dueAt(["shop.example"], undefined, undefined, 0.5)).toBe(0);
    expect(dueAt(["shop.example", "new.example"], kept, undefined, 0.5)).toBe(0);
  });
  it("after two thirds of its life, spread by a twentieth of it", () => {
    expect(dueAt(["shop.example"], kept, undefined, 0)).toBe(60 * DAY);
    expect(dueAt(["shop.example"], kept, undefined, 1)).toBeCloseTo(55.5 * DAY, -3);
  });
  it("again after a failure, later each time and never later than six hours and a quarter more", () => {
    const again = (failures: number, chance = 0.5): number =>
      dueAt(["shop.example"], undefined, { failures, at: 1000, reason: "" }, chance) - 1000;
    expect([1, 2, 3].map((failures) => again(failures) / 1000)).toEqual([120, 240, 480]);
    expect(again(50, 1)).toBe(6 * 3_600_000 * 1.25);
    // No more than five tries in the first hour.
    expect(again(1, 0) + again(2, 0) + again(3, 0) + again(4, 0) + again(5, 0)).toBeGreaterThan(2_700_000);
  });
  it("not before its time because an order failed long ago", () => {
    expect(dueAt(["shop.example"], kept, { failures: 1, at: 0, reason: "" }, 0)).toBe(60 * DAY);
  });
});
