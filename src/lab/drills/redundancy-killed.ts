import { killJob } from "../faults/processes.ts";
import type { Drill } from "./drill.ts";

export const redundancyKilled: Drill = {
  name: "redundancy-killed",
  story: "The Active's redundancy process alone crashes; its parent starts it again.",
  skip: (lab) => (lab.subject.name !== "nines" ? "kill-all is the same for keepalived" : undefined),
  fault: ({ active }) => killJob(active, "redundancy"),
  hold: ({ lease }) => lease + 1500,
  budget: ({ activeDown }) => ({ gap: activeDown + 100 }),
};
