/**
 * One node's redundancy, without a daemon around it, for system tests: plans and commands as JSON lines on
 * standard input, status, events and the log on standard output. It ends with its input.
 */
import { createInterface } from "node:readline";
import type { Log, LogFields } from "../../base/log.ts";
import { SystemClock } from "../../base/system-clock.ts";
import { decodeFromNode } from "../decode.ts";
import { RedundancyService } from "../service.ts";

const clock = new SystemClock();
const say = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
const level =
  (name: string) =>
  (fields: LogFields): void =>
    say({ type: "log", level: name, at: clock.wall(), ...fields });
const log: Log = { debug: level("debug"), info: level("info"), warn: level("warn"), error: level("error") };
const secret = process.env["NINES_TEST_SECRET"];

const service = await RedundancyService.open({
  clock,
  log,
  toBrain: say,
  secret: secret === undefined ? undefined : Buffer.from(secret),
});
say({ type: "ready", pid: process.pid });
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const message = decodeFromNode(JSON.parse(line));
  if (!message.ok) throw new Error(message.error);
  if (message.value.type === "flows" || message.value.type === "flushed")
    service.receiveFlows(message.value, (request) => {
      say(request);
      return true;
    });
  else if (message.value.type === "stop")
    void service.stop(message.value.keep === true ? "leave" : "release").then(() => process.exit(0));
  else service.receive(message.value);
});
lines.on("close", () => process.exit(0));
