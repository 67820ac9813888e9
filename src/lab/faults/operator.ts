import type { Fault } from "./fault.ts";

/** No fault at all: the operator moves the virtual addresses. */
export const switchover = (from: string, to: string): Fault => ({
  what: `switchover from ${from} to ${to}`,
  inject: (lab) => lab.subject.switchover(from, to),
  heal: (lab) => lab.subject.afterSwitchover(from),
});
