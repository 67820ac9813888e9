import { describe, expect, it } from "vitest";
import { leftTo, notTaken } from "./policy-peers.ts";

const day = 86_400_000;
const kept = (from: number, to: number, names = ["a.example"]) => ({
  notBefore: from * day,
  notAfter: to * day,
  names,
  directory: "https://one/dir",
  ordered: from * day,
});
const wanted = (...names: string[]) => ({ names, directory: "https://one/dir" });
const now = 10 * day;

describe("another node's certificate", () => {
  it("is taken where there is none, and where it lasts longer or, with the same end, is the newer one", () => {
    const names = wanted("a.example");
    expect(notTaken(kept(0, 90), undefined, names, now)).toBeUndefined();
    expect(notTaken(kept(5, 95), kept(0, 90), names, now)).toBeUndefined();
    expect(notTaken(kept(1, 90), kept(0, 90), names, now)).toBeUndefined();
    expect(notTaken(kept(0, 90), kept(0, 90), names, now)).toBe("older");
    expect(notTaken(kept(0, 89), kept(0, 90), names, now)).toBe("older");
  });
  it("is not taken for other names or when it has ended; one for all names replaces one that lacks some", () => {
    expect(notTaken(kept(0, 90), undefined, wanted("b.example"), now)).toBe("names");
    expect(notTaken(kept(0, 10), undefined, wanted("a.example"), now)).toBe("ended");
    const both = ["a.example", "b.example"];
    expect(notTaken(kept(0, 50, both), kept(5, 95), wanted(...both), now)).toBeUndefined();
  });
  it("of the directory that is asked for is taken although one of another lasts longer, and never goes back", () => {
    const names = wanted("a.example");
    const other = { ...kept(5, 95), directory: "https://another/dir" };
    expect(notTaken(kept(1, 20), other, names, now)).toBeUndefined();
    expect(notTaken(other, kept(1, 20), names, now)).toBe("older");
    // One that does not say where it is from was ordered before.
    expect(notTaken({ ...kept(5, 95), directory: undefined }, kept(6, 20), names, now)).toBe("older");
  });
  it("is taken where it was ordered later, whichever lasts longer, and where the own one has ended", () => {
    const names = wanted("a.example");
    expect(notTaken(kept(5, 20), kept(4, 90), names, now)).toBeUndefined();
    expect(notTaken(kept(4, 90), kept(5, 20), names, now)).toBe("older");
    expect(notTaken(kept(0, 90), kept(5, 10), names, now)).toBeUndefined();
  });
});

describe("who orders", () => {
  const says = (node: string, claims: string[], ordering: string[] = []) => ({ node, claims, ordering });
  it("is this node, unless one whose name comes first does, or one is at it", () => {
    expect(leftTo("web", "b", [])).toBeUndefined();
    expect(leftTo("web", "b", [says("a", ["web"])])).toBe("a");
    expect(leftTo("web", "a", [says("b", ["web"])])).toBeUndefined();
    expect(leftTo("web", "b", [says("a", ["other"])])).toBeUndefined();
    expect(leftTo("web", "a", [says("b", ["web"], ["web"])])).toBe("b");
  });
  it("is never nobody: of all that claim, exactly one orders", () => {
    const nodes = ["a", "b", "c"];
    const order = nodes.filter(
      (node) =>
        leftTo(
          "web",
          node,
          nodes.filter((other) => other !== node).map((other) => says(other, ["web"])),
        ) === undefined,
    );
    expect(order).toEqual(["a"]);
  });
});
