/**
 * Two directors, `a` and `b`, in namespaces of their own with a wire between them. Flows appear in a's connection
 * table at a chosen rate, put there over netlink, so that the load costs little; what replicates them is nines or
 * conntrackd, each on both nodes. When each arrives in b's table is seen from the kernel's events there.
 *
 * For each flow either replicator gets exactly one event from a's kernel: conntrackd that of the new entry, nines
 * (which listens for what becomes assured) that of an update right after.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { ip, ipBytes } from "../../src/base/addresses.ts";
import { SystemClock } from "../../src/base/system-clock.ts";
import { makeKeys } from "../../src/forwarding/flows/keys.ts";
import type { NodeCommand, NodeSetup } from "../../src/forwarding/flows/testing/flows-node.ts";
import { Conntrack } from "../../src/linux/conntrack.ts";
import { NETLINK } from "../../src/linux/constants.ts";
import { NetworkNamespace } from "../../src/linux/namespace.ts";
import { NetlinkSocket } from "../../src/linux/netlink.ts";
import { finish, sh } from "../../src/linux/nftables/testing/namespace.ts";
import { readSysctl } from "../../src/linux/sysctl.ts";
import { CT_GROUP, type FlowPlan, TCP_STATE, decodeFlow } from "../../src/linux/wire-conntrack.ts";
import { threadSeconds } from "../support/cpu.ts";

interface Settings {
  readonly subject: "nines" | "conntrackd";
  readonly rates: readonly number[];
  readonly seconds: number;
  readonly resync: number;
  /** Batching delays in ms, for nines: what each costs. */
  readonly delays: readonly number[];
  readonly delayRate: number;
}

export interface Step {
  readonly wanted: number;
  /** Flows per second that the load reached. */
  readonly rate: number;
  readonly flows: number;
  readonly arrived: number;
  readonly overruns: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  /** Milliseconds of both nodes' replicators, per 1,000 flows. */
  readonly cpu: number;
  /** On the wire, both directions, headers included, per flow. */
  readonly bytes: number;
}
export interface DelayStep extends Step {
  readonly delay: number;
  /** Flows that died with the node: killed in the middle of the load. */
  readonly lost: number;
}
export interface FlowsResult {
  readonly steps: readonly Step[];
  /** Milliseconds until b has all, from when its replicator is ready; undefined where it never had. */
  readonly resync: number | undefined;
  readonly delays: readonly DelayStep[];
}

const settings = JSON.parse(process.argv[2] ?? "{}") as Settings;
const clock = new SystemClock();
const directory = mkdtempSync("/run/flows-");
const NODES = { a: "10.1.0.2", b: "10.1.0.3" } as const;
type Name = keyof typeof NODES;

const spaces = { a: NetworkNamespace.create(), b: NetworkNamespace.create() };
for (const name of ["a", "b"] as const)
  spaces[name].run(() => {
    sh("ip link set lo up");
    return undefined;
  });
// A process in b, so that a's end of the wire has somewhere to go.
const holder = spaces.b.run(() => spawn("sleep", ["600"], { stdio: "ignore" }));
await once(holder, "spawn");
spaces.a.run(() => {
  sh(`ip link add wire type veth peer name wire netns ${holder.pid ?? 0}`);
  sh(`ip addr add ${NODES.a}/24 dev wire`);
  sh("ip link set wire up");
});
spaces.b.run(() => {
  sh(`ip addr add ${NODES.b}/24 dev wire`);
  sh("ip link set wire up");
});
const table = spaces.a.run(() => Conntrack.open(clock));

