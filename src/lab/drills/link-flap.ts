import { linkFlap as flap } from "../faults/cables.ts";
import type { Drill } from "./drill.ts";

export const linkFlap: Drill = {
  name: "link-flap",
  story: "A loose contact: the Active's link to the clients goes down and up four times in half a second.",
  fault: ({ active }, lab) =>
    flap(active, lab.plan.hosts.find(({ kind }) => kind === "client")?.interfaces[0]?.network ?? ""),
  hold: ({ activeDown }) => activeDown + 1200,
  // The flapping itself lasts 480 ms; a takeover may fall to its end.
  budget: ({ activeDown }) => ({ gap: activeDown + 580 }),
};
