import { describe, expect, it } from "vitest";
import { effectiveAdmin, effectiveWeight, isolation } from "./policy.ts";

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
  const bad = (address: string) => ({ address, checked: true, good: false, reason: "no route to the host" });
  it("is told when every check fails", () => {
    expect(isolation([bad("10.0.0.1"), bad("10.0.0.2")])).toBe(
      "all 2 checks fail at once (no route to the host): perhaps this node is isolated",
    );
  });
  it("is not told of one host, while one is good, or before all were checked", () => {
    expect(isolation([])).toBeUndefined();
    expect(isolation([bad("10.0.0.1"), bad("10.0.0.1")])).toBeUndefined();
    expect(isolation([bad("10.0.0.1"), { ...bad("10.0.0.2"), good: true }])).toBeUndefined();
    expect(isolation([bad("10.0.0.1"), { ...bad("10.0.0.2"), good: undefined }])).toBeUndefined();
    expect(isolation([bad("10.0.0.1"), { ...bad("10.0.0.2"), checked: false }])).toBeUndefined();
  });
});
