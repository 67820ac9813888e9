import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { seededRandom } from "../base/random.ts";
import { NEVER, addTime, instant, ms } from "../base/time.ts";
import { type CheckPlan, type CheckState, initialCheckState, reasonOf, stepCheck } from "./machine.ts";

const plan: CheckPlan = { interval: ms(1000), rise: 2, fall: 3, jitter: 0 };
const random = seededRandom(1);

/** Feeds verdicts (+ good, - bad, 0 none), each check taking `took` ms; returns the health after each. */
function run(
  text: string,
  config = plan,
  took = 5,
  from?: CheckState,
): { states: CheckState[]; healths: string[] } {
  let now = instant(0);
  let state = from ?? initialCheckState({ now, config, random });
  const states: CheckState[] = [];
  for (const sign of text) {
    now = state.due;
    state = stepCheck(state, { type: "due" }, { now, config, random }).state;
    expect(state.due).toBe(NEVER);
    now = addTime(now, ms(took));
    const outcome = sign === "+" ? "good" : sign === "-" ? "bad" : "none";
    const verdict = { outcome, reason: `said ${sign}` } as const;
    state = stepCheck(state, { type: "verdict", verdict }, { now, config, random }).state;
    states.push(state);
  }
  return { states, healths: states.map((each) => each.health) };
}

describe("rise and fall", () => {
  it.each([
    ["++", "unknown up"],
    ["--", "unknown unknown"],
    ["---", "unknown unknown down"],
    ["+-+-+-", "unknown unknown unknown unknown unknown unknown"],
    ["++--+---", "unknown up up up up up up down"],
    ["---+-++", "unknown unknown down down down down up"],
    ["+0+", "unknown unknown up"],
    ["--0-", "unknown unknown unknown down"],
  ])("%s is %s", (text, expected) => expect(run(text).healths.join(" ")).toBe(expected));

  it("are what they say, whatever the verdicts", () => {
    const signs = fc.array(fc.constantFrom("+", "-", "0"), { maxLength: 60 }).map((all) => all.join(""));
    fc.assert(
      fc.property(
        signs,
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 5 }),
        (text, rise, fall) => {
          const { healths } = run(text, { ...plan, rise, fall });
          const counted = Array.from(text, (_, i) => text.slice(0, i + 1).replaceAll("0", ""));
          let expected = "unknown";
          counted.forEach((before, i) => {
            if (text[i] !== "0" && before.endsWith("+".repeat(rise))) expected = "up";
            if (text[i] !== "0" && before.endsWith("-".repeat(fall))) expected = "down";
            expect(healths[i]).toBe(expected);
          });
        },
      ),
    );
  });

  it("tell a change once, with its reason", () => {
    let state = initialCheckState({ now: instant(0), config: plan, random });
    const told: string[] = [];
    for (let i = 0; i < 6; i++) {
      const context = { now: state.due, config: plan, random };
      state = stepCheck(state, { type: "due" }, context).state;
      const verdict = { outcome: "bad", reason: "connection refused" } as const;
      const stepped = stepCheck(state, { type: "verdict", verdict }, context);
      state = stepped.state;
      for (const effect of stepped.effects) told.push(JSON.stringify(effect));
    }
    expect(told).toEqual([
      '{"type":"changed","from":"unknown","to":"down","reason":"connection refused, 3 times in a row"}',
    ]);
  });
});

describe("the schedule", () => {
  it("checks an unknown backend four times as often", () => {
    expect(run("+").states[0]?.due).toBe(250);
    expect(run("++").states[1]?.due).toBe(1250);
    expect(run("---").states[2]?.due).toBe(1500);
  });
  it("goes by the beginning of a check, and never runs two at once", () => {
    expect(run("++", plan, 400).states[1]?.due).toBe(1400);
    expect(run("++", plan, 3000).states[1]?.due).toBe(6000);
    const state = initialCheckState({ now: instant(0), config: plan, random });
    const context = { now: instant(0), config: plan, random };
    const running = stepCheck(state, { type: "due" }, context);
    expect(running.effects).toEqual([{ type: "start" }]);
    expect(stepCheck(running.state, { type: "due" }, context).effects).toEqual([]);
  });
  it("is never hurried by checks that say nothing", () => {
    const { states } = run("++0", plan, 3000);
    expect(states[2]?.due).toBe(6000 + 3000 + 1000);
    expect(states[2]?.reason).toBe("not counted: said 0");
  });
  it("spreads by the jitter, and no further", () => {
    fc.assert(
      fc.property(fc.integer(), fc.double({ min: 0, max: 0.5, noNaN: true }), (seed, jitter) => {
        const context = { now: instant(10), config: { ...plan, jitter }, random: seededRandom(seed) };
        const first = initialCheckState(context, "up");
        expect(first.due).toBeGreaterThanOrEqual(10);
        expect(first.due).toBeLessThanOrEqual(10 + 1000 * jitter);
        const started = stepCheck(first, { type: "due" }, { ...context, now: first.due }).state;
        const verdict = { outcome: "good", reason: "" } as const;
        const { due } = stepCheck(
          started,
          { type: "verdict", verdict },
          { ...context, now: first.due },
        ).state;
        expect(due - first.due).toBeGreaterThanOrEqual(1000 * (1 - jitter) - 1e-6);
        expect(due - first.due).toBeLessThanOrEqual(1000 * (1 + jitter) + 1e-6);
      }),
    );
  });
  it("ignores verdicts that nobody waits for, and begins anew when replanned", () => {
    const context = { now: instant(7), config: plan, random };
    const [, up] = run("++").states;
    if (!up) throw new Error("two verdicts give two states");
    const verdict = { outcome: "bad", reason: "late" } as const;
    expect(stepCheck(up, { type: "verdict", verdict }, context)).toEqual({ state: up, effects: [] });
    const replanned = stepCheck(up, { type: "replanned" }, context).state;
    expect([replanned.health, replanned.due, replanned.run.count]).toEqual(["up", 7, 0]);
  });
});

describe("the reason", () => {
  it("says how near a change is", () => {
    const after = (text: string): string => {
      const state = run(text).states.at(-1) as CheckState;
      return reasonOf(state, plan);
    };
    expect(after("++")).toBe("said +");
    expect(after("++--")).toBe("said - (bad, 2 of 3)");
    expect(after("---+")).toBe("said + (good, 1 of 2)");
    expect(reasonOf(initialCheckState({ now: instant(0), config: plan, random }), plan)).toBe(
      "not checked yet",
    );
    const remembered = initialCheckState({ now: instant(0), config: plan, random }, "down");
    expect([remembered.health, reasonOf(remembered, plan)]).toEqual([
      "down",
      "as before the restart, not checked yet",
    ]);
    // A backend that was down needs its rise, as if nothing had happened.
    expect(run("+", plan, 5, remembered).healths).toEqual(["down"]);
  });
});
