import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { labRefused } from "./outer.ts";
import { findProgram } from "./shell.ts";

const missing = labRefused() ?? ["nft", "conntrack"].find((tool) => findProgram(tool) === undefined);
const SOAK = new URL("../../bench/soak.ts", import.meta.url).pathname;

describe.skipIf(missing !== undefined)("half a minute of connections that come and go", () => {
  it(
    "while the addresses move to and fro, none is lost and none is left in a table",
    { timeout: 400_000 },
    () => {
      const flags = [
        "--minutes",
        "0.5",
        "--every",
        "8",
        "--arrivals",
        "20",
        "--slack",
        "30000",
        "--no-result",
      ];
      const { stdout, stderr, status } = spawnSync(
        process.execPath,
        ["--import", import.meta.resolve("tsx"), SOAK, ...flags],
        { encoding: "utf8", timeout: 390_000 },
      );
      expect(stderr).toBe("");
      expect(stdout.split("\n").filter((line) => line.startsWith("problem: "))).toEqual([]);
      expect(stdout).toMatch(/\b[1-9]\d* switchovers, 0 lost; nothing leaked/);
      expect(status).toBe(0);
    },
  );
});
