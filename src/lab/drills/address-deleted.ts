import { addressesDeleted } from "../faults/kernel.ts";
import type { Drill } from "./drill.ts";

export const addressDeleted: Drill = {
  name: "address-deleted",
  story: "A network manager, or a tired person, deletes the virtual addresses from the Active.",
  fault: ({ active }) => addressesDeleted(active),
  hold: () => 2500,
  budget: () => ({ gap: 1000 }),
};
