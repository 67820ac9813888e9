import { cpuStarvation } from "../faults/load.ts";
import { findProgram } from "../shell.ts";
import type { Drill } from "./drill.ts";

/** Both cores busy for as long as asked: what is counted is takeovers that nobody needed. */
export const starvation = (minutes: number): Drill => ({
  name: "starvation",
  story: `All processors are busy for ${minutes} minutes; nothing is broken, so nothing may move.`,
  skip: () => (findProgram("stress-ng") === undefined ? "stress-ng is not installed" : undefined),
  fault: () => cpuStarvation(),
  hold: () => minutes * 60_000,
  budget: () => ({ takeovers: 0 }),
  // Fewer probes: they are witnesses here, and cost processor time themselves.
  streams: (usual) => usual.filter(({ kind }) => kind === "connect").map((one) => ({ ...one, interval: 50 })),
  onlyByName: true,
});
