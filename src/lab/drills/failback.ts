import { powerCut } from "../faults/power.ts";
import { switchover } from "../faults/operator.ts";
import type { Drill } from "./drill.ts";

export const failback: Drill = {
  name: "failback",
  story: "The node that had failed is back and repaired; the operator gives it its addresses again.",
  prepare: async (lab) => {
    const failed = await lab.steady();
    const cut = powerCut(failed);
    await cut.inject(lab);
    await cut.heal(lab);
    await lab.steady();
  },
  fault: ({ active, backup }) => switchover(active, backup),
  hold: ({ activeDown }) => activeDown + 700,
  budget: () => ({ lost: 0, kept: 1, takeovers: 1 }),
};
