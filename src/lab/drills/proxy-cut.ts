import { powerCut } from "../faults/power.ts";
import type { Drill } from "./drill.ts";

export const proxyCut: Drill = {
  name: "proxy-cut",
  story: "A node that proxies behind the forwarder loses power: its share fails until the checks notice.",
  skip: (lab) => {
    if (lab.subject.name !== "nines")
      return "keepalived checks backends of IPVS only, which this set-up has not";
    return lab.plan.proxies.some((node) => !lab.routers.includes(node))
      ? undefined
      : "no node proxies behind the forwarder";
  },
  fault: ({ active }, lab) =>
    powerCut(lab.plan.proxies.find((node) => !lab.routers.includes(node)) ?? active),
  hold: ({ checkFall }) => checkFall + 1500,
  budget: ({ checkFall }) => ({ settled: checkFall + 500, takeovers: 0 }),
};
