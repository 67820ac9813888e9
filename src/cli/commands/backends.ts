import type { Command } from "commander";
import type { AdminState, BackendStatus } from "../../contracts/forwarding.ts";
import { withRuntime } from "../client.ts";
import { CommandExit } from "../exit-codes.ts";

interface Options {
  readonly persist?: boolean;
  readonly force?: boolean;
  readonly within?: string;
  readonly json?: boolean;
  readonly runtime?: string;
}

const verbs: readonly { name: string; state: AdminState; about: string }[] = [
  {
    name: "drain",
    state: "drain",
    about:
      "send a backend no new connections, those that exist go on; or take this node out: its addresses are handed over first",
  },
  {
    name: "maintenance",
    state: "maintenance",
    about:
      "take a backend out of service at once, its connections too; or this node, without waiting for connections",
  },
  {
    name: "enable",
    state: "enabled",
    about: "bring a backend or this node back that was drained or is in maintenance",
  },
];

export function registerBackends(program: Command): void {
  for (const { name, state, about } of verbs) {
    const command = withRuntime(program.command(name))
      .description(about)
      .argument("<what>", "POOL/BACKEND as in the site file, e.g. apps/app1, or the name of a node")
      .option("--persist", "keep it over a restart of the node (what is asked of a node itself always is)")
      .option("--json", "the status of the backend or the node as JSON");
    if (state !== "enabled")
      command
        .option("--force", "a node: also where no other node can take over")
        .option("--within <duration>", "a node: wait this long for connections to end", "30s");
    command.action(async (target: string, options: Options, chosen: Command) => {
      if (target.includes("/")) await setBackend(target, state, options, chosen);
      else {
        const { setNode } = await import("../node-admin.ts");
        await setNode(target, state, options, chosen);
      }
    });
  }
}

async function setBackend(
  target: string,
  state: AdminState,
  options: Options,
  command: Command,
): Promise<void> {
  const [pool, backend, ...more] = target.split("/");
  if (!pool || !backend || more.length > 0)
    throw new CommandExit("usage", `"${target}" is not POOL/BACKEND, such as apps/app1`);
  const { ask, findNode } = await import("../client.ts");
  const node = await findNode(command);
  const body = { pool, backend, state, persist: options.persist === true };
  const status = await ask<BackendStatus>(node, "POST", "/v1/backends", body);
  if (options.json === true) {
    console.log(JSON.stringify(status));
    return;
  }
  const kept = options.persist === true ? ", also after a restart" : ", until the node restarts";
  console.log(`${target}: ${status.admin}${kept}; weight ${status.effectiveWeight}, health ${status.health}`);
}
