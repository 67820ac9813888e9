import { switchover } from "../faults/operator.ts";
import { both } from "../faults/fault.ts";
import { killJob, pause } from "../faults/processes.ts";
import type { Drill } from "./drill.ts";

export const flowsKilled: Drill = {
  name: "flows-killed",
  story: "The process that replicates connections crashes on both nodes; it is back when the addresses move.",
  skip: (lab) => {
    if (lab.subject.name !== "nines") return `${lab.subject.name} has no such process`;
    return lab.site.flows === undefined ? "the site replicates no connections" : undefined;
  },
  fault: ({ active, backup }) =>
    both(
      killJob(active, "flows"),
      killJob(backup, "flows"),
      pause("until the connections are in sync again", async (lab) => {
        for (const node of [active, backup]) await lab.subject.synced(node);
      }),
      switchover(active, backup),
    ),
  hold: ({ activeDown }) => activeDown + 700,
  budget: () => ({ lost: 0, kept: 1, takeovers: 1 }),
};
