#!/usr/bin/env node
import { describeFailure, exitStatus } from "./failures.ts";
import { buildProgram } from "./program.ts";

// `nines status | head -1` closes our output: that is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

try {
  await buildProgram().parseAsync();
} catch (thrown) {
  const { exit, message } = describeFailure(thrown);
  if (message !== "") console.error(`nines: ${message}`);
  process.exitCode = exitStatus(exit);
}
