/**
 * The disposable outer namespace. The program starts itself again as process 1 of fresh mount, network
 * and process namespaces (and a user namespace where it is not root). Whatever ends it, Ctrl-C and
 * kill -9 of any process of the chain included, the kernel then removes every process, namespace, bridge
 * and address of the lab: nothing has to be cleaned up, so nothing can be forgotten.
 */
import { type ChildProcess, type StdioOptions, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { OperationalError } from "../base/errors.ts";
import { entryCommand, findProgram, run, start } from "./shell.ts";

const MARK = "NINES_LAB";

/** Whether this process is the first of a lab. */
export const insideLab = (): boolean => process.pid === 1 && process.env[MARK] !== undefined;

function sysctl(path: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${path}`, "utf8").trim();
  } catch {
    return undefined;
  }
}

/** Why user namespaces are refused here, with the command that allows them. */
export function whyRefused(read: (path: string) => string | undefined = sysctl): string {
  if (read("kernel/apparmor_restrict_unprivileged_userns") === "1")
    return "AppArmor restricts user namespaces (Ubuntu's default). Allow them until the next boot: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; or run this as root";
  if (read("kernel/unprivileged_userns_clone") === "0")
    return "user namespaces are switched off. Allow them: sudo sysctl -w kernel.unprivileged_userns_clone=1; or run this as root";
  if (read("user/max_user_namespaces") === "0")
    return "no user namespace may be made. Allow them: sudo sysctl -w user.max_user_namespaces=10000; or run this as root";
  return "the kernel or a container's seccomp profile refuses new namespaces. In a container, start it with --privileged or --cap-add SYS_ADMIN,NET_ADMIN";
}

const NAMESPACES = ["--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"];

/** The first way of making namespaces that works here: as root, then through a user namespace. */
function unshareFlags(): string[] {
  if (findProgram("unshare") === undefined)
    throw new OperationalError("TOOL_MISSING", "unshare is not installed: sudo apt-get install util-linux");
  const ways =
    process.getuid?.() === 0 ? [[], ["--user", "--map-root-user"]] : [["--user", "--map-root-user"]];
  for (const way of ways)
    if (
      spawnSync(findProgram("unshare") ?? "", [...way, ...NAMESPACES, "true"], { stdio: "ignore" }).status ===
      0
    )
      return [...way, ...NAMESPACES];
  throw new OperationalError("PERMISSION", `the lab needs its own namespaces, but ${whyRefused()}`);
}

/** Whether a lab can be made here; the reason otherwise. */
export function labRefused(): string | undefined {
  try {
    unshareFlags();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

const itself = (): string[] => [
  process.execPath,
  ...process.execArgv,
  process.argv[1] ?? "",
  ...process.argv.slice(2),
];

/**
 * Starts `argv` as process 1 of a new lab that dies with this process, however this process dies: the
 * kernel sends KILL down the chain (PR_SET_PDEATHSIG), and the end of process 1 ends all others.
 */
export function startLab(
  name: string,
  argv: readonly string[],
  stdio: StdioOptions = "inherit",
): ChildProcess {
  const leash = ["setpriv", "--pdeathsig", "KILL"];
  return start([...leash, "unshare", ...unshareFlags(), ...argv], {
    env: { ...process.env, [MARK]: name },
    stdio,
  });
}

/** How long a lab may take to end by itself, in ms. */
const PATIENCE = 1000;

/** Runs this very command again inside a new lab, and ends with its exit code. */
export function repeatInLab(name: string): Promise<number> {
  const child = startLab(name, itself());
  const stop = (): void => void child.kill("SIGKILL");
  // A terminal's Ctrl-C reaches the lab too, which then ends; whoever means this process alone means the lab.
  const patience = (): void => void setTimeout(stop, PATIENCE).unref();
  process.on("SIGINT", patience);
  process.on("SIGTERM", stop);
  process.on("SIGHUP", stop);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      process.off("SIGINT", patience).off("SIGTERM", stop).off("SIGHUP", stop);
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
}

/** What a detached lab says when it serves. */
const UP = "up";

/** Runs this command again in a lab that stays when this process ends; returns once it serves. */
export async function repeatDetached(name: string): Promise<void> {
  const child = start(["unshare", ...unshareFlags(), ...itself()], {
    env: { ...process.env, [MARK]: name, NINES_LAB_DETACHED: "1" },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let said = "";
  await new Promise<void>((resolve, reject) => {
    const hear = (chunk: Buffer): void => {
      said += chunk.toString();
      if (said.endsWith(`\n${UP}\n`)) resolve();
    };
    child.stdout?.on("data", hear);
    child.stderr?.on("data", hear);
    child.on("error", reject);
    child.on("exit", () =>
      reject(new OperationalError("CHILD_FAILED", `the lab did not come up: ${said.trim()}`)),
    );
  });
  console.log(said.slice(0, -UP.length - 2));
  child.removeAllListeners("exit");
  child.stdout?.destroy();
  child.stderr?.destroy();
  child.unref();
}

/** Process 1 of a detached lab: says that it serves and is silent from then on. */
export function tellUp(): void {
  if (process.env["NINES_LAB_DETACHED"] === undefined) return;
  console.log(UP);
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
}

/** A directory that vanishes with the lab. */
export const WORK = "/run/nines-lab";

/** What a node of the lab finds under /run/nines. */
export const runtimeOf = (work: string, node: string): string => `${work}/nodes/${node}/run`;

/** First steps of process 1: own /run, loopback, and an end on Ctrl-C. */
export async function settleIn(): Promise<void> {
  process.on("SIGINT", () => process.exit(130));
  process.on("SIGTERM", () => process.exit(143));
  await run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"]);
  mkdirSync("/run/netns");
  if (existsSync("/var/lib/nines")) await run(["mount", "-t", "tmpfs", "tmpfs", "/var/lib/nines"]);
  await run(["ip", "link", "set", "lo", "up"]);
  // So that `nines lab exec lb1 -- nines status` works from a checkout too.
  mkdirSync(`${WORK}/bin`, { recursive: true });
  const words = entryCommand("../cli/main").map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`);
  writeFileSync(`${WORK}/bin/nines`, `#!/bin/sh\nexec ${words.join(" ")} "$@"\n`, { mode: 0o755 });
}

