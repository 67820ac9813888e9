import { backendsChange } from "../faults/operator.ts";
import type { Drill } from "./drill.ts";

export const backendChanged: Drill = {
  name: "backend-changed",
  story: "A backend leaves the site file, the addresses move, and it comes back: its connections live on.",
  skip: (lab) => {
    if (lab.subject.name !== "nines") return `${lab.subject.name} has no reload of its backends here`;
    if (!lab.ownsSiteFile) return "the site file is a program: the lab cannot rewrite it";
    return lab.plan.targets.some(({ protocol, backends }) => protocol === "tcp" && backends.length > 1)
      ? undefined
      : "no TCP service has several backends";
  },
  fault: ({ active, backup }, lab) => {
    const service = lab.plan.targets.find(
      ({ protocol, backends }) => protocol === "tcp" && backends.length > 1,
    );
    const pool = lab.site.services[service?.service ?? ""]?.forward?.pool ?? "";
    return backendsChange(active, backup, pool, service?.backends.at(-1) ?? "");
  },
  hold: ({ activeDown }) => activeDown + 700,
  budget: () => ({ lost: 0, kept: 1, takeovers: 1 }),
};
