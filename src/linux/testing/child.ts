/**
 * What the host's tests do in a process of its own, since it ends only with the process:
 * `node --expose-gc --import tsx child.ts TASK` prints JSON.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { OperationalError } from "../../base/errors.ts";
import { SystemClock } from "../../base/system-clock.ts";
import { dropCapabilities, missingCapabilities } from "../capabilities.ts";
import { AF, NETLINK, SOCK } from "../constants.ts";
import { NetlinkSocket } from "../netlink.ts";
import { lockProgram, realtimePriority } from "../realtime.ts";
import { Socket } from "../socket.ts";
import { serviceManager } from "../systemd.ts";

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const threads = (): string[] => readdirSync("/proc/self/task").map((thread) => `/proc/self/task/${thread}`);
const status = (text: string, field: string): string =>
  new RegExp(`${field}:\\s*(\\w+)`).exec(text)?.[1] ?? "";

async function openAndClose(count: number): Promise<number> {
  for (let i = 0; i < count; i++) {
    const socket = Socket.open(AF.UNIX, SOCK.DGRAM, 0);
    socket.onReadable(() => undefined);
    socket.onWritable(() => undefined);
    if (i % 3 === 0) socket.onReadable(undefined);
    socket.close();
    if (i % 100 === 0) await turn();
  }
  for (let i = 0; i < 5; i++) {
    (globalThis as { gc?: () => void }).gc?.();
    await turn();
  }
  return process.memoryUsage.rss();
}

const tasks = {
  /** Policy of every thread: 2 is SCHED_RR. */
  scheduling: () => ({
    policies: threads().map((path) => readFileSync(`${path}/stat`, "utf8").split(" ")[40]),
    priority: realtimePriority(),
    locked: lockProgram() === undefined && !/VmLck:\s+0 kB/.test(readFileSync("/proc/self/status", "utf8")),
  }),
  dropping: () => {
    dropCapabilities(["CAP_NET_RAW", "CAP_NET_BIND_SERVICE"]);
    const each = threads().map((path) => status(readFileSync(`${path}/status`, "utf8"), "CapEff"));
    return {
      threads: [...new Set(each)],
      several: each.length > 4,
      child: status(execFileSync("cat", ["/proc/self/status"], { encoding: "utf8" }), "CapEff"),
      missing: missingCapabilities(["CAP_NET_ADMIN", "CAP_NET_RAW"]),
    };
  },
  powerless: () => {
    dropCapabilities([]);
    try {
      Socket.open(AF.PACKET, SOCK.DGRAM, 0, "packet socket").close();
      return "opened";
    } catch (error) {
      return error instanceof OperationalError ? `${error.code}: ${error.message}` : "another error";
    }
  },
  notifying: () => {
    const manager = serviceManager(process.env, process.pid);
    return { sent: manager.notify("READY=1\nSTATUS=zwölf"), watchdog: manager.watchdog };
  },
  leaking: async () => {
    const descriptors = (): number => readdirSync("/proc/self/fd").length;
    await openAndClose(20_000);
    const open = descriptors();
    const before = await openAndClose(20_000);
    const after = await openAndClose(60_000);
    return { grownMiB: (after - before) / 2 ** 20, descriptors: descriptors() - open };
  },
  workers: async () => {
    const addon = new URL("../../../native/build/nines.node", import.meta.url).pathname;
    const code = `
      const n = process.getBuiltinModule("node:module").createRequire("/")(${JSON.stringify(addon)});
      for (let i = 0; i < 50; i++) n.watchStart(n.watchOpen(n.socket(1, 2 | 0x80800, 0)), 3, () => {});
      setTimeout(() => process.exit(), 50);
    `;
    const codes: unknown[] = [];
    for (let i = 0; i < 5; i++) {
      const worker = new Worker(code, { eval: true });
      codes.push(await new Promise((resolve, reject) => worker.on("exit", resolve).on("error", reject)));
    }
    return codes;
  },
  /** Ends by itself although its sockets are open. */
  idle: async () => {
    const clock = new SystemClock();
    const socket = NetlinkSocket.open({ protocol: NETLINK.ROUTE, clock, groups: [1] });
    return (await socket.dump("links", { type: 18, body: new Uint8Array(16) })).length > 0;
  },
};

export type ChildTask = keyof typeof tasks;

console.log(JSON.stringify(await tasks[process.argv[2] as ChildTask]()));
