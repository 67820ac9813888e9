import { advertsLost } from "../faults/cables.ts";
import type { Drill } from "./drill.ts";

export const advertsOneWay: Drill = {
  name: "adverts-one-way",
  story: "A switch loses the Active's advertisements; what the Backup sends arrives.",
  fault: ({ active }) => advertsLost(active),
  hold: ({ activeDown }) => activeDown + 1500,
  budget: ({ activeDown }) => ({ gap: activeDown + 100 }),
};
