import { Command } from "commander";
import { registerCheck } from "./commands/check.ts";
import { registerDoctor } from "./commands/doctor.ts";
import { registerDrill } from "./commands/drill.ts";
import { registerLab } from "./commands/lab.ts";
import { registerBackends } from "./commands/backends.ts";
import { registerCompletion } from "./commands/completion.ts";
import { registerExplain } from "./commands/explain.ts";
import { registerKeys } from "./commands/keys.ts";
import { registerNines } from "./commands/nines.ts";
import { registerPlan } from "./commands/plan.ts";
import { registerProxy } from "./commands/proxy.ts";
import { registerSlo } from "./commands/slo.ts";
import { registerReload } from "./commands/reload.ts";
import { registerSchema } from "./commands/schema.ts";
import { registerStatus } from "./commands/status.ts";
import { registerSwitchover } from "./commands/switchover.ts";
import { registerUpgrade } from "./commands/upgrade.ts";
import { registerRun } from "./commands/run.ts";
import { registerVersion } from "./commands/version.ts";
import { version } from "./version.ts";

/**
 * The whole command line. A command is a file in commands/ that exports `registerNAME(program)`; what is
 * heavy it imports inside its action, so that `nines --help` and shell completion stay quick.
 */
const commands: readonly ((program: Command) => void)[] = [
  registerProxy,
  registerRun,
  registerStatus,
  registerSwitchover,
  registerReload,
  registerUpgrade,
  registerBackends,
  registerExplain,
  registerDoctor,
  registerCheck,
  registerSchema,
  registerKeys,
  registerLab,
  registerDrill,
  registerPlan,
  registerNines,
  registerSlo,
  registerCompletion,
  registerVersion,
];

export function buildProgram(): Command {
  const program = new Command("nines")
    .description(
      "High availability for services on your own machines and clouds: one program, one site file.",
    )
    .version(version(), "-V, --version", "print the version")
    .option("--control <host:port>", "ask a node on another host (NINES_CONTROL); port 7410 by default")
    .option(
      "--control-name <name>",
      "whose certificate it is: a node (NINES_CONTROL_NAME); default: the host",
    )
    .option("--control-ca <file>", "ca.crt of the site (NINES_CONTROL_CA)")
    .option(
      "--control-token-file <file>",
      "the token (NINES_CONTROL_TOKEN_FILE, or itself in NINES_CONTROL_TOKEN)",
    )
    .helpCommand("help [command]", "explain a command")
    .showHelpAfterError("(nines --help lists the commands)")
    .showSuggestionAfterError()
    .exitOverride();
  for (const register of commands) register(program);
  // Settings are not inherited by commands that `program.command()` has made before them.
  for (const command of program.commands) command.exitOverride().showSuggestionAfterError();
  return program;
}
