import { linkDown } from "../faults/cables.ts";
import type { Lab } from "../lab.ts";
import type { Drill, Promises } from "./drill.ts";

const hold = ({ activeDown }: Promises): number => activeDown + 1200;
const budget = ({ activeDown }: Promises) => ({ gap: activeDown + 100, takeovers: 1 });

/** The network of the clients, or the one of the backends where it is another. */
function networkOf(lab: Lab, kind: "client" | "backend"): string {
  return lab.plan.hosts.find((host) => host.kind === kind)?.interfaces[0]?.network ?? "";
}

export const linkDownFront: Drill = {
  name: "link-down-front",
  story: "Somebody pulls the Active's cable on the clients' side.",
  fault: ({ active }, lab) => linkDown(active, networkOf(lab, "client")),
  hold,
  budget,
};

export const linkDownBack: Drill = {
  name: "link-down-back",
  story: "Somebody pulls the Active's cable on the backends' side; on the clients' side all looks well.",
  skip: (lab) =>
    networkOf(lab, "client") === networkOf(lab, "backend")
      ? "clients and backends share a network"
      : undefined,
  fault: ({ active }, lab) => linkDown(active, networkOf(lab, "backend")),
  hold,
  budget,
};
