import { type ChildProcess, spawn } from "node:child_process";
import { type Clock, addTime, ms } from "../../base/time.ts";
import type { Check } from "../../contracts/site.ts";
import type { CheckVerdict } from "../machine.ts";
import { type Target, attempt, describeError, firstLine } from "./probe.ts";

type ExecCheck = Extract<Check, { kind: "exec" }>;

/** How much of what the program says is kept for the reason. */
const OUTPUT_LIMIT = 512;
/** What a program left running may still hold its output open; its own verdict does not wait for that. */
const OUTPUT_GRACE = ms(50);

/** The program sees whom it checks and a plain environment, and nothing of ours: that may hold secrets. */
const environment = ({ pool, backend, address, port }: Target): NodeJS.ProcessEnv => ({
  PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin",
  LANG: "C.UTF-8",
  NINES_POOL: pool,
  NINES_BACKEND: backend,
  NINES_ADDRESS: address,
  NINES_PORT: String(port),
});

/** The program and all it has started: it leads a process group of its own. */
function killGroup(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // It ended in this moment.
  }
}

/** Good when the program exits with 0 before the deadline. No shell; what it prints first is the reason. */
export function probeExec(
  target: Target,
  check: ExecCheck,
  clock: Clock,
  signal: AbortSignal,
): Promise<CheckVerdict> {
  return attempt(clock, check.timeout, signal, ({ settle, awaiting, took }) => {
    awaiting("exit of the program");
    const [program = "", ...args] = check.exec;
    const child = spawn(program, args, {
      detached: true,
      env: environment(target),
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    const hear = (piece: Buffer): void => {
      if (output.length < OUTPUT_LIMIT) output += piece.toString("utf8").slice(0, OUTPUT_LIMIT);
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    const done = (): void => {
      const line = firstLine(output);
      const how = child.signalCode === null ? `exit ${child.exitCode}` : `killed by ${child.signalCode}`;
      settle(child.exitCode === 0 ? "good" : "bad", `${how}${took()}${line === "" ? "" : `: ${line}`}`);
    };
    child.once("close", done);
    child.once("exit", () => clock.setTimer(addTime(clock.monotonic(), OUTPUT_GRACE), done));
    child.on("error", (error) => {
      const { outcome, reason } = describeError(error);
      settle(outcome, reason);
    });
    return () => {
      killGroup(child);
      child.stdout.destroy();
      child.stderr.destroy();
    };
  });
}
