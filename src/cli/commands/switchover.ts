import type { Command } from "commander";
import type { SwitchoverOutcome } from "../../contracts/api.ts";
import { withRuntime } from "../client.ts";

export function registerSwitchover(program: Command): void {
  withRuntime(program.command("switchover"))
    .description("move a virtual router to another node, make-before-break, and wait until it has moved")
    .argument("[router]", "the virtual router (default: the only one of this node)")
    .option("--to <node>", "the node that shall serve it (default: the one with the highest priority)")
    .option("--json", "the outcome as JSON")
    .action(
      async (
        router: string | undefined,
        options: { to?: string; json?: boolean; runtime?: string },
        command: Command,
      ) => {
        const { ask, findNode } = await import("../client.ts");
        const node = await findNode(command);
        const outcome = await ask<SwitchoverOutcome>(node, "POST", "/v1/switchover", {
          router,
          to: options.to,
        });
        console.log(options.json === true ? JSON.stringify(outcome) : outcome.message);
      },
    );
}
