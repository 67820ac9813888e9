// What is measured, and how the load for it is made.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LOAD_CORE, family, memoryOf, sleep, speaksHttp2 } from "./process.ts";
import type { Subject } from "./subjects.ts";

/** What a load reports; milliseconds. */
export interface Load {
  readonly requests: number;
  readonly p50: number;
  readonly p99: number;
}

export interface LoadCase {
  readonly name: string;
  /** What one unit of work is, in the metrics' names. */
  readonly unit: "request" | "connection" | "message";
  /** False: this subject cannot do it, and is left out. */
  able?(subject: Subject): Promise<boolean>;
  load(subject: Subject, seconds: number, directory: string): Load;
}

export interface MemoryCase {
  readonly name: string;
  /** Bytes per further connection that is open and silent, beside a quarter as many. */
  memory(subject: Subject, pid: number, count: number): Promise<number>;
}

const toMs = (text: string): number => {
  const value = Number.parseFloat(text);
  return text.endsWith("us") ? value / 1000 : text.endsWith("ms") ? value : value * 1000;
};

const onLoadCore = (command: string, args: readonly string[]): string => {
  const ran = spawnSync("taskset", ["-c", String(LOAD_CORE), command, ...args], { encoding: "utf8" });
  return ran.stdout + ran.stderr;
};

interface Wrk {
  readonly path: string;
  readonly connections: number;
  readonly headers?: readonly string[];
  /** Bytes of a PUT's body. */
  readonly upload?: number;
}

function wrk(subject: Subject, seconds: number, directory: string, wanted: Wrk): Load {
  const headers = ["User-Agent: bench", "Accept: */*", ...(wanted.headers ?? [])];
  const script = join(directory, "upload.lua");
  if (wanted.upload !== undefined)
    writeFileSync(script, `wrk.method = "PUT"\nwrk.body = string.rep("x", ${wanted.upload})\n`);
  const out = onLoadCore("wrk", [
    "-t1",
    `-c${wanted.connections}`,
    `-d${seconds}s`,
    "--latency",
    ...(wanted.upload === undefined ? [] : ["-s", script]),
    ...headers.flatMap((header) => ["-H", header]),
    `http://127.0.0.1:${subject.port}${wanted.path}`,
  ]);
  const requests = Number(/(\d+) requests in/.exec(out)?.[1] ?? 0);
  if (/Non-2xx/.test(out) || requests === 0) throw new Error(`${subject.name}: ${out}`);
  return {
    requests,
    p50: toMs(/ 50%\s+(\S+)/.exec(out)?.[1] ?? "0"),
    p99: toMs(/ 99%\s+(\S+)/.exec(out)?.[1] ?? "0"),
  };
}

const byWrk = (name: string, wanted: Wrk): LoadCase => ({
  name,
  unit: "request",
  load: (subject, seconds, directory) => wrk(subject, seconds, directory, wanted),
});

const driver = new URL("driver.ts", import.meta.url).pathname;
export const driverArgs = (mode: string, port: number, amount: number): string[] => [
  ...process.execArgv,
  driver,
  mode,
  String(port),
  String(amount),
];

function drive(subject: Subject, mode: string, port: number, seconds: number): Load & { resumed?: number } {
  const out = onLoadCore(process.execPath, driverArgs(mode, port, seconds));
  try {
    const load = JSON.parse(out) as Load & { resumed?: number };
    if (load.requests > 0) return load;
  } catch {
    // Said below.
  }
  throw new Error(`${subject.name}: ${mode}: ${out}`);
}

const byHandshake = (name: string, mode: "tls-new" | "tls-resumed"): LoadCase => ({
  name,
  unit: "connection",
  load: (subject, seconds) => {
    const load = drive(subject, mode, subject.tlsPort, seconds);
    const share = (load.resumed ?? 0) / load.requests;
    if (mode === "tls-resumed" ? share < 0.9 : share > 0)
      throw new Error(`${subject.name}: ${load.resumed} of ${load.requests} sessions were resumed`);
    return load;
  },
});

const http2: LoadCase = {
  name: "h2 tiny GET",
  unit: "request",
  able: (subject) => speaksHttp2(subject.tlsPort),
  load: (subject, seconds, directory) => {
    const log = join(directory, "h2load.log");
    rmSync(log, { force: true });
    const url = `https://127.0.0.1:${subject.tlsPort}/`;
    const out = onLoadCore("h2load", [
      "-c16",
      "-m8",
      `-D${seconds}`,
      `--log-file=${log}`,
      "-H",
      "User-Agent: bench",
      url,
    ]);
    if (!/Application protocol: h2/.test(out)) throw new Error(`${subject.name}: ${out}`);
    // A line per request: when it began, its status, how long it took in microseconds.
    const lines = readFileSync(log, "utf8").trim().split("\n");
    const times = lines.flatMap((line) => {
      const [, status, took] = line.split("\t");
      return status === "200" ? [Number(took) / 1000] : [];
    });
    if (times.length < lines.length * 0.99)
      throw new Error(`${subject.name}: answers other than 200: ${out}`);
    times.sort((a, b) => a - b);
    const at = (share: number): number => times[Math.floor(times.length * share)] ?? 0;
    return { requests: times.length, p50: at(0.5), p99: at(0.99) };
  },
};

export const LOAD_CASES: readonly LoadCase[] = [
  byWrk("tiny GET, kept connections", { path: "/", connections: 64 }),
  byWrk("64 KiB response", { path: "/64k", connections: 32 }),
  byWrk("10 MiB response", { path: "/10m", connections: 8 }),
  byWrk("1 MiB upload", { path: "/upload", connections: 16, upload: 1_048_576 }),
  byWrk("tiny GET, a connection each", { path: "/", connections: 32, headers: ["Connection: close"] }),
  byHandshake("TLS, a full handshake each", "tls-new"),
  byHandshake("TLS, a resumed session each", "tls-resumed"),
  {
    name: "WebSocket message there and back",
    unit: "message",
    load: (subject, seconds) => drive(subject, "websocket", subject.port, seconds),
  },
  http2,
];

/** How long until connections to backends that nobody uses are given up, by every subject. */
const SETTLE = 7000;

const holding = (name: string, mode: "idle" | "idle-websocket"): MemoryCase => ({
  name,
  async memory(subject, pid, count) {
    const drivers: ChildProcess[] = [];
    const hold = async (connections: number): Promise<number> => {
      const args = [
        "-c",
        String(LOAD_CORE),
        process.execPath,
        ...driverArgs(mode, subject.port, connections),
      ];
      const child = spawn("taskset", args, { stdio: ["ignore", "pipe", "inherit"] });
      drivers.push(child);
      await new Promise<void>((resolve, reject) => {
        child.stdout.on("data", () => resolve());
        child.once("exit", () => reject(new Error(`${subject.name}: ${mode}: connections were refused`)));
      });
      await sleep(SETTLE);
      return memoryOf(family(pid));
    };
    try {
      // What the first ones need once, and what a collector gives back then, is no cost of a further one.
      const before = await hold(count / 4);
      return ((await hold(count)) - before) / count;
    } finally {
      for (const child of drivers) child.kill("SIGKILL");
    }
  },
});

export const MEMORY_CASES: readonly MemoryCase[] = [
  holding("an idle connection", "idle"),
  holding("an idle WebSocket", "idle-websocket"),
];
