import type { Fault } from "./fault.ts";

/** Cables and processes go in the same instant: no goodbye packet. Healed by a boot. */
export const powerCut = (node: string): Fault => ({
  what: `power cut of ${node}`,
  inject: (lab) => lab.cutPower(node),
  heal: (lab) => lab.reboot(node),
});
