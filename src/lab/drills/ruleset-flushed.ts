import { rulesetFlushed as flush } from "../faults/kernel.ts";
import type { Drill } from "./drill.ts";

export const rulesetFlushed: Drill = {
  name: "ruleset-flushed",
  story: "Somebody restarts the system's own firewall, which begins with `nft flush ruleset`.",
  fault: ({ active }) => flush(active),
  hold: () => 2500,
  budget: () => ({ gap: 1000, takeovers: 0 }),
};
