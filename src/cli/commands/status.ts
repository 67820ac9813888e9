import type { Command } from "commander";
import { OperationalError } from "../../base/errors.ts";
import { ms } from "../../base/time.ts";
import type { NodeStatus } from "../../contracts/api.ts";
import { withRuntime } from "../client.ts";
import { CommandExit } from "../exit-codes.ts";

interface Options {
  runtime?: string;
  json?: boolean;
  watch?: boolean;
}

export function registerStatus(program: Command): void {
  withRuntime(program.command("status"))
    .description("what this node does: routers, services, backends, processes, alarms")
    .option("--json", "everything, as JSON (GET /v1/status)")
    .option("--watch", "again every second until interrupted")
    .action(async (options: Options, command: Command) => {
      const { ask, findNode } = await import("../client.ts");
      const node = await findNode(command);
      const show = async (): Promise<string> => {
        const status = await ask<NodeStatus>(node, "GET", "/v1/status");
        if (options.json === true) return JSON.stringify(status, undefined, options.watch === true ? 0 : 2);
        const [{ statusText }, { painter }] = await Promise.all([
          import("../status-text.ts"),
          import("../paint.ts"),
        ]);
        return statusText(status, painter());
      };
      if (options.watch !== true) {
        console.log(await show());
        return;
      }
      await watch(show, options.json === true);
    });
}

/** A node that restarts is no reason to stop watching it. */
async function watch(show: () => Promise<string>, json: boolean): Promise<never> {
  const { SystemClock } = await import("../../base/system-clock.ts");
  const { addTime } = await import("../../base/time.ts");
  const clock = new SystemClock();
  const clear = process.stdout.isTTY && !json ? "\u001B[H\u001B[2J" : "";
  for (;;) {
    let text: string;
    try {
      text = await show();
    } catch (thrown) {
      if (!(thrown instanceof CommandExit || thrown instanceof OperationalError)) throw thrown;
      text = thrown.message;
    }
    console.log(`${clear}${text}`);
    await new Promise<void>((resolve) => clock.setTimer(addTime(clock.monotonic(), ms(1000)), resolve));
  }
}
