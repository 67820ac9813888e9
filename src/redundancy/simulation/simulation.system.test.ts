/** Ten thousand seeds; more with NINES_SEEDS=100000, others with NINES_SEED_FROM=1000000. */
import { expect, it } from "vitest";
import { runSeeds } from "./run.ts";

const count = Number(process.env["NINES_SEEDS"] ?? 10_000);
const from = Number(process.env["NINES_SEED_FROM"] ?? 301);

it(`keeps its invariants for ${count} seeds`, { timeout: 60_000 + count * 50 }, () => {
  expect(runSeeds(from, from + count - 1)).toEqual({ seeds: count, broken: [] });
});
