import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { Command } from "commander";
import type { Target } from "../api/client.ts";
import { messageOf } from "../base/errors.ts";
import { SystemClock } from "../base/system-clock.ts";
import { addTime, ms } from "../base/time.ts";
import { parseDuration } from "../base/units.ts";
import { loadSite } from "../config/load.ts";
import { readSecret } from "../config/secrets.ts";
import type { NodeAdminStatus, NodeStatus } from "../contracts/api.ts";
import type { AdminState } from "../contracts/forwarding.ts";
import { ask, findNode } from "./client.ts";
import { CommandExit } from "./exit-codes.ts";

interface Options {
  readonly force?: boolean;
  readonly within?: string;
  readonly json?: boolean;
}

/** Beside what the connections are given: the announcement (20 s at most) and one hand-over after the other. */
const BESIDE = ms(60_000);
const LOOK_EVERY = ms(200);

/** Takes a node out or brings it back, and waits until that has happened. */
export async function setNode(
  node: string,
  state: AdminState,
  options: Options,
  command: Command,
): Promise<void> {
  const within = parseDuration(options.within ?? "0s");
  if (!within.ok) throw new CommandExit("usage", `--within: ${within.error}`);
  const near = await findNode(command);
  const target = await targetOf(node, near);
  const body = { node, state, force: options.force === true, within: within.value };
  let status = await ask<NodeAdminStatus>(target, "POST", "/v1/node", body);
  const clock = new SystemClock();
  const until = addTime(clock.monotonic(), ms(within.value + BESIDE));
  while (status.phase !== "done") {
    if (clock.monotonic() > until)
      throw new CommandExit("timeout", `${node} is still ${status.phase}; nines status tells how it goes on`);
    await new Promise<void>((next) => clock.setTimer(addTime(clock.monotonic(), LOOK_EVERY), next));
    ({ admin: status } = await ask<NodeStatus>(target, "GET", "/v1/status"));
    if (status.state !== state)
      throw new CommandExit(
        "negative",
        `${node} is ${status.state} now: somebody else asked for that meanwhile`,
      );
  }
  if (options.json === true) console.log(JSON.stringify(status));
  else console.log(sentence(node, status));
  // Asked for with --force, it is what was wanted; otherwise something has changed after it was looked at.
  if (status.left.length > 0 && options.force !== true) throw new CommandExit("negative");
}

function sentence(node: string, { state, left }: NodeAdminStatus): string {
  if (state === "enabled")
    return `${node}: enabled; its priorities are those of the site file again, and what others serve stays there unless preempt is on`;
  const what = state === "drain" ? "drained" : "in maintenance";
  return [`${node}: ${what}, also after a restart; nines enable ${node} brings it back`, ...left].join(
    "\n  ",
  );
}

/** The node itself; another one through its own control API, where the site has one that this host may use. */
async function targetOf(node: string, near: Target): Promise<Target> {
  if (typeof near !== "string") return near;
  const status = await ask<NodeStatus>(near, "GET", "/v1/status");
  if (status.node === node) return near;
  const file = resolve(status.siteFile);
  try {
    const { site } = await loadSite(file);
    const other = site.nodes[node];
    const { control } = site;
    // The node near by says what is wrong.
    if (other === undefined || control === undefined) return near;
    const beside = (path: string): string => resolve(dirname(file), path);
    const token = "file" in control.token ? { file: beside(control.token.file) } : control.token;
    return {
      host: other.address,
      port: control.port,
      name: node,
      ca: await readFile(beside(`${control.keys}/ca.crt`), "utf8"),
      token: await readSecret(token),
    };
  } catch (error) {
    throw new CommandExit(
      "failed",
      `${node} is another node than this one, and its control API cannot be used from here: ${messageOf(error)}; run the command on ${node}`,
    );
  }
}
