/** A node's flows service in a process of its own, told what to do over IPC. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Log } from "../../../base/log.ts";
import { SystemClock } from "../../../base/system-clock.ts";
import { ms } from "../../../base/time.ts";
import { preferThread } from "../../../linux/realtime.ts";
import type { FlowsOptions } from "../peer.ts";
import type { ReplicatedService } from "../machine-services.ts";

export type NodeCommand =
  | { readonly do: "configure"; readonly services: readonly ReplicatedService[] }
  | { readonly do: "active"; readonly routers: readonly string[] }
  | { readonly do: "flush"; readonly to?: string }
  | { readonly do: "status" | "resync" | "close" };

export interface NodeSetup extends Pick<FlowsOptions, "site" | "node" | "listen" | "peers"> {
  readonly keys: string;
  readonly delay: number;
  /** From dist/, as users run it: what the loader makes of the sources is slower. */
  readonly compiled?: boolean;
}

const setup = JSON.parse(process.argv[2] ?? "{}") as NodeSetup;
const from = setup.compiled === true ? "../../../../dist/forwarding/flows/service.js" : "../service.ts";
const { FlowsService, NICE } = (await import(
  new URL(from, import.meta.url).href
)) as typeof import("../service.ts");
preferThread(NICE);
const lines: unknown[] = [];
const note = (fields: unknown): void => void lines.push(fields);
const log: Log = { debug: note, info: note, warn: note, error: note };
const service = FlowsService.open({
  ...setup,
  clock: new SystemClock(),
  log,
  instance: randomBytes(8).toString("hex"),
  delay: ms(setup.delay),
  tls: {
    key: readFileSync(`${setup.keys}/${setup.node}.key`, "utf8"),
    certificate: readFileSync(`${setup.keys}/${setup.node}.crt`, "utf8"),
    authority: readFileSync(`${setup.keys}/ca.crt`, "utf8"),
  },
});

async function carryOut(command: NodeCommand): Promise<unknown> {
  switch (command.do) {
    case "configure":
      return service.configure(command.services);
    case "active":
      return service.setActive(new Set(command.routers));
    case "flush":
      return await service.flush(ms(30_000), command.to);
    case "resync":
      return service.resync();
    case "status":
      return { ...service.status, log: lines };
    case "close":
      await service.close();
      process.disconnect();
      return undefined;
  }
}
process.on("message", (command: NodeCommand) => {
  void carryOut(command).then((answer) => process.connected && process.send?.({ answer }));
});
