import { afterEach, describe, expect, it } from "vitest";
import { fuzzParser, startEngineFuzz } from "./testing/fuzz.ts";
import { cleanUp } from "./testing/harness.ts";

afterEach(cleanUp);

// A short, seeded run; `npm run fuzz:proxy -- --minutes 10` is the long one.
describe("fuzzing", () => {
  it("the parser: nothing is thrown, little is kept, splits change nothing", () => {
    for (let seed = 1; seed <= 2000; seed++) fuzzParser(seed);
  });

  it("a whole proxy: every connection ends, and nothing is left", { timeout: 120_000 }, async () => {
    const fuzz = await startEngineFuzz();
    for (let seed = 1; seed <= 320; seed += 16)
      await Promise.all(Array.from({ length: 16 }, (_, i) => fuzz.connection(seed + i)));
    expect(await fuzz.settled()).toBeUndefined();
    expect(fuzz.statuses()).toMatchObject({ 2: expect.any(Number), 4: expect.any(Number) });
  });
});