const PORTS = 60_000;
const MARK = 0x4e000001;
const service = ipBytes(ip("10.9.9.9"));
const backend = ipBytes(ip("10.2.0.11"));
function flowOf(index: number): FlowPlan {
  const client = Uint8Array.of(10, 100, 0, Math.floor(index / PORTS));
  const port = 1024 + (index % PORTS);
  return {
    family: 4,
    protocol: 6,
    original: { source: client, destination: service, sourcePort: port, destinationPort: 80 },
    reply: { source: backend, destination: client, sourcePort: 8080, destinationPort: port },
    mark: MARK,
    timeout: 600,
    tcpState: TCP_STATE.ESTABLISHED,
    windowScales: [7, 7],
  };
}

/** When each flow was made in a, and seen in b. */
const made = new Float64Array(1 << 20);
const seen = new Float64Array(1 << 20);
let arrived = 0;
const watcher = spaces.b.run(() =>
  NetlinkSocket.open({
    protocol: NETLINK.NETFILTER,
    clock,
    groups: [CT_GROUP.NEW],
    receiveBuffer: 32 << 20,
    onEvent: ({ payload }) => {
      const flow = decodeFlow(payload);
      if (flow === undefined || flow.mark !== MARK) return;
      const index = (flow.original.source[3] ?? 0) * PORTS + flow.original.sourcePort - 1024;
      if (seen[index] === 0) arrived++;
      seen[index] ||= performance.now();
    },
  }),
);

const count = (name: Name): number =>
  spaces[name].run(() => Number(readSysctl("net/netfilter/nf_conntrack_count") ?? 0));
const wireBytes = (): number =>
  spaces.a.run(() => {
    const [link] = JSON.parse(sh("ip -s -j link show dev wire")) as {
      stats64: { rx: { bytes: number }; tx: { bytes: number } };
    }[];
    return (link?.stats64.rx.bytes ?? 0) + (link?.stats64.tx.bytes ?? 0);
  });
/** Waits for it, at most so many seconds. */
async function until(met: () => boolean, seconds: number): Promise<boolean> {
  const end = performance.now() + seconds * 1000;
  while (!met()) {
    if (performance.now() > end) return false;
    await sleep(10);
  }
  return true;
}
async function empty(): Promise<void> {
  for (const name of ["a", "b"] as const) spaces[name].run(() => sh("conntrack -F"));
  await until(() => count("a") < 50 && count("b") < 50, 20);
  await sleep(500);
  spaces.b.run(() => sh("conntrack -F"));
  await sleep(200);
  made.fill(0);
  seen.fill(0);
  arrived = 0;
}

/** What nines hears of is an update: the entries are there before the load begins. */
async function prepare(count: number): Promise<void> {
  if (settings.subject !== "nines") return;
  for (let at = 0; at < count; at += 1024)
    await table.create(Array.from({ length: Math.min(1024, count - at) }, (_, i) => flowOf(at + i)));
}

/** Answers the rate that it reached. `stop` ends it early. */
async function load(
  rate: number,
  seconds: number,
  stop: () => boolean = () => false,
): Promise<{ flows: number; rate: number }> {
  const total = Math.round(rate * seconds);
  await prepare(total);
  const begin = performance.now();
  let done = 0;
  while (done < total && !stop()) {
    const now = performance.now();
    const due = Math.min(total, Math.floor(((now - begin) / 1000) * rate)) - done;
    if (due < 1) {
      await sleep(1);
      continue;
    }
    const flows = Array.from({ length: Math.min(due, 128) }, (_, i) => flowOf(done + i));
    made.fill(performance.now(), done, done + flows.length);
    if (settings.subject === "nines") await table.update(flows);
    else await table.create(flows);
    done += flows.length;
    // The watcher's turn.
    await new Promise((resolve) => setImmediate(resolve));
  }
  return { flows: done, rate: done / ((performance.now() - begin) / 1000) };
}

function lags(flows: number): { p50: number; p99: number } {
  const all: number[] = [];
  for (let i = 0; i < flows; i++) if ((seen[i] ?? 0) > 0) all.push((seen[i] ?? 0) - (made[i] ?? 0));
  all.sort((x, y) => x - y);
  return { p50: all[all.length >> 1] ?? 0, p99: all[Math.floor(all.length * 0.99)] ?? 0 };
}

