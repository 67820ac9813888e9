/**
 * The first process of fresh namespaces: client `c`, backends `b` (three addresses), and this one between them as the
 * director. Beside the way through the director, a wire leads from client to backends directly.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, truncateSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Log } from "../../src/base/log.ts";
import { SystemClock } from "../../src/base/system-clock.ts";
import { siteSchema } from "../../src/config/schema/site.ts";
import { Forwarder } from "../../src/forwarding/service.ts";
import { finish, sh } from "../../src/linux/nftables/testing/namespace.ts";
import { writeSysctl } from "../../src/linux/sysctl.ts";
import { startCpu } from "../support/cpu.ts";
import { STREAM_MODULE } from "../support/peers.ts";
import type { Ask } from "./loader.ts";

interface Settings {
  readonly repeat: number;
  /** Of each measurement. */
  readonly seconds: number;
  readonly connections: number;
  readonly peers: readonly string[];
}

export interface Sample {
  readonly subject: string;
  readonly connections: {
    readonly perSecond: number;
    readonly cpu: number;
    readonly p50: number;
    readonly p99: number;
  };
  readonly bulk: { readonly perSecond: number; readonly cpu: number };
  readonly latency: { readonly p50: number; readonly p99: number };
  /** Cores that others of the machine took meanwhile. */
  readonly disturbed: number;
}

const { repeat, seconds, connections, peers } = JSON.parse(process.argv[2] ?? "{}") as Settings;
const directory = mkdtempSync("/run/bench-");

function namespace(name: string, near: string, far: readonly string[], router: string): void {
  sh(`ip netns add ${name}`);
  sh(`ip link add v-${name} type veth peer name eth0 netns ${name}`);
  sh(`ip -n ${name} link set lo up`);
  sh(`ip -n ${name} link set eth0 up`);
  sh(`ip link set v-${name} up`);
  sh(`ip addr add ${near} dev v-${name}`);
  for (const one of far) sh(`ip -n ${name} addr add ${one} dev eth0`);
  sh(`ip -n ${name} route add default via ${router}`);
  sh(`ip netns exec ${name} sysctl -qw net.ipv4.ip_local_port_range=1024\t65535 net.core.somaxconn=8192`);
}

function makeWorld(): void {
  namespace("c", "10.0.0.1/24", ["10.0.0.9/24"], "10.0.0.1");
  namespace("b", "10.2.0.1/24", ["10.2.0.11/24", "10.2.0.12/24", "10.2.0.13/24"], "10.2.0.1");
  sh("ip -n c link add wire type veth peer name wire netns b");
  for (const [name, address] of [
    ["c", "10.9.0.9"],
    ["b", "10.9.0.11"],
  ]) {
    sh(`ip -n ${name} addr add ${address}/24 dev wire`);
    sh(`ip -n ${name} link set wire up`);
  }
  writeSysctl("net/ipv4/ip_forward", "1");
  writeSysctl("net/ipv4/ip_local_port_range", "1024 65535");
  writeSysctl("net/core/somaxconn", "8192");
}

const file = (name: string, text: string): string => {
  writeFileSync(`${directory}/${name}`, text);
  return `${directory}/${name}`;
};
const run = (...line: readonly string[]): ChildProcess => {
  const [command = "", ...args] = line;
  return spawn(command, args, { stdio: "ignore" });
};

const servers = [11, 12, 13].map((last) => `10.2.0.${last}:8080`);
const nginx = (name: string, body: string, modules = ""): string =>
  file(
    `${name}.conf`,
    `${modules}worker_processes auto; daemon off; user root; pid ${directory}/${name}.pid; error_log /dev/null;
events { worker_connections 8000; }
${body}`,
  );

function startPeers(): void {
  writeFileSync(`${directory}/bulk`, "");
  // Holes of a file in memory: reading them costs nothing.
  truncateSync(`${directory}/bulk`, 2 ** 40);
  const backend = nginx(
    "backend",
    `http { access_log off; server { listen 8080 backlog=8192; location = / { return 200 "hello world!\\n"; }
  location / { root ${directory}; sendfile on; sendfile_max_chunk 2m; } } }`,
  );
  run("ip", "netns", "exec", "b", "nginx", "-c", backend);
  const upstream = servers.map((one) => `server ${one};`).join(" ");
  const stream = `stream { access_log off; upstream apps { ${upstream} }
  server { listen 10.0.0.1:82 backlog=8192 reuseport; proxy_pass apps; proxy_buffer_size 64k; } }`;
  if (peers.includes("nginx")) run("nginx", "-c", nginx("stream", stream, `load_module ${STREAM_MODULE};\n`));
  const haproxy = `global
  maxconn 2000
defaults
  mode tcp
  option splice-auto
  timeout connect 2s
  timeout client 60s
  timeout server 60s
frontend web
  bind 10.0.0.1:81
  default_backend apps
backend apps
  balance roundrobin
${servers.map((one, i) => `  server b${i} ${one}`).join("\n")}
`;
  if (peers.includes("haproxy")) run("haproxy", "-f", file("haproxy.cfg", haproxy));
}

