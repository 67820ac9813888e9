import { killBackend } from "../faults/processes.ts";
import type { Drill } from "./drill.ts";

export const backendKilled: Drill = {
  name: "backend-killed",
  story: "A backend dies: its share of new connections is refused until the checks notice.",
  skip: (lab) => {
    if (lab.subject.name !== "nines")
      return "keepalived checks backends of IPVS only, which this set-up has not";
    return Object.values(lab.site.pools).some(({ check }) => check !== undefined)
      ? undefined
      : "no pool has a check";
  },
  fault: (_, lab) => {
    const pool = Object.values(lab.site.pools).find(({ check }) => check !== undefined);
    return killBackend(Object.keys(pool?.backends ?? {})[0] ?? "");
  },
  hold: ({ checkFall }) => checkFall + 1500,
  budget: ({ checkFall }) => ({ settled: checkFall + 500, takeovers: 0 }),
};
