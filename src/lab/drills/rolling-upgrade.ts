import { rollingRestart } from "../faults/operator.ts";
import type { Drill } from "./drill.ts";

export const rollingUpgrade: Drill = {
  name: "rolling-upgrade",
  story: "Both nodes get a new version, one after the other: each is stopped in order and started again.",
  fault: ({ active, backup }) => rollingRestart([backup, active]),
  hold: ({ activeDown }) => activeDown + 1500,
  budget: () => ({ lost: 0, kept: 1 }),
};
