// Programs that end with the one who started them, with everything that they have started: however that one ends.
import { spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

const own = ["--pid", "--fork", "--kill-child", "--mount-proc"];
const asRoot = process.getuid() === 0 ? [] : ["--user", "--map-root-user"];
const works = (flags) => spawnSync("unshare", [...flags, "true"]).status === 0;
// Process 1 waits for whatever is left to it, and its end is the end of all others.
const first = (before) => ["sh", "-c", `${before} "$@"; exit $?`, "sh"];

/**
 * The words before a command that run it in process (and, with `network`, network and /run) namespaces of its own.
 * Without root in a user namespace, as its root. None where the kernel allows neither.
 */
export function within({ network = false } = {}) {
  const flags = [...asRoot, ...own, ...(network ? ["--net"] : [])];
  if (!works(flags)) return [];
  return [
    "unshare",
    ...flags,
    ...first(network ? "mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up &&" : ""),
  ];
}

/** Starts a command that is killed when this process dies, even by kill -9. */
export function leashed([command, ...args], options = { stdio: "inherit" }) {
  return spawn("setpriv", ["--pdeathsig", "KILL", command, ...args], options);
}

/** Settles with the exit code; 1 where a signal ended it or it could not be started. */
export const ended = (child) =>
  new Promise((resolve) => {
    child.on("error", () => resolve(1));
    child.on("close", (code) => resolve(code ?? 1));
  });

/** Ends at once, and with it what is leashed; the answer undoes it. */
export function endOnSignals() {
  const codes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };
  const end = (signal) => process.exit(codes[signal]);
  for (const signal of Object.keys(codes)) process.on(signal, end);
  return () => {
    for (const signal of Object.keys(codes)) process.off(signal, end);
  };
}

/** kill -9 of npm leaves its shell and this process to others: neither may go on unseen. */
export function endWithNpm() {
  const parentOf = (pid) => Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
  const ancestors = () => [
    process.ppid,
    ...(process.env.npm_lifecycle_event ? [parentOf(process.ppid)] : []),
  ];
  const before = ancestors().join();
  setInterval(() => ancestors().join() === before || process.exit(1), 500).unref();
}
