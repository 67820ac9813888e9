/**
 * A few hundred seeds; ten thousand run in the system project.
 * Replay one: NINES_SEED=n npx vitest run --project unit src/redundancy/simulation
 */
import { describe, expect, it } from "vitest";
import { runSeed, runSeeds } from "./run.ts";

const replay = process.env["NINES_SEED"];

describe("simulation of 2 to 5 nodes", () => {
  it.runIf(replay !== undefined)("replays one seed", () => {
    console.log(runSeed(Number(replay)).log.join("\n"));
  });
  it("keeps its invariants for 300 seeds", () => {
    expect(runSeeds(1, 300)).toEqual({ seeds: 300, broken: [] });
  });
});

/** What a seed showed once, and what it was. They run in every check, wherever the ranges above go. */
describe("seeds that found something", () => {
  it.each([
    [31, "two links order two equal nodes differently: both gave way, for ever"],
    [84, "after a stall beyond its lease an Active went on without its address"],
    [497, "a timer that nobody re-armed: an Active asked to stop span"],
    [185, "the winner of a split brain did not hear the loser, and left the neighbours with its addresses"],
    [235, "the same, with the loser's last advertisement lost"],
    [1304, "the same, with the loser killed while it was Active"],
    [86, "a drained node of priority 1 could not be lowered, and kept the addresses from healthier ones"],
    [550, "a restart listened so long that another node took over meanwhile"],
  ])("seed %i: %s", (seed) => {
    expect(runSeeds(seed, seed).broken).toEqual([]);
  });
});
