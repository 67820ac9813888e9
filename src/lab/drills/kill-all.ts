import { killAll as kill } from "../faults/processes.ts";
import type { Drill } from "./drill.ts";

export const killAll: Drill = {
  name: "kill-all",
  story: "Every process on the Active dies at once (the OOM killer, a bad upgrade); its kernel lives on.",
  fault: ({ active }) => kill(active),
  hold: ({ activeDown, lease }) => Math.max(activeDown, lease) + 1500,
  budget: ({ activeDown }) => ({ gap: activeDown + 100, takeovers: 1 }),
};
