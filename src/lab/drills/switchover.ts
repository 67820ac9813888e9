import { switchover as move } from "../faults/operator.ts";
import type { Drill } from "./drill.ts";

export const switchover: Drill = {
  name: "switchover",
  story: "Maintenance: the operator moves the virtual addresses to the other node.",
  fault: ({ active, backup }) => move(active, backup),
  hold: ({ activeDown }) => activeDown + 700,
  budget: () => ({ lost: 0, kept: 1, takeovers: 1 }),
};
