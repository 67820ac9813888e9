import { forwardDropped } from "../faults/kernel.ts";
import { doctorFindings } from "../subjects/nines.ts";
import type { Drill } from "./drill.ts";

export const forwardDrop: Drill = {
  name: "forward-drop",
  story: "Docker is installed on the Active: the forward chain drops whatever nobody accepts.",
  fault: ({ active }) => forwardDropped(active),
  // Whoever wonders why the service stands still asks the doctor: it must name the chain.
  diagnose: async ({ active }) => {
    const chains = (await doctorFindings(active)).filter(({ name }) => name === "forward_drop");
    if (chains.some(({ what }) => what.includes("inet foreign forward"))) return undefined;
    return `nines doctor on ${active} does not name the chain that drops`;
  },
  hold: () => 2500,
  // No table of ours can overrule another's drop: the service stands still until it is gone.
  budget: () => ({ takeovers: 0 }),
};
