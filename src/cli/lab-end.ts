import { describeFailure, exitStatus } from "./failures.ts";

/**
 * Process 1 of a lab has children and timers that would keep it alive for ever: a failure is told and ends
 * it at once, and everything in the lab with it.
 */
export function endOfLab(thrown: unknown): never {
  const { exit, message } = describeFailure(thrown);
  if (message !== "") console.error(`nines: ${message}`);
  process.exit(exitStatus(exit));
}
