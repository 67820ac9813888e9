import { describe, expect, it } from "vitest";
import { editDistance, nearest, suggest } from "./near.ts";

describe("near-miss names", () => {
  it.each([
    ["apps", "apps", 0],
    ["", "abc", 3],
    ["adress", "address", 1],
    ["htpp", "http", 1],
    ["LB1", "lb1", 0],
    ["kitten", "sitting", 3],
  ])("%s and %s are %d apart", (a, b, distance) => {
    expect(editDistance(a, b)).toBe(distance);
    expect(editDistance(b, a)).toBe(distance);
  });
  it("offers what is near, and what there is where nothing is", () => {
    expect(nearest("appz", ["web", "apps"])).toBe("apps");
    expect(nearest("zzz", ["web", "apps"])).toBeUndefined();
    expect(suggest("appz", ["apps"], "pools")).toBe('did you mean "apps"?');
    expect(suggest("zzz", ["web", "apps"], "pools")).toBe("pools: web, apps");
    expect(suggest("zzz", [], "pools")).toBe("there are no pools");
  });
});
