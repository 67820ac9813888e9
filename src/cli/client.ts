import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import { NodeUnreachable, type Target, type TcpTarget, askNode } from "../api/client.ts";
import { messageOf } from "../base/errors.ts";
import { type ControlOptions, type ControlTarget, parseControl } from "./control-options.ts";
import { CommandExit } from "./exit-codes.ts";

const RUNTIME_ROOT = "/run/nines";

/** The option with which every command that talks to a running node finds it. */
export const withRuntime = (command: Command): Command =>
  command.option("--runtime <dir>", `sockets of the running node (default: the only one in ${RUNTIME_ROOT})`);

/** The node that is meant: with --control over TCP, else in its runtime directory on this host. */
export async function findNode(command: Command): Promise<Target> {
  const { runtime, ...control } = command.optsWithGlobals<{ runtime?: string } & ControlOptions>();
  if (runtime !== undefined && control.control !== undefined)
    throw new CommandExit("usage", "--runtime and --control name two nodes: give one");
  // What is on the command line is meant, whatever the environment says.
  const tcp = runtime === undefined ? parseControl(control, process.env) : undefined;
  if (tcp === undefined) return join(await findRuntime(runtime), "control.sock");
  return await readTarget(tcp);
}

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

async function readTarget({ host, port, name, caFile, tokenFile, token }: ControlTarget): Promise<TcpTarget> {
  const read = async (file: string): Promise<string> => {
    try {
      return await readFile(file, "utf8");
    } catch (error) {
      throw new CommandExit("usage", `${file} cannot be read: ${messageOf(error)}`);
    }
  };
  return {
    host,
    port,
    name,
    ...(caFile === undefined ? {} : { ca: await read(caFile) }),
    token: token ?? (await read(tokenFile)).trim(),
  };
}

/** Asks the node's control API; its errors become the command's, with the exit status that fits. */
export async function ask<T>(node: Target, method: "GET" | "POST", path: string, body?: unknown): Promise<T> {
  try {
    return await askNode<T>(node, method, path, body);
  } catch (thrown) {
    if (thrown instanceof NodeUnreachable) throw new CommandExit("unreachable", thrown.message);
    throw thrown;
  }
}
