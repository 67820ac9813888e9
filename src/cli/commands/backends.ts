import type { Command } from "commander";
import type { AdminState, BackendStatus } from "../../contracts/forwarding.ts";
import { withRuntime } from "../client.ts";
import { CommandExit } from "../exit-codes.ts";

const verbs: readonly { name: string; state: AdminState; about: string }[] = [
  { name: "drain", state: "drain", about: "send a backend no new connections; those that exist go on" },
  {
    name: "maintenance",
    state: "maintenance",
    about: "take a backend out of service at once, its connections too",
  },
  { name: "enable", state: "enabled", about: "bring a drained backend, or one in maintenance, back" },
];

export function registerBackends(program: Command): void {
  for (const { name, state, about } of verbs) {
    withRuntime(program.command(name))
      .description(about)
      .argument("<pool/backend>", "as in the site file, e.g. apps/app1")
      .option("--persist", "keep it over a restart of the node")
      .option("--json", "the backend's status as JSON")
      .action(
        async (
          target: string,
          options: { persist?: boolean; json?: boolean; runtime?: string },
          command: Command,
        ) => {
          const [pool, backend, ...more] = target.split("/");
          if (!pool || !backend || more.length > 0)
            throw new CommandExit("usage", `"${target}" is not POOL/BACKEND, such as apps/app1`);
          const { ask, findNode } = await import("../client.ts");
          const node = await findNode(command);
          const body = { pool, backend, state, persist: options.persist === true };
          const status = await ask<BackendStatus>(node, "POST", "/v1/backends", body);
          if (options.json === true) console.log(JSON.stringify(status));
          else {
            const kept = options.persist === true ? ", also after a restart" : ", until the node restarts";
            console.log(
              `${target}: ${status.admin}${kept}; weight ${status.effectiveWeight}, health ${status.health}`,
            );
          }
        },
      );
  }
}