/** What replicates on both nodes. */
interface Subject {
  overruns(): Promise<number>;
  start(name: Name): Promise<void>;
  /** Asks b's to have everything, and answers when it did. */
  resync(): Promise<number>;
  readonly processes: Map<Name, ChildProcess>;
}

class Nines implements Subject {
  readonly processes = new Map<Name, ChildProcess>();
  readonly #delay: number;
  constructor(delay: number) {
    this.#delay = delay;
  }
  async #ask(name: Name, command: NodeCommand): Promise<unknown> {
    const child = this.processes.get(name);
    if (child === undefined) throw new Error(name);
    const answered = once(child, "message") as Promise<[{ answer: unknown }]>;
    child.send(command);
    return (await answered)[0].answer;
  }
  async start(name: Name): Promise<void> {
    const peer = name === "a" ? "b" : "a";
    const setup: NodeSetup = {
      site: "bench",
      node: name,
      listen: { address: ip(NODES[name]), port: 7400 },
      peers: [{ node: peer, address: ip(NODES[peer]), port: 7400 }],
      keys: `${directory}/keys`,
      delay: this.#delay,
    };
    const file = fileURLToPath(new URL("../../src/forwarding/flows/testing/flows-node.ts", import.meta.url));
    const child = spaces[name].run(() =>
      spawn(process.execPath, ["--import", "tsx", file, JSON.stringify(setup)], {
        stdio: ["ignore", "inherit", "inherit", "ipc"],
      }),
    );
    this.processes.set(name, child);
    await this.#ask(name, { do: "configure", services: [{ name: "web", router: "edge", mark: MARK }] });
    if (name === "a") await this.#ask("a", { do: "active", routers: ["edge"] });
  }
  async status(name: Name): Promise<{
    counters: Record<string, number>;
    peers: Record<string, { sentAll: boolean; receivedAll: boolean }>;
  }> {
    return (await this.#ask(name, { do: "status" })) as Awaited<ReturnType<Nines["status"]>>;
  }
  async overruns(): Promise<number> {
    return (await this.status("a")).counters["overruns"] ?? 0;
  }
  async resync(): Promise<number> {
    this.processes.get("b")?.kill("SIGKILL");
    spaces.b.run(() => sh("conntrack -F"));
    await this.start("b");
    return performance.now();
  }
}

class Conntrackd implements Subject {
  readonly processes = new Map<Name, ChildProcess>();
  #file(name: Name): string {
    const peer = name === "a" ? "b" : "a";
    const path = `${directory}/${name}.conf`;
    writeFileSync(
      path,
      `Sync {
  Mode FTFW { DisableExternalCache On
    ResendQueueSize 131072
    ACKWindowSize 300 }
  UDP { IPv4_address ${NODES[name]}
    IPv4_Destination_Address ${NODES[peer]}
    Port 3780
    Interface wire
    SndSocketBuffer 8388608
    RcvSocketBuffer 8388608
    Checksum on }
}
General {
  HashSize 65536
  HashLimit 262144
  LogFile off
  Syslog off
  LockFile ${directory}/${name}.lock
  UNIX { Path ${directory}/${name}.ctl }
  NetlinkBufferSize 8388608
  NetlinkBufferSizeMaxGrowth 8388608
  NetlinkOverrunResync On
  Filter From Kernelspace {
    Protocol Accept { TCP }
    State Accept { ESTABLISHED CLOSED TIME_WAIT CLOSE_WAIT for TCP }
  }
}
`,
    );
    return path;
  }
  async start(name: Name): Promise<void> {
    const file = this.#file(name);
    this.processes.set(
      name,
      spaces[name].run(() => spawn("conntrackd", ["-C", file], { stdio: ["ignore", "ignore", "inherit"] })),
    );
    await sleep(1000);
  }
  #control(name: Name, flag: string): string {
    return spaces[name].run(() => sh(`conntrackd -C ${directory}/${name}.conf ${flag}`));
  }
  overruns(): Promise<number> {
    const text = this.#control("a", "-s runtime");
    return Promise.resolve(
      Number(/netlink overruns?:?\s+(\d+)|overrun[a-z ]*:?\s+(\d+)/i.exec(text)?.slice(1).find(Boolean) ?? 0),
    );
  }
  resync(): Promise<number> {
    spaces.b.run(() => sh("conntrack -F"));
    const begin = performance.now();
    this.#control("b", "-n");
    return Promise.resolve(begin);
  }
}

