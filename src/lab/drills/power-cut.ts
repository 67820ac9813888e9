import { powerCut as cut } from "../faults/power.ts";
import type { Drill } from "./drill.ts";

export const powerCut: Drill = {
  name: "power-cut",
  story: "The Active loses power: no last word, no link, nothing.",
  fault: ({ active }) => cut(active),
  hold: ({ activeDown }) => activeDown + 1500,
  budget: ({ activeDown }) => ({ gap: activeDown + 100, takeovers: 1 }),
};
