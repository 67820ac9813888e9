import { foreignMark as mark } from "../faults/kernel.ts";
import type { Drill } from "./drill.ts";

export const foreignMark: Drill = {
  name: "foreign-mark",
  story: "Another program on the Active, a VPN perhaps, marks every packet.",
  fault: ({ active }) => mark(active),
  hold: () => 1500,
  budget: () => ({ lost: 0, kept: 1, takeovers: 0 }),
};
