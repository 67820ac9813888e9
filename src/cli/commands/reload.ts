import type { Command } from "commander";
import type { ReloadOutcome } from "../../contracts/api.ts";
import { withRuntime } from "../client.ts";
import { CommandExit } from "../exit-codes.ts";

export function registerReload(program: Command): void {
  withRuntime(program.command("reload"))
    .description("read the site file anew; only what is different is touched, and mistakes change nothing")
    .option("--json", "the outcome as JSON")
    .action(async (options: { json?: boolean; runtime?: string }, command: Command) => {
      const { ask, findNode } = await import("../client.ts");
      const outcome = await ask<ReloadOutcome>(await findNode(command), "POST", "/v1/reload", {});
      if (options.json === true) console.log(JSON.stringify(outcome));
      if (!outcome.ok) throw new CommandExit("config", `${outcome.errors.join("\n")}\nnothing was changed`);
      if (options.json !== true) {
        if (outcome.changes.length === 0)
          console.log("the site file says what it said before; nothing to do");
        for (const change of outcome.changes) console.log(change);
      }
      if (outcome.refused !== undefined) {
        const what =
          "the site was accepted, but these go on with what they ran before: mend it and reload again";
        throw new CommandExit("failed", `${outcome.refused.join("\n")}\n${what}`);
      }
    });
}
