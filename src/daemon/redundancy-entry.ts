import { readFileSync } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { OperationalError, messageOf } from "../base/errors.ts";
import type { FlowsToRedundancy, FlushRequest } from "../contracts/flows.ts";
import type { BrainToRedundancy, RedundancyPlan, RedundancyToBrain } from "../contracts/redundancy.ts";
import { ConnectionPin } from "../linux/nftables/pin.ts";
import { lockProgram } from "../linux/realtime.ts";
import { decodeFromNode, decodePlan } from "../redundancy/decode.ts";
import { RedundancyService, type StopMode } from "../redundancy/service.ts";
import { type ChildContext, runChild } from "./child.ts";
import { type JsonLink, serveLinks } from "./link.ts";

/** Kept beside the runtime files: with it the addresses are served without a brain, after a reboot as well. */
const PLAN_FILE = "redundancy-plan.json";
/** Names the file with the secret that the nodes of a site share for their messages. */
const SECRET_VARIABLE = "NINES_SECRET_FILE";

function readSecret(): Uint8Array | undefined {
  const file = process.env[SECRET_VARIABLE];
  if (file === undefined || file === "") return undefined;
  try {
    const secret = readFileSync(file);
    if (secret.length >= 16) return secret;
  } catch (error) {
    throw new OperationalError("FILE_UNREADABLE", `${SECRET_VARIABLE}: ${messageOf(error)}`, {
      cause: error,
    });
  }
  throw new OperationalError("FILE_UNREADABLE", `${SECRET_VARIABLE}: ${file} has fewer than 16 bytes`);
}

runChild(async (context) => {
  const { clock, log, runtime, state, node } = context;
  const unlocked = lockProgram();
  if (unlocked) log.info({ event: "redundancy.program_not_locked", reason: unlocked.message });
  const links = new Set<JsonLink<RedundancyToBrain, BrainToRedundancy | FlowsToRedundancy>>();
  const service = await RedundancyService.open({
    clock,
    log,
    secret: readSecret(),
    toBrain: (message) => {
      for (const link of links) link.send(message);
    },
  });
  const file = join(state, PLAN_FILE);
  let keeping: Promise<void> = Promise.resolve();
  const keep = (plan: RedundancyPlan): void => {
    keeping = keeping
      .then(async () => {
        await mkdir(state, { recursive: true });
        await writeFile(`${file}.new`, JSON.stringify(plan), { mode: 0o600 });
        await rename(`${file}.new`, file);
      })
      .catch((error: unknown) =>
        log.warn({ event: "redundancy.plan_not_kept", reason: messageOf(error), file }),
      );
  };
  const last = await readFile(file, "utf8").then(
    (text) => {
      const decoded = decodePlan(parseJson(text));
      if (decoded.ok && decoded.value.node === node) return decoded.value;
      const reason = decoded.ok ? `it is ${decoded.value.node}'s, not ${node}'s` : decoded.error;
      log.warn({ event: "redundancy.plan_unusable", reason, file });
      return undefined;
    },
    () => undefined,
  );
  if (last) service.plan(last);

  const stop = async (mode: StopMode): Promise<void> => {
    await service.stop(mode);
    for (const link of links) link.end();
    await keeping;
  };
  const server = await serveLinks<RedundancyToBrain, BrainToRedundancy | FlowsToRedundancy>(
    join(runtime, "redundancy.sock"),
    (link) => {
      links.add(link);
      const ask = (request: FlushRequest): boolean => link.send(request);
      link.send({ type: "ready", pid: process.pid, digest: service.digest });
      link.send(service.status());
      for (const event of service.standing) link.send(event);
      return {
        decode: decodeFromNode,
        message: (message) => {
          if (message.type === "flows" || message.type === "flushed") {
            service.receiveFlows(message, ask);
            return;
          }
          if (message.type === "plan") keep(message.plan);
          if (message.type === "stop")
            void stop(message.keep === true ? "leave" : "release").then(() => process.exit(0));
          else service.receive(message);
        },
        closed: (reason) => {
          links.delete(link);
          service.flowsLost(ask);
          log.info({ event: "redundancy.brain_link_closed", reason });
        },
      };
    },
  );
  const pin = pinConnections(context);
  context.onStop(async (mode) => {
    server.close();
    pin?.close();
    await stop(mode);
  });
  await service.idle;
  context.ready();
});

/** While no brain owns the forwarder's tables, a flush of the ruleset shall not end the connections. */
function pinConnections({ clock, log }: Pick<ChildContext, "clock" | "log">): ConnectionPin | undefined {
  const problem = (reason: string): void => log.warn({ event: "redundancy.connections_not_pinned", reason });
  try {
    return ConnectionPin.open(clock, "nines", problem);
  } catch (error) {
    problem(messageOf(error));
    return undefined;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
