import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { GROUP_TRANSITIONS } from "./group/machine.ts";

const readme = readFileSync(new URL("README.md", import.meta.url), "utf8");
const guide = readFileSync(new URL("../../docs/guide/virtual-addresses.md", import.meta.url), "utf8");

describe("what is written about redundancy", () => {
  it("has the state diagram of the machine", () => {
    const lines = GROUP_TRANSITIONS.map(([from, to, on]) => `  ${from} --> ${to}: ${on}`);
    const diagram = ["```mermaid", "stateDiagram-v2", ...lines, "```"].join("\n");
    expect(readme.split("<!-- states -->")[1]?.split("<!-- /states -->")[0]?.trim()).toBe(diagram);
  });
  it("has the right times in the guide's table", () => {
    for (const interval of [100, 1000])
      for (const priority of [100, 200]) {
        const skew = ((256 - priority) * interval) / 256;
        const row = [interval, priority, Math.round(skew), Math.round(3 * interval + skew)].join(" | ");
        expect(guide.replaceAll(/ +/g, " ")).toContain(`| ${row} |`);
      }
  });
});
