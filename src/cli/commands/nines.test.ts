import { describe, expect, it, vi } from "vitest";
import { buildProgram } from "../program.ts";

async function nines(value: string): Promise<{ out: string; error: string }> {
  let [out, error] = ["", ""];
  const log = vi.spyOn(console, "log").mockImplementation((text: string) => void (out += text));
  const write = vi
    .spyOn(process.stderr, "write")
    .mockImplementation((text) => ((error += String(text)), true));
  try {
    await buildProgram().parseAsync(["nines", value], { from: "user" });
  } catch {
    // The message is what counts here.
  } finally {
    log.mockRestore();
    write.mockRestore();
  }
  return { out, error };
}

describe("nines nines", () => {
  it("reads a percentage, a count of nines, and downtime per window", async () => {
    for (const value of ["99.99", "99.99%", "4n", "52.56m/year", "0.876h/365d"])
      expect((await nines(value)).out, value).toContain("99.99 %");
    expect((await nines("1n")).out).toContain("90 %");
    expect((await nines("36m/week")).out).toContain("99.642857 %");
  });

  it("says what is wrong with anything else", async () => {
    expect((await nines("2h")).error).toContain('"2h" is none of 99.95, 3n, 26m/30d, 2h/year');
    expect((await nines("2d/day")).error).toContain("2d is longer than day");
    expect((await nines("2h/decade")).error).toContain('"decade" is not a duration');
  });
});