const cpuOf = (subject: Subject): number =>
  [...subject.processes.values()].reduce((sum, { pid }) => sum + threadSeconds(pid ?? 0), 0);

async function step(subject: Subject, rate: number, seconds: number): Promise<Step> {
  await empty();
  const before = { cpu: cpuOf(subject), bytes: wireBytes(), overruns: await subject.overruns() };
  const reached = await load(rate, seconds);
  await until(() => arrived >= reached.flows, 3);
  const { flows } = reached;
  return {
    wanted: rate,
    rate: reached.rate,
    flows,
    arrived,
    overruns: (await subject.overruns()) - before.overruns,
    ...lags(flows),
    cpu: ((cpuOf(subject) - before.cpu) * 1e6) / flows,
    bytes: (wireBytes() - before.bytes) / flows,
  };
}

async function stopAll(subject: Subject): Promise<void> {
  for (const child of subject.processes.values()) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    // conntrackd removes its lock file.
    child.kill("SIGTERM");
    await once(child, "exit");
  }
  subject.processes.clear();
}

async function ready(subject: Subject): Promise<void> {
  await subject.start("b");
  await subject.start("a");
  if (subject instanceof Nines) {
    let synced = false;
    for (let i = 0; i < 200 && !synced; i++) {
      const status = await subject.status("a");
      synced = status.peers["b"]?.sentAll ?? false;
      await sleep(50);
    }
    if (!synced) throw new Error("the two nodes never met");
  }
}

await makeKeys(`${directory}/keys`, "bench", ["a", "b"]);
const subject = settings.subject === "nines" ? new Nines(5) : new Conntrackd();
await ready(subject);
await step(subject, 2000, 1);
const steps: Step[] = [];
for (const rate of settings.rates) {
  const one = await step(subject, rate, settings.seconds);
  steps.push(one);
  console.error(`${settings.subject} ${JSON.stringify(one)}`);
  if (one.arrived < one.flows * 0.5) break;
}

let resync: number | undefined;
if (settings.resync > 0) {
  await stopAll(subject);
  await empty();
  await ready(subject);
  await load(20_000, settings.resync / 20_000);
  await until(() => count("b") >= settings.resync, 20);
  const begin = await subject.resync();
  if (await until(() => count("b") >= settings.resync, 30)) resync = performance.now() - begin;
  console.error(`${settings.subject} resync of ${settings.resync}: ${resync} ms`);
}
await stopAll(subject);

const delays: DelayStep[] = [];
for (const delay of settings.delays) {
  await empty();
  const nines = new Nines(delay);
  await ready(nines);
  await step(nines, settings.delayRate, 1);
  const one = await step(nines, settings.delayRate, settings.seconds);
  await empty();
  // In the middle of the load the node dies; what it had not told is lost with it.
  let at: number | undefined;
  const { flows } = await load(
    settings.delayRate,
    3,
    () => performance.now() >= (at ??= performance.now() + 1000),
  );
  nines.processes.get("a")?.kill("SIGKILL");
  await sleep(1000);
  delays.push({ ...one, delay, lost: flows - arrived });
  console.error(`delay ${JSON.stringify(delays.at(-1))}`);
  await stopAll(nines);
}
holder.kill("SIGKILL");
watcher.close();
finish({ steps, resync, delays } satisfies FlowsResult);
