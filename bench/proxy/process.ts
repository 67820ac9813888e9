// Starting, accounting and waiting for the processes of a benchmark.
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { connect } from "node:net";
import { connect as connectTls } from "node:tls";

/** The core of the proxies; load and backends have the other one. */
export const PROXY_CORE = 0;
export const LOAD_CORE = 1;

/** A program bound to one core. Its output goes nowhere, or into a file. */
export const onCore = (
  core: number,
  command: string,
  args: readonly string[],
  output = "/dev/null",
): ChildProcess =>
  spawn(
    "taskset",
    ["-c", String(core), "sh", "-c", `exec "$0" "$@" > ${output} 2>/dev/null`, command, ...args],
    { stdio: "ignore" },
  );

const statOf = (pid: string): string[] =>
  readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");

/** The process that was started and its children. */
export function family(pid: number): number[] {
  const children = readdirSync("/proc").filter((entry) => {
    if (!/^\d+$/.test(entry)) return false;
    try {
      return Number(statOf(entry)[1]) === pid;
    } catch {
      return false;
    }
  });
  return [pid, ...children.map(Number)];
}

/** User and system time in microseconds, as the kernel charged it; its unit is a tick of 10 ms. */
export function cpuOf(pids: readonly number[]): [number, number] {
  let user = 0;
  let system = 0;
  for (const pid of pids) {
    const fields = statOf(String(pid));
    user += Number(fields[11]) * 10_000;
    system += Number(fields[12]) * 10_000;
  }
  return [user, system];
}

/** Proportional set size in bytes. */
export const memoryOf = (pids: readonly number[]): number =>
  pids.reduce((sum, pid) => {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    return sum + Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
  }, 0);

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket
      .once("connect", () => {
        socket.destroy();
        resolve(true);
      })
      .once("error", () => resolve(false));
  });

export async function untilAnswers(port: number): Promise<void> {
  for (let i = 0; i < 150; i++) {
    if (await answers(port)) return;
    await sleep(100);
  }
  throw new Error(`nothing listens on port ${port}`);
}

/** Whether the listener chooses HTTP/2 when it is offered (ALPN). */
export const speaksHttp2 = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connectTls(
      { port, host: "127.0.0.1", ALPNProtocols: ["h2", "http/1.1"], rejectUnauthorized: false },
      () => {
        resolve(socket.alpnProtocol === "h2");
        socket.destroy();
      },
    );
    socket.once("error", () => resolve(false));
  });

/** Ends a process that was started here, and waits until it is gone. */
export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill("SIGTERM");
  await Promise.race([gone, sleep(3000)]);
  if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
}
