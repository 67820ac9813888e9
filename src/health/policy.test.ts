import { describe, expect, it } from "vitest";
import { effectiveAdmin, effectiveWeight, isIsolated } from "./policy.ts";

describe("what a backend gets", () => {
  it("is its weight while nothing speaks against it", () => {
    expect(effectiveWeight(3, "up", "enabled")).toBe(3);
    expect(effectiveWeight(3, "unknown", "enabled")).toBe(3);
    expect(effectiveWeight(3, "down", "enabled")).toBe(0);
    expect(effectiveWeight(3, "up", "drain")).toBe(0);
    expect(effectiveWeight(3, "up", "maintenance")).toBe(0);
  });
  it("follows the site file's maintenance before the operator's word", () => {
    expect(effectiveAdmin(true, "enabled")).toBe("maintenance");
    expect(effectiveAdmin(false, "drain")).toBe("drain");
  });
});

describe("isolation", () => {
  it("is told when every check fails", () => {
    expect(isIsolated({ count: 2, hosts: 2, bad: 2 })).toBe(true);
  });
  it("is not told of one host, while one is good, or before all were checked", () => {
    expect(isIsolated({ count: 0, hosts: 0, bad: 0 })).toBe(false);
    expect(isIsolated({ count: 2, hosts: 1, bad: 2 })).toBe(false);
    expect(isIsolated({ count: 2, hosts: 2, bad: 1 })).toBe(false);
  });
});
