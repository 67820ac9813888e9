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
import { ip } from "../../src/base/addresses.ts";
import { CHILD_KINDS } from "../../src/daemon/children.ts";
import { makeKeys } from "../../src/forwarding/flows/keys.ts";
import type { NodeCommand, NodeSetup } from "../../src/forwarding/flows/testing/flows-node.ts";
import { NetworkNamespace } from "../../src/linux/namespace.ts";
import { finish, sh } from "../../src/linux/nftables/testing/namespace.ts";
import { readSysctl } from "../../src/linux/sysctl.ts";
import { schedulingOf, threadSeconds } from "../support/cpu.ts";
import { FlowLoad, FlowWatcher, MARK } from "../support/flow-load.ts";

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
  /** Milliseconds from the end of the load until all had arrived, or until nobody waited longer. */
  readonly behind: number;
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
const generator = spaces.a.run(() => FlowLoad.open());
const watcher = spaces.b.run(() => FlowWatcher.open());

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
async function until(met: () => boolean, seconds: number, every = 10): Promise<boolean> {
  const end = performance.now() + seconds * 1000;
  while (!met()) {
    if (performance.now() > end) return false;
    await sleep(every);
  }
  return true;
}
/** Whoever replicates has worked off what it was told: less than a tenth of a processor, or ten seconds are over. */
async function quiet(subject: Subject): Promise<void> {
  for (let i = 0; i < 50; i++) {
    const before = cpuOf(subject);
    await sleep(200);
    if (cpuOf(subject) - before < 0.02) return;
  }
}
async function empty(subject?: Subject): Promise<void> {
  for (const name of ["a", "b"] as const) spaces[name].run(() => sh("conntrack -F"));
  await until(() => count("a") < 50 && count("b") < 50, 20);
  if (subject !== undefined) await quiet(subject);
  spaces.b.run(() => sh("conntrack -F"));
  await sleep(200);
  generator.refused();
  watcher.forget();
}

/**
 * Answers the rate that it reached. `stop` ends it early. Once a millisecond the flows that are due are made, and what
 * arrived is looked at.
 */
async function load(
  rate: number,
  seconds: number,
  stop: () => boolean = () => false,
): Promise<{ flows: number; rate: number; ended: number }> {
  const total = Math.round(rate * seconds);
  // What nines hears of is an update: the entries are there before the load begins.
  const change = settings.subject === "nines" ? "update" : "create";
  generator.encode(change, total);
  if (change === "update") await generator.fill(total);
  watcher.forget();
  const begin = performance.now();
  let done = 0;
  while (done < total && !stop()) {
    const now = performance.now();
    const due = Math.min(total, Math.floor(((now - begin) / 1000) * rate));
    for (let i = 0; done < due && i < 8; i++) {
      const more = Math.min(due - done, 64);
      watcher.expect(done, more, performance.now());
      generator.send(done, more);
      done += more;
      watcher.look();
    }
    watcher.look();
    await (done < due ? new Promise((resolve) => setImmediate(resolve)) : sleep(1));
  }
  const ended = performance.now();
  const refused = generator.refused();
  if (refused > 0) throw new Error(`the kernel refused ${refused} flows of the load`);
  return { flows: done, rate: (done / (ended - begin)) * 1000, ended };
}

/** What replicates on both nodes. */
interface Subject {
  overruns(): Promise<number>;
  start(name: Name): Promise<void>;
  /** Asks b's to have everything, and answers when it did. */
  resync(): Promise<number>;
  readonly processes: Map<Name, ChildProcess>;
}

/** As the parent starts the process (src/daemon/children.ts). */
const FLAGS = [
  ...(CHILD_KINDS.find(({ name }) => name === "flows")?.flags ?? []),
  ...(process.env["FLOWS_NODE_FLAGS"]?.split(" ") ?? []),
];

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
      compiled: true,
    };
    const file = fileURLToPath(new URL("../../src/forwarding/flows/testing/flows-node.ts", import.meta.url));
    const child = spaces[name].run(() =>
      spawn(process.execPath, [...FLAGS, "--import", "tsx", file, JSON.stringify(setup)], {
        stdio: ["ignore", "inherit", "inherit", "ipc"],
      }),
    );
    this.processes.set(name, child);
    await this.#ask(name, { do: "configure", services: [{ name: "web", router: "edge", mark: MARK }] });
    // As the process of redundancy tells it at once: without a word of it, the peers are met a second later.
    await this.#ask(name, { do: "active", routers: name === "a" ? ["edge"] : [] });
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
  await empty(subject);
  const before = { cpu: cpuOf(subject), bytes: wireBytes(), overruns: await subject.overruns() };
  const reached = await load(rate, seconds);
  await until(() => watcher.look() >= reached.flows, 5, 1);
  const behind = performance.now() - reached.ended;
  const { flows } = reached;
  return {
    wanted: rate,
    rate: reached.rate,
    flows,
    arrived: watcher.arrived,
    overruns: (await subject.overruns()) - before.overruns,
    behind,
    ...watcher.lags(flows),
    cpu: ((cpuOf(subject) - before.cpu) * 1e6) / flows,
    bytes: (wireBytes() - before.bytes) / flows,
  };
}

async function stopAll(subject: Subject): Promise<void> {
  for (const child of subject.processes.values()) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const ended = once(child, "exit");
    // conntrackd removes its lock file.
    if (child.connected) child.send({ do: "close" } satisfies NodeCommand);
    else child.kill("SIGTERM");
    await ended;
  }
  subject.processes.clear();
}

async function ready(subject: Subject): Promise<void> {
  await subject.start("b");
  await subject.start("a");
  for (const [name, { pid }] of subject.processes) {
    const [nice, realtime, policy] = schedulingOf(pid ?? 0);
    console.error(`${settings.subject} at ${name}: policy ${policy}, priority ${realtime}, nice ${nice}`);
  }
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
// Either has run for long where it counts: what a runtime compiles in its first seconds is not measured.
await step(subject, 10_000, 4);
const steps: Step[] = [];
for (const rate of settings.rates) {
  const one = await step(subject, rate, settings.seconds);
  steps.push(one);
  console.error(`${settings.subject} ${JSON.stringify(one)}`);
  // It does not hold this one, nor one beyond.
  if (one.arrived < one.flows || one.p99 > 1000) break;
}

let resync: number | undefined;
if (settings.resync > 0) {
  await stopAll(subject);
  await empty();
  await ready(subject);
  await load(20_000, settings.resync / 20_000);
  await until(() => watcher.look() >= 0 && count("b") >= settings.resync, 20);
  const begin = await subject.resync();
  if (await until(() => watcher.look() >= 0 && count("b") >= settings.resync, 30))
    resync = performance.now() - begin;
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
  await empty(nines);
  // In the middle of the load the node dies; what it had not told is lost with it.
  let at: number | undefined;
  const { flows } = await load(
    settings.delayRate,
    3,
    () => performance.now() >= (at ??= performance.now() + 1000),
  );
  nines.processes.get("a")?.kill("SIGKILL");
  await until(() => watcher.look() >= flows, 1, 1);
  delays.push({ ...one, delay, lost: flows - watcher.arrived });
  console.error(`delay ${JSON.stringify(delays.at(-1))}`);
  await stopAll(nines);
}
generator.close();
holder.kill("SIGKILL");
watcher.close();
finish({ steps, resync, delays } satisfies FlowsResult);
