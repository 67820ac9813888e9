import { hang as stop } from "../faults/processes.ts";
import type { Drill } from "./drill.ts";

export const hang: Drill = {
  name: "hang",
  story:
    "The Active's virtual machine is paused for three seconds and wakes up believing it is still Active.",
  fault: ({ active }) => stop(active),
  hold: () => 3000,
  budget: ({ activeDown }) => ({ gap: activeDown + 100 }),
};
