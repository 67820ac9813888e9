// h1spec: 33 requests over HTTP/1.1, valid, cut short and broken (https://github.com/uNetworking/h1spec). It is a file
// for Deno and no part of this repository.
import { spawn, spawnSync } from "node:child_process";

export interface Outcome {
  readonly passed: number;
  readonly all: number;
  readonly failures: readonly string[];
}

export const denoWorks = (deno: string): boolean => spawnSync(deno, ["--version"]).status === 0;

/** What it prints: a line for each test, then how many passed. */
export function readOutcome(text: string): Outcome {
  const [, passed, all] = /(\d+) out of (\d+) tests passed/.exec(text) ?? [];
  const failures = [...text.matchAll(/^❌ (.*)$/gm)].map((match) => match[1] ?? "");
  return { passed: Number(passed ?? 0), all: Number(all ?? 0), failures };
}

/** `file`: its http_test.ts. */
export async function runH1spec(deno: string, file: string, port: number): Promise<Outcome> {
  const args = ["run", "--allow-net", "--no-check", file, "127.0.0.1", String(port)];
  const child = spawn(deno, args, { stdio: ["ignore", "pipe", "pipe"], timeout: 60_000 });
  let text = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (piece: string) => (text += piece));
  await new Promise((resolve, reject) => child.once("close", resolve).once("error", reject));
  return readOutcome(text);
}