/** Process 1 of every lab that this user may see, as the host numbers it. */
export function runningLabs(): { readonly name: string; readonly pid: number }[] {
  return readdirSync("/proc").flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    try {
      const status = readFileSync(`/proc/${entry}/status`, "utf8");
      if (!/^NSpid:\s+\d+\s+1$/m.test(status)) return [];
      const mark = readFileSync(`/proc/${entry}/environ`, "utf8")
        .split("\0")
        .find((one) => one.startsWith(`${MARK}=`));
      return mark === undefined ? [] : [{ name: mark.slice(MARK.length + 1), pid: Number(entry) }];
    } catch {
      return [];
    }
  });
}

/** Runs a command on a host of a running lab, or beside its bridges, with this terminal. */
export function enterLab(pid: number, host: string | undefined, argv: readonly string[]): Promise<number> {
  const user = process.getuid?.() === 0 ? [] : ["--user", "--preserve-credentials"];
  // A node sees its own sockets under /run/nines, as on a machine of its own.
  const own = host === undefined ? "" : runtimeOf(WORK, host);
  const settle = `PATH=${WORK}/bin:$PATH; if [ -d "${own}" ]; then mkdir -p /run/nines && mount --bind "${own}" /run/nines; fi; exec "$@"`;
  const inside = [
    ...(host === undefined ? [] : ["ip", "netns", "exec", host]),
    "sh",
    "-c",
    settle,
    "sh",
    ...argv,
  ];
  const enter = ["nsenter", "--target", String(pid), "--mount", "--net", "--pid", ...user, ...inside];
  const child = start(enter, { stdio: "inherit" });
  process.on("SIGINT", () => {});
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) =>
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
    );
  });
}

/** Ends a lab: the kernel removes everything with process 1. */
export async function endLab(pid: number): Promise<void> {
  process.kill(pid, "SIGKILL");
  for (let i = 0; i < 200 && existsSync(`/proc/${pid}`); i++) await sleep(10);
}
