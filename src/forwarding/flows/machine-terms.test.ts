import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Terms } from "./machine-terms.ts";

const edge = new Set(["edge"]);
const none = new Set<string>();
const names = ["lb1", "lb2", "lb3"] as const;

describe("terms", () => {
  it("of each election are above all that the node has heard of", () => {
    const [one, two] = [new Terms("lb1"), new Terms("lb2")];
    one.setActive(edge);
    two.hear("lb1", one.announced);
    two.setActive(edge);
    expect([one.own("edge"), two.own("edge")]).toEqual([1, 2]);
    expect(two.later("lb1", { term: 1, active: true }, "edge")).toBe(false);
    expect(one.later("lb2", { term: 2, active: true }, "edge")).toBe(true);
    // Heard of in the same state once more: no news.
    two.setActive(edge);
    expect(two.own("edge")).toBe(2);
  });

  it("of two Actives are raised only when they insist, however often each hears of the other through a third", () => {
    const [one, two, third] = [new Terms("lb1"), new Terms("lb2"), new Terms("lb3")];
    for (const active of [one, two]) active.setActive(edge);
    for (let round = 0; round < 5; round++) {
      third.hear("lb1", one.announced);
      third.hear("lb2", two.announced);
      expect([one.hear("lb3", third.announced), two.hear("lb3", third.announced)]).toEqual([[], []]);
      expect([one.hear("lb2", two.announced), two.hear("lb1", one.announced)]).toEqual([[], []]);
    }
    expect([one.own("edge"), two.own("edge")]).toEqual([1, 1]);
    expect([one.insist(), two.insist()]).toEqual([["edge"], ["edge"]]);
  });

  it("that two took at once and never told each other are outbid by what a third node says", () => {
    const [one, two, third] = [new Terms("lb1"), new Terms("lb2"), new Terms("lb3")];
    for (const active of [one, two]) active.setActive(edge);
    third.hear("lb2", two.announced);
    expect(third.later("lb1", { term: 1, active: true }, "edge")).toBe(true);
    third.hear("lb1", one.announced);
    // The other one is dead by now.
    one.hear("lb3", third.announced);
    expect([one.insist(), one.own("edge")]).toEqual([["edge"], 3]);
    third.hear("lb1", one.announced);
    expect(third.announced).toEqual([{ router: "edge", term: 0, seen: 3, active: false }]);
  });

  it("that are known by hearsay are the first one's who says that it has them", () => {
    const [one, third] = [new Terms("lb1"), new Terms("lb3")];
    one.setActive(edge);
    third.hear("lb2", [{ router: "edge", term: 0, seen: 1, active: false }]);
    third.hear("lb1", one.announced);
    third.hear("lb1", one.announced);
    expect(third.announced).toEqual([{ router: "edge", term: 0, seen: 1, active: false }]);
  });

  it("make the one that stays Active the latest, whatever was before", () => {
    const step = fc.record({
      node: fc.nat(2),
      what: fc.constantFrom("active", "backup", "insist", "hear"),
      from: fc.nat(2),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.nat(2), (steps, last) => {
        const nodes = names.map((name) => new Terms(name));
        const hear = (to: number, from: number): void => {
          const there = nodes[from];
          if (to !== from && there) nodes[to]?.hear(names[from] ?? "", there.announced);
        };
        for (const { node, what, from } of steps) {
          if (what === "active") nodes[node]?.setActive(edge);
          else if (what === "backup") nodes[node]?.setActive(none);
          else if (what === "insist") nodes[node]?.insist();
          else hear(node, from);
        }
        nodes.forEach((each, i) => each.setActive(i === last ? edge : none));
        for (const from of [0, 1, 2]) hear(last, from);
        nodes[last]?.insist();
        const term = nodes[last]?.own("edge") ?? 0;
        nodes.forEach((each, i) => {
          if (i !== last) expect(each.later(names[last] ?? "", { term, active: true }, "edge")).toBe(true);
        });
      }),
    );
  });
});
