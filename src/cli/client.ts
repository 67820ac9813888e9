import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { NodeUnreachable, askNode } from "../api/client.ts";
import { CommandExit } from "./exit-codes.ts";

const RUNTIME_ROOT = "/run/nines";

/** The option with which every command that talks to a running node finds it. */
export const withRuntime = (command: Command): Command =>
  command.option("--runtime <dir>", `sockets of the running node (default: the only one in ${RUNTIME_ROOT})`);

/** The runtime directory of the node that is meant. Where one node runs on this host, none need be named. */
export async function findRuntime(asked: string | undefined, root = RUNTIME_ROOT): Promise<string> {
  const named = asked ?? process.env["NINES_RUNTIME"];
  if (named !== undefined) return named;
  const entries = await readdir(root, { withFileTypes: true }).catch(() => []);
  const nodes = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  const [only] = nodes;
  if (only === undefined)
    throw new CommandExit(
      "unreachable",
      `no node runs on this host: ${root} has none (start one with nines run, or name its --runtime)`,
    );
  if (nodes.length > 1)
    throw new CommandExit(
      "usage",
      `${nodes.length} nodes run on this host; choose one: ${nodes.map((name) => `--runtime ${join(root, name)}`).join(", ")}`,
    );
  return join(root, only);
}

/** Asks the node's control API; its errors become the command's, with the exit status that fits. */
export async function ask<T>(
  runtime: string,
  method: "GET" | "POST",
  path: string,
  body?: unknown,
): Promise<T> {
  try {
    return await askNode<T>(join(runtime, "control.sock"), method, path, body);
  } catch (thrown) {
    if (thrown instanceof NodeUnreachable) throw new CommandExit("unreachable", thrown.message);
    throw thrown;
  }
}
