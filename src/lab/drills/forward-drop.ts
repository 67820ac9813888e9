import { forwardDropped } from "../faults/kernel.ts";
import type { Drill } from "./drill.ts";

export const forwardDrop: Drill = {
  name: "forward-drop",
  story: "Docker is installed on the Active: the forward chain drops whatever nobody accepts.",
  fault: ({ active }) => forwardDropped(active),
  hold: () => 2500,
  // No table of ours can overrule another's drop: the service stands still until it is gone.
  budget: () => ({ takeovers: 0 }),
};
