import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import type { DrillReport } from "../contracts/drills.ts";
import { labRefused } from "./outer.ts";
import { findProgram } from "./shell.ts";

const refused = labRefused() ?? (findProgram("nft") === undefined ? "nft is not installed" : undefined);
const SITE = new URL("../../examples/active-active/site.yaml", import.meta.url).pathname;
const CLI = new URL("../cli/main.ts", import.meta.url).pathname;

describe.skipIf(refused !== undefined)("two nodes, each Active for a router of its own", () => {
  // Each in a lab of its own: after a hand-over one node may keep both.
  it.concurrent.each(["switchover", "power-cut"])(
    "lose no established connection: %s",
    { timeout: 120_000 },
    async (drill) => {
      const { stdout, stderr } = await promisify(execFile)(
        process.execPath,
        ["--import", import.meta.resolve("tsx"), CLI, "drill", SITE, drill, "--json"],
        { maxBuffer: 2 ** 27 },
      ).catch((error: unknown) => error as { stdout: string; stderr: string });
      expect(stderr).toBe("");
      const [run] = (JSON.parse(stdout) as DrillReport).runs;
      const owners = (address: string): string[] =>
        (run?.timeline ?? []).filter(({ lane }) => lane === `owner ${address}`).map(({ what }) => what);
      // Half of the traffic each, until one takes the other's as well.
      expect(owners("10.0.0.1")[0], run?.reason).toBe("lb1");
      expect(owners("10.0.0.1")).toContain("lb2");
      expect(new Set(owners("10.0.0.9"))).toEqual(new Set(["lb2"]));
      const held = (run?.probes ?? []).flatMap(({ stream, established }) =>
        established === undefined ? [] : [{ stream, ...established }],
      );
      expect(held).toHaveLength(4);
      for (const { stream, before, kept, lost } of held) {
        expect(before, stream).toBeGreaterThan(0);
        expect(kept, `${stream}: ${JSON.stringify(lost)}`).toBe(before);
      }
    },
  );
});