makeWorld();
const loader = spawn(
  "ip",
  [
    "netns",
    "exec",
    "c",
    process.execPath,
    "--import",
    "tsx",
    fileURLToPath(new URL("loader.ts", import.meta.url)),
  ],
  { stdio: ["pipe", "pipe", "inherit"] },
);
const answers = createInterface({ input: loader.stdout })[Symbol.asyncIterator]();
async function ask<T>(what: Ask): Promise<T> {
  loader.stdin.write(`${JSON.stringify(what)}\n`);
  const { value, done } = await answers.next();
  if (done === true) throw new Error("the load has ended");
  return JSON.parse(value) as T;
}

const toMs = (text: string): number => {
  const value = Number.parseFloat(text);
  return text.endsWith("us") ? value / 1000 : text.endsWith("ms") ? value : value * 1000;
};

/** One connection per request. */
async function connect(host: string, port: number, length: number): Promise<Sample["connections"]> {
  const line = `netns exec c wrk -t1 -c64 -d${length}s --latency -H Connection:close http://${host}:${port}/`;
  const stop = startCpu();
  const child = spawn("ip", line.split(" "), { stdio: ["ignore", "pipe", "inherit"] });
  let out = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  await new Promise((resolve) => child.on("close", resolve));
  const requests = Number(/(\d+) requests in/.exec(out)?.[1] ?? 0);
  const errors =
    /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(out)?.slice(1) ?? [];
  if (requests < 100 || errors.some((one) => Number(one) > requests / 1000))
    throw new Error(`${host}:${port}: ${out}`);
  return {
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(out)?.[1] ?? 0),
    cpu: (stop().own / requests) * 1e6,
    p50: toMs(/ 50%\s+(\S+)/.exec(out)?.[1] ?? "0"),
    p99: toMs(/ 99%\s+(\S+)/.exec(out)?.[1] ?? "0"),
  };
}

async function measure(subject: string, host: string, port: number): Promise<Sample> {
  await connect(host, port, 1);
  const begin = performance.now();
  const all = startCpu();
  const made = await connect(host, port, seconds);
  const stop = startCpu();
  const perSecond = await ask<number>({ op: "bulk", host, port, seconds });
  const cpu = stop().own / ((perSecond * seconds) / 1e9);
  const latency = await ask<Sample["latency"]>({ op: "latency", host, port, count: connections });
  const disturbed = all().others / ((performance.now() - begin) / 1000);
  return { subject, connections: made, bulk: { perSecond, cpu }, latency, disturbed };
}

const silent = (): void => undefined;
const loud = (fields: object): void => console.error(JSON.stringify(fields));
const log: Log = { debug: silent, info: silent, warn: loud, error: loud };
const site = siteSchema.parse({
  site: "bench",
  nodes: { lb1: { address: "10.2.0.1" } },
  virtualRouters: {
    edge: { priorities: { lb1: 100 }, members: [{ interface: "v-c", vrid: 51, addresses: ["10.0.0.1"] }] },
  },
  pools: { apps: { backends: { b1: "10.2.0.11:8080", b2: "10.2.0.12:8080", b3: "10.2.0.13:8080" } } },
  services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } } },
});

/** Only while it is measured: with its tables loaded, connections of others are tracked too. */
async function nines(): Promise<Sample> {
  const forwarder = await Forwarder.open({ clock: new SystemClock(), log, node: "lb1" });
  forwarder.apply(site, []);
  await forwarder.settled();
  if (forwarder.problem() !== "") throw new Error(forwarder.problem());
  const sample = await measure("nines", "10.0.0.1", 80);
  await forwarder.stop(true);
  return sample;
}

const SUBJECTS = [
  ["nines", nines] as const,
  ...[["haproxy", 81] as const, ["nginx", 82] as const]
    .filter(([name]) => peers.includes(name))
    .map(([name, port]) => [name, () => measure(name, "10.0.0.1", port)] as const),
  ["routed", () => measure("routed", "10.2.0.11", 8080)] as const,
  ["direct", () => measure("direct", "10.9.0.11", 8080)] as const,
];

startPeers();
await sleep(1500);
const rounds: Sample[][] = [];
for (let i = 0; i < repeat; i++) {
  const round: Sample[] = [];
  for (const [name, of] of SUBJECTS) {
    round.push(await of());
    console.error(`round ${i + 1} of ${repeat}: ${name}`);
  }
  rounds.push(round);
}
finish(rounds);
