/** A small LAN of network namespaces with nines and keepalived on it. Runs as the first process of its own world. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { BrainToRedundancy, RedundancyToBrain, RouterStatus } from "../../src/contracts/redundancy.ts";
import { type SiteInput, siteSchema } from "../../src/config/schema/site.ts";
import { planFor } from "../../src/redundancy/plan.ts";

export type RouterInput = NonNullable<SiteInput["virtualRouters"]>[string];

const NODE = fileURLToPath(new URL("../../src/redundancy/testing/node.ts", import.meta.url));
export const directory = mkdtempSync("/run/interop-");

const sh = (command: string, ...args: string[]): string =>
  execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
export const inside = (namespace: string, command: string, ...args: string[]): string =>
  sh("ip", "netns", "exec", namespace, command, ...args);

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
export const now = (): number => performance.timeOrigin + performance.now();

/** How long it took until `test` held, in ms; undefined where it did not in time. */
export async function until(test: () => boolean, within: number): Promise<number | undefined> {
  const started = now();
  while (now() - started < within) {
    if (test()) return now() - started;
    await sleep(5);
  }
  return undefined;
}

/** A bridge in the outer namespace and hosts on it: host i has 10.0.0.i/24 and a link-local address on eth0. */
export function makeLan(name: string, hosts: Readonly<Record<string, number>>): void {
  sh("ip", "link", "add", name, "type", "bridge", "mcast_snooping", "0");
  sh("ip", "link", "set", name, "up");
  for (const [host, number] of Object.entries(hosts)) {
    const port = `${name}-${number}`;
    sh("ip", "netns", "add", host);
    inside(host, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.accept_ra=0");
    inside(host, "ip", "link", "set", "lo", "up");
    sh("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host);
    inside(
      host,
      "ip",
      "link",
      "set",
      "eth0",
      "address",
      `02:00:00:00:00:${number.toString(16).padStart(2, "0")}`,
    );
    inside(host, "ip", "address", "add", `10.0.0.${number}/24`, "dev", "eth0");
    inside(host, "ip", "address", "add", `fd00::${number}/64`, "dev", "eth0", "nodad");
    inside(host, "ip", "link", "set", "eth0", "up");
    sh("ip", "link", "set", port, "master", name, "up");
  }
}
/** Ports that are isolated do not hear each other; their carrier stays. */
export function isolate(lan: string, numbers: readonly number[], on: boolean): void {
  for (const number of numbers)
    sh("bridge", "link", "set", "dev", `${lan}-${number}`, "isolated", on ? "on" : "off");
}
/** What host `from` sends to the others does not reach host `to`; answers how to undo it. */
export function cutOneWay(lan: string, from: number, to: number): () => void {
  sh(
    "nft",
    `add table bridge cut; add chain bridge cut f { type filter hook forward priority 0; }; add rule bridge cut f iifname ${lan}-${from} oifname ${lan}-${to} drop`,
  );
  return () => void sh("nft", "delete table bridge cut");
}
/** EUI-64 of the MAC addresses above. */
export const linkLocal = (number: number): string => `fe80::ff:fe00:${number.toString(16)}`;

interface KernelAddress {
  local: string;
  prefixlen: number;
  valid_life_time: number;
  preferred_life_time: number;
}
export function addressesOf(namespace: string, link = "eth0"): KernelAddress[] {
  const text = inside(namespace, "ip", "-j", "address", "show", "dev", link);
  return (JSON.parse(text) as { addr_info: KernelAddress[] }[])[0]?.addr_info ?? [];
}
export const has = (namespace: string, address: string): boolean =>
  addressesOf(namespace).some(({ local }) => local === address);

type Line = (RedundancyToBrain | { type: "log"; event: string; at: number; reason?: string }) & {
  event?: string;
};

/** One node running nines' redundancy in a namespace, with this process as its brain. */
export class Nines {
  readonly #child: ChildProcess;
  readonly #facts: NodeJS.Timeout;
  readonly lines: Line[] = [];
  routers: readonly RouterStatus[] = [];
  counters: Readonly<Record<string, number>> = {};
  exited = false;
  noise = "";

  constructor(namespace: string, environment: NodeJS.ProcessEnv = {}) {
    this.#child = spawn("ip", ["netns", "exec", namespace, process.execPath, "--import", "tsx", NODE], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, ...environment },
    });
    let partial = "";
    this.#child.stdout?.on("data", (chunk: Buffer) => {
      const parts = (partial + chunk.toString()).split("\n");
      partial = parts.pop() ?? "";
      for (const part of parts) this.#line(JSON.parse(part) as Line);
    });
    this.#child.stderr?.on("data", (chunk: Buffer) => (this.noise += chunk.toString()));
    this.#child.stdin?.on("error", () => undefined);
    this.#child.on("exit", () => {
      this.exited = true;
      clearInterval(this.#facts);
    });
    this.#facts = setInterval(() => this.send({ type: "facts", facts: [] }), 1000);
  }
  #line(line: Line): void {
    this.lines.push(line);
    if (line.type !== "status") return;
    this.routers = line.routers;
    this.counters = line.counters;
  }
  silenceBrain(): void {
    clearInterval(this.#facts);
  }
  send(message: BrainToRedundancy): void {
    this.#child.stdin?.write(`${JSON.stringify(message)}\n`);
  }
  get pid(): number {
    const ready = this.lines.find((line) => line.type === "ready");
    return ready?.type === "ready" ? ready.pid : 0;
  }
  signal(signal: NodeJS.Signals): void {
    process.kill(this.pid, signal);
  }
  router(name = "edge"): RouterStatus | undefined {
    return this.routers.find(({ router }) => router === name);
  }
  state(name = "edge"): string | undefined {
    return this.router(name)?.state;
  }
  async is(state: string, within = 6000): Promise<number | undefined> {
    return until(() => this.state() === state, within);
  }
  events(event: string): Line[] {
    return this.lines.filter((line) => line.type === "event" && line.event === event);
  }
  async switchover(to?: string): Promise<{ ok: boolean; error?: string | undefined }> {
    const id = this.lines.length + 1;
    this.send({ type: "switchover", id, router: "edge", ...(to === undefined ? {} : { to }) });
    const found = () => this.lines.find((line) => line.type === "result" && line.id === id);
    await until(() => found() !== undefined, 4000);
    const result = found();
    return result?.type === "result" ? result : { ok: false, error: "no result" };
  }
  async stop(): Promise<void> {
    this.send({ type: "stop" });
    await until(() => this.exited, 4000);
  }
}

