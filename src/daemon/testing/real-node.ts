import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import type { SiteInput } from "../../config/schema/site.ts";
import { askNode } from "../../api/client.ts";
import type { NodeStatus, ProcessStatus } from "../../contracts/api.ts";
import { NetworkNamespace } from "../../linux/namespace.ts";

export const main = join(import.meta.dirname, "../../../dist/cli/main.js");

/** Runs a command inside a namespace to its end: `ip`, `nft` and the like. */
export function inside(namespace: NetworkNamespace, command: string, ...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = namespace.run(() => spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] }));
    let text = "";
    child.stdout.on("data", (part: Buffer) => (text += part.toString()));
    child.stderr.on("data", (part: Buffer) => (text += part.toString()));
    child.on("error", reject);
    child.on("exit", (code) =>
      code === 0 ? resolve(text) : reject(new Error(`${command} ${args.join(" ")}: ${text}`)),
    );
  });
}

interface LogLine {
  readonly event: string;
  readonly reason?: string;
  readonly process: string;
  readonly [field: string]: unknown;
}

/** One node run as users run it: the compiled program, in a namespace of its own. */
export class RealNode {
  readonly directory = mkdtempSync(join(tmpdir(), "nines-node-"));
  readonly runtime = join(this.directory, "run");
  file = join(this.directory, "site.yaml");
  readonly log: LogLine[] = [];
  stderr = "";
  /** A command that runs the node, such as `unshare -m`; it must end up as the node's own process (exec). */
  wrapper: readonly string[] = [];
  readonly #namespace: NetworkNamespace;
  #child: ChildProcess | undefined;
  #ended: Promise<number | null> | undefined;

  constructor(namespace: NetworkNamespace) {
    this.#namespace = namespace;
  }

  write(site: SiteInput | string): void {
    writeFileSync(this.file, typeof site === "string" ? site : stringify(site));
  }

  start(node: string, ...more: string[]): void {
    const args = [
      main,
      "run",
      this.file,
      "--node",
      node,
      "--runtime",
      this.runtime,
      "--state",
      join(this.directory, "state"),
      ...more,
    ];
    const [program = process.execPath, ...others] = [...this.wrapper, process.execPath, ...args];
    const child = this.#namespace.run(() => spawn(program, others, { stdio: ["ignore", "pipe", "pipe"] }));
    let rest = "";
    child.stdout.on("data", (part: Buffer) => {
      const lines = (rest + part.toString()).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.log.push(JSON.parse(line) as LogLine);
    });
    child.stderr.on("data", (part: Buffer) => (this.stderr += part.toString()));
    this.#child = child;
    this.#ended = new Promise((resolve) => child.on("exit", (code) => resolve(code)));
  }

  get pid(): number {
    return this.#child?.pid ?? -1;
  }
  /** The exit status; null where a signal ended it. */
  get ended(): Promise<number | null> {
    return this.#ended ?? Promise.resolve(null);
  }
  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }
  events(event: string): LogLine[] {
    return this.log.filter((line) => line.event === event);
  }
  ask<T>(method: "GET" | "POST", path: string, body?: unknown): Promise<T> {
    return askNode<T>(join(this.runtime, "control.sock"), method, path, body);
  }
  status(): Promise<NodeStatus> {
    return this.ask<NodeStatus>("GET", "/v1/status");
  }
  /** From the parent's own file, which is there without a brain. */
  processes(): ProcessStatus[] {
    const path = join(this.runtime, "processes.json");
    if (!existsSync(path)) return [];
    return (JSON.parse(readFileSync(path, "utf8")) as { children: ProcessStatus[] }).children;
  }
  pidOf(name: string): number {
    return this.processes().find((each) => each.name === name)?.pid ?? -1;
  }

  /** For the end of a test, however it went. */
  async cleanUp(): Promise<void> {
    const pids = this.processes().flatMap(({ pid }) => pid ?? []);
    this.#child?.kill("SIGKILL");
    await this.ended;
    for (const pid of pids) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended with its parent.
      }
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Whether a process runs; one that has ended and that nobody has waited for (no init in a container does) does not. */
export const alive = (pid: number): boolean => {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
};

export interface Wire {
  readonly first: NetworkNamespace;
  readonly second: NetworkNamespace;
  close(): void;
}

/** Two namespaces on one wire, `wire0` in both: 10.9.0.2 and 10.9.0.3. */
export async function wireNamespaces(): Promise<Wire> {
  const first = NetworkNamespace.create();
  const second = NetworkNamespace.create();
  const peer = `/proc/${process.pid}/fd/${second.descriptor}`;
  await inside(first, "ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire0", "netns", peer);
  for (const [namespace, address] of [
    [first, "10.9.0.2/24"],
    [second, "10.9.0.3/24"],
  ] as const) {
    await inside(namespace, "ip", "address", "add", address, "dev", "wire0");
    await inside(namespace, "ip", "link", "set", "lo", "up");
    await inside(namespace, "ip", "link", "set", "wire0", "up");
  }
  return {
    first,
    second,
    close: () => {
      first.close();
      second.close();
    },
  };
}

/** As many namespaces as addresses (IPv4, a /24), all on one bridge; `wire0` in each. */
export async function bridgedNamespaces(
  addresses: readonly string[],
): Promise<{ readonly spaces: readonly NetworkNamespace[]; close(): void }> {
  const hub = NetworkNamespace.create();
  const spaces = addresses.map(() => NetworkNamespace.create());
  await inside(hub, "ip", "link", "add", "lan", "type", "bridge");
  await inside(hub, "ip", "link", "set", "lan", "up");
  for (const [i, space] of spaces.entries()) {
    const peer = `/proc/${process.pid}/fd/${space.descriptor}`;
    const veth = ["type", "veth", "peer", "name", "wire0", "netns", peer];
    await inside(hub, "ip", "link", "add", `p${i}`, ...veth);
    await inside(hub, "ip", "link", "set", `p${i}`, "master", "lan", "up");
    await inside(space, "ip", "address", "add", `${addresses[i]}/24`, "dev", "wire0");
    await inside(space, "ip", "link", "set", "lo", "up");
    await inside(space, "ip", "link", "set", "wire0", "up");
  }
  return {
    spaces,
    close: () => {
      for (const space of [...spaces, hub]) space.close();
    },
  };
}
