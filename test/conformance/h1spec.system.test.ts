import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { denoWorks, readOutcome, runH1spec } from "./h1spec.ts";
import { startSubject } from "./subjects.ts";

// NINES_H1SPEC=/path/to/http_test.ts, and NINES_DENO where deno is not on the path.
const file = process.env.NINES_H1SPEC ?? "";
const deno = process.env.NINES_DENO ?? "deno";
const compiled = existsSync(new URL("../../dist/index.js", import.meta.url));
const able = compiled && existsSync(file) && denoWorks(deno);

describe("h1spec", () => {
  it.skipIf(!able)("finds nothing", { timeout: 120_000 }, async () => {
    const running = await startSubject("nines");
    try {
      const { passed, all, failures } = await runH1spec(deno, file, running.plainPort);
      expect(failures).toEqual([]);
      expect(all).toBeGreaterThan(30);
      expect(passed).toBe(all);
    } finally {
      await running.stop();
    }
  });

  it("is read by what it prints", () => {
    const text = "✅ Valid GET request: 200\n❌ Multiple Host headers: 200\n\n1 out of 2 tests passed.\n";
    expect(readOutcome(text)).toEqual({ passed: 1, all: 2, failures: ["Multiple Host headers: 200"] });
    expect(readOutcome("it crashed")).toEqual({ passed: 0, all: 0, failures: [] });
  });
});
