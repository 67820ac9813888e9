import { CommanderError } from "commander";
import { ConfigError, OperationalError } from "../base/errors.ts";
import { CommandExit, EXIT_CODES, type ExitName } from "./exit-codes.ts";

export interface Failure {
  readonly exit: ExitName;
  /** For standard error; empty where everything has been said. */
  readonly message: string;
}

/** What a person is told about whatever a command threw, and the status of the process. */
export function describeFailure(thrown: unknown): Failure {
  if (thrown instanceof CommandExit) return { exit: thrown.exit, message: thrown.message };
  // commander has printed its own message, or the help that was asked for.
  if (thrown instanceof CommanderError) return { exit: thrown.exitCode === 0 ? "ok" : "usage", message: "" };
  if (thrown instanceof ConfigError) {
    const count = thrown.issues.length;
    return {
      exit: "config",
      message: `${thrown.message}\n${count} ${count === 1 ? "mistake" : "mistakes"}; nothing was started or changed`,
    };
  }
  if (thrown instanceof OperationalError) {
    const exit = thrown.code === "TIMEOUT" ? "timeout" : "failed";
    const retry = thrown.retryable ? "; trying again may help" : "";
    return { exit, message: `${thrown.message} [${thrown.code}]${retry}` };
  }
  const stack = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
  return { exit: "bug", message: `this is a bug in nines:\n${stack}` };
}

export const exitStatus = (exit: ExitName): number => EXIT_CODES[exit].code;