interface SiteNodes {
  readonly [node: string]: { readonly address: string };
}
/** The plan of one node of a site with one virtual router. */
export function planOf(
  nodes: SiteNodes,
  node: string,
  router: RouterInput,
  digest = "d1",
): BrainToRedundancy {
  const site = siteSchema.parse({ site: "interop", nodes, virtualRouters: { edge: router } });
  return { type: "plan", plan: planFor(site, node, digest) };
}

/** Debian's keepalived in a namespace. */
export class Keepalived {
  readonly #child: ChildProcess;
  log = "";
  exited = false;
  constructor(namespace: string, instance: string) {
    const path = join(directory, `${namespace}-${now()}`);
    mkdirSync(path);
    const conf = join(path, "keepalived.conf");
    const text = `global_defs {\n  vrrp_garp_master_delay 1\n  script_user root\n}\nvrrp_instance edge {\n  state BACKUP\n  interface eth0\n${instance}\n}\n`;
    writeFileSync(conf, text);
    const files = ["-p", join(path, "pid"), "-r", join(path, "vrrp.pid")];
    const args = ["netns", "exec", namespace, "keepalived", "-P", "-n", "-l", "-D", "-f", conf, ...files];
    this.#child = spawn("ip", args, { stdio: ["ignore", "pipe", "pipe"] });
    const add = (chunk: Buffer): void => void (this.log += chunk.toString());
    this.#child.stdout?.on("data", add);
    this.#child.stderr?.on("data", add);
    this.#child.on("exit", () => (this.exited = true));
    this.#path = path;
  }
  readonly #path: string;
  get state(): string {
    return /.*Entering (\w+) STATE/s.exec(this.log)?.[1] ?? "INIT";
  }
  async is(state: string, within = 8000): Promise<number | undefined> {
    return until(() => this.state === state, within);
  }
  /** The parent and its VRRP child, each by its own process id. */
  async end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const pids = ["pid", "vrrp.pid"].map((name) => Number(readFileSync(join(this.#path, name), "utf8")));
    for (const pid of signal === "SIGKILL" ? pids : pids.slice(0, 1)) process.kill(pid, signal);
    await until(() => this.exited, 3000);
  }
}

export class Capture {
  readonly #child: ChildProcess;
  readonly file: string;
  constructor(link: string) {
    this.file = join(directory, `${link}.pcap`);
    // tcpdump changes its user, which the root of a user namespace may not.
    const filter = "proto 112 or (ip6 and ip6[6] = 112)";
    this.#child = spawn("dumpcap", ["-q", "-i", link, "-w", this.file, "-f", filter], { stdio: "ignore" });
  }
  async stop(): Promise<void> {
    this.#child.kill("SIGINT");
    await until(() => this.#child.exitCode !== null, 2000);
  }
  count(filter: string): number {
    return sh("tshark", "-r", this.file, "-Y", filter).split("\n").filter(Boolean).length;
  }
}
