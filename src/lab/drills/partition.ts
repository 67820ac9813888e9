import { partition as part } from "../faults/cables.ts";
import type { Drill } from "./drill.ts";

export const partition: Drill = {
  name: "partition",
  story: "The nodes no longer reach each other while clients reach both: two Actives, until it heals.",
  fault: ({ active, backup }) => part(active, backup),
  hold: ({ activeDown }) => activeDown + 1500,
  budget: ({ activeDown }) => ({ gap: activeDown + 100 }),
};
