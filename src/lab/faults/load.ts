import type { ChildProcess } from "node:child_process";
import { availableParallelism } from "node:os";
import { start } from "../shell.ts";
import type { Fault } from "./fault.ts";

/** Every processor of the machine busy with stress-ng; all nodes of a lab share them. */
export function cpuStarvation(): Fault {
  let child: ChildProcess | undefined;
  return {
    what: `stress-ng on all ${availableParallelism()} processors`,
    inject: async () => {
      child = start(["stress-ng", "--cpu", String(availableParallelism()), "--quiet"], { stdio: "ignore" });
    },
    heal: async () => {
      const ended = new Promise((resolve) => child?.once("close", resolve));
      child?.kill("SIGTERM");
      if (child?.exitCode === null) await ended;
    },
  };
}
