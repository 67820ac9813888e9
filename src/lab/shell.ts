/** Programs that the lab calls: `ip`, `nft`, `unshare` ... It is a test tool; the running path calls none. */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { OperationalError } from "../base/errors.ts";

const PLACES = [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/** The full path of a program; /usr/sbin is searched too, which a user's PATH often lacks. */
export const findProgram = (name: string): string | undefined =>
  name.includes("/") ? name : PLACES.map((dir) => `${dir}/${name}`).find((path) => existsSync(path));

function program(name: string): string {
  const path = findProgram(name);
  if (path === undefined)
    throw new OperationalError("TOOL_MISSING", `the program "${name}" is not installed`);
  return path;
}

export function start(argv: readonly string[], options: SpawnOptions = {}): ChildProcess {
  const [name = "", ...args] = argv;
  return spawn(program(name), args, options);
}

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs to the end and hands back what it said; never rejects for an exit code. */
export function attempt(
  argv: readonly string[],
  options: { input?: string; env?: NodeJS.ProcessEnv; timeout?: number } = {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = start(argv, {
      stdio: ["pipe", "pipe", "pipe"],
      ...(options.env && { env: options.env }),
      timeout: options.timeout ?? 30_000,
      killSignal: "SIGKILL",
    });
    let stdout = "";
    let stderr = "";
    child.stdout?.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr?.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stdout, stderr }));
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.input ?? "");
  });
}

/** Runs to the end; anything but success is an error with the program's own words. */
export async function run(argv: readonly string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await attempt(argv, input === undefined ? {} : { input });
  if (code === 0) return stdout;
  const said = (stderr || stdout).trim().split("\n").slice(0, 4).join("; ");
  throw new OperationalError("CHILD_FAILED", `${argv.join(" ")}: exit ${code}: ${said}`);
}

/** The command line that starts an entry file, named from this directory, compiled or not. */
export function entryCommand(entry: string): string[] {
  const source = import.meta.url.endsWith(".ts");
  const path = new URL(`./${entry}${source ? ".ts" : ".js"}`, import.meta.url).pathname;
  return source ? [process.execPath, "--import", import.meta.resolve("tsx"), path] : [process.execPath, path];
}
