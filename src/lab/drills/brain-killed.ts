import { killJob } from "../faults/processes.ts";
import { both } from "../faults/fault.ts";
import type { Drill } from "./drill.ts";

const skip: NonNullable<Drill["skip"]> = (lab) =>
  lab.subject.name !== "nines" ? "keepalived has no separate brain" : undefined;

export const brainKilled: Drill = {
  name: "brain-killed",
  story: "The Active's brain crashes; kernel and redundancy go on without it.",
  skip,
  fault: ({ active }) => killJob(active, "brain"),
  hold: () => 3000,
  budget: () => ({ lost: 0, kept: 1, takeovers: 0 }),
};

export const bothBrainsKilled: Drill = {
  name: "both-brains-killed",
  story: "One bad input crashes the brains of both nodes at once.",
  skip,
  fault: ({ active, backup }) => both(killJob(active, "brain"), killJob(backup, "brain")),
  hold: () => 3000,
  budget: () => ({ lost: 0, kept: 1, takeovers: 0 }),
};
