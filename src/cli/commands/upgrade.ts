import type { Command } from "commander";
import { withRuntime } from "../client.ts";

export function registerUpgrade(program: Command): void {
  withRuntime(program.command("upgrade"))
    .description(
      "replace the node's processes one by one by the program that is on disk now; addresses and connections stay",
    )
    .action(async (_: { runtime?: string }, command: Command) => {
      const { ask, findNode } = await import("../client.ts");
      await ask(await findNode(command), "POST", "/v1/upgrade", {});
      console.log("asked for: the processes are replaced one by one, which the log tells");
    });
}
