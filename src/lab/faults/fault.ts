import type { Lab } from "../lab.ts";

/** What goes wrong, and how it is put right. Both may be awaited; `heal` also after a failed `inject`. */
export interface Fault {
  /** In a few words, for the timeline: `power cut of lb1`. */
  readonly what: string;
  inject(lab: Lab): Promise<void>;
  heal(lab: Lab): Promise<void>;
}

/** The nodes as they stand when the fault strikes. */
export interface Cast {
  readonly active: string;
  /** The node that should take over: the highest priority of the rest. */
  readonly backup: string;
}

/** Several faults at once, healed in the opposite order. */
export const both = (...faults: readonly Fault[]): Fault => ({
  what: faults.map(({ what }) => what).join(", "),
  inject: async (lab) => {
    for (const fault of faults) await fault.inject(lab);
  },
  heal: async (lab) => {
    for (const fault of [...faults].reverse()) await fault.heal(lab);
  },
});
