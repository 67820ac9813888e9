// `npm run soak`: connections come and go for 30 minutes while the addresses move to the other node every 20 s, in a lab
// of the two-tier example. Counts the connections that were lost, and watches what could grow: connection tables, nftables'
// elements, the flows processes' tables, memory by process (PSS). In the end all connections are closed: what is then
// still in a table was leaked. Prints the series, and writes bench/results/soak.json. Ends with 1 where one was lost,
// leaked, or memory grew. Behind --: --minutes N (30), --arrivals N per second (50), --every N seconds (20), --slack KiB that
// a process may have more in the last third than in the middle one beside 15 % (3000), --no-result, --heaps.
//
// PSS also grows by what the engine compiles and keeps for later. With --heaps the heaps are looked into instead, before and
// after: what lives there after a full collection. That look itself costs memory, so that PSS means nothing then.
//
// TCP's TIME_WAIT is 5 s in the nodes' kernels here instead of two minutes, so that tables are in their steady state
// after seconds and an entry too many is seen.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { loadSite } from "../src/config/load.ts";
import type { NodeStatus } from "../src/contracts/api.ts";
import { hostClock } from "../src/lab/host-clock.ts";
import { Lab } from "../src/lab/lab.ts";
import { insideLab, repeatInLab, runtimeOf, settleIn } from "../src/lab/outer.ts";
import { Probers } from "../src/lab/probers.ts";
import { attempt, findProgram, run } from "../src/lab/shell.ts";
import { usualStreams } from "../src/lab/streams.ts";
import { askControl } from "../src/lab/subjects/control.ts";
import { makeSubject } from "../src/lab/subjects/index.ts";
import { has, median, numberAfter, report, rowOf } from "./support/results.ts";
import { variantFile } from "./support/variants.ts";

for (const tool of ["conntrack", "nft"])
  if (findProgram(tool) === undefined) {
    console.error(`skipped: ${tool} is not installed`);
    process.exit(0);
  }
if (!insideLab()) process.exit(await repeatInLab("soak"));

const minutes = numberAfter("--minutes") ?? 30;
const arrivals = numberAfter("--arrivals") ?? 50;
const every = (numberAfter("--every") ?? 20) * 1000;
/** Each connection lives for so long, in ms. */
const LIFE = 10_000;
const SAMPLE_EVERY = 5000;
/** Until tables are empty after the end: who ended during a hand-over may take two minutes, on both nodes. */
const EMPTY_WITHIN = 240_000;
/** The median of the last third of the run may be so much above that of the middle third. */
const GROWTH = { share: 1.15, kib: numberAfter("--slack") ?? 3000 };

/** Bytes that may live in a heap in the end beside those of the beginning. */
const HEAP = 1_000_000;

const file = variantFile("preserved");
const { site } = await loadSite(file);
await settleIn();
const lab = new Lab(site, file);
await lab.up();
const subject = makeSubject("nines", lab);
const missing = subject.unavailable();
if (missing !== undefined) throw new Error(missing);
await lab.startSubject(subject);
for (const node of lab.nodes) {
  await run([
    "ip",
    "netns",
    "exec",
    node,
    "sysctl",
    "-qw",
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait=5",
    "net.netfilter.nf_conntrack_tcp_timeout_close=5",
  ]);
  await subject.synced(node);
}

const runtime = (node: string): string => `${runtimeOf(lab.work, node)}/${node}`;
const status = async (node: string): Promise<NodeStatus> =>
  (await askControl(runtime(node), "GET", "/v1/status", undefined, 5000)) as NodeStatus;

interface Sample {
  /** Seconds since the beginning. */
  readonly at: number;
  readonly node: string;
  /** Entries of services in the kernel's connection table. */
  readonly connections: number;
  /** Of the flows process: its own, and those that it holds for the other. */
  readonly own: number;
  readonly others: number;
  /** Elements of all sets and maps of our tables. */
  readonly elements: number;
  /** KiB, by process. */
  readonly memory: Readonly<Record<string, number>>;
}

/** Listing them also lets the kernel throw out what has expired. */
async function connectionsOf(node: string): Promise<string> {
  const list = ["conntrack", "-L", "-m", "0x4e000000/0xff000000"];
  return (await attempt(["ip", "netns", "exec", node, ...list])).stdout.trimEnd();
}
const countOf = (list: string): number => (list === "" ? 0 : list.split("\n").length);
async function elements(node: string): Promise<number> {
  const { stdout } = await attempt(["ip", "netns", "exec", node, "nft", "-j", "list", "ruleset"]);
  const { nftables } = JSON.parse(stdout) as { nftables: Record<string, { elem?: unknown[] }>[] };
  return nftables.reduce((sum, one) => sum + ((one["set"] ?? one["map"])?.elem?.length ?? 0), 0);
}
function processes(node: string): { readonly name: string; readonly pid: number }[] {
  const { children } = JSON.parse(readFileSync(`${runtime(node)}/processes.json`, "utf8")) as {
    children: readonly { name: string; pid?: number }[];
  };
  return children.flatMap(({ name, pid }) => (pid === undefined ? [] : [{ name, pid }]));
}
/** Bytes that live in the heap of each process of a node (support/heap-entry.ts), which stands still meanwhile. */
async function heaps(node: string): Promise<Record<string, number>> {
  const entry = new URL("support/heap-entry.ts", import.meta.url).pathname;
  const look = ["ip", "netns", "exec", node, process.execPath, "--experimental-websocket", "--no-warnings"];
  const found: Record<string, number> = {};
  for (const { name, pid } of processes(node)) {
    process.kill(pid, "SIGUSR1");
    await sleep(1000);
    found[name] = Number(await run([...look, "--import", import.meta.resolve("tsx"), entry]));
  }
  return found;
}
function memory(node: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const { name, pid } of processes(node)) {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    found[name] = Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0);
  }
  return found;
}
async function sample(at: number): Promise<Sample[]> {
  return await Promise.all(
    lab.nodes.map(async (node): Promise<Sample> => {
      const { flows } = await status(node);
      return {
        at,
        node,
        connections: countOf(await connectionsOf(node)),
        own: flows?.own ?? 0,
        others: flows?.others ?? 0,
        elements: await elements(node),
        memory: memory(node),
      };
    }),
  );
}

const alive = async (): Promise<Map<string, Record<string, number>>> => {
  const found = new Map<string, Record<string, number>>();
  for (const node of lab.nodes) found.set(node, await heaps(node));
  return found;
};
const before = has("--heaps") ? await alive() : undefined;
await lab.steady();

const probers = new Probers(lab.client, false);
const streams = usualStreams(lab.plan).flatMap((spec) =>
  spec.kind === "connect"
    ? [
        { ...spec, interval: 100 },
        {
          ...spec,
          stream: "arriving",
          kind: "arriving" as const,
          interval: 1000 / arrivals,
          connections: (LIFE * arrivals) / 1000,
        },
      ]
    : [],
);
await probers.begin(streams);

const begun = hostClock.monotonic();
const seconds = (): number => Math.round((hostClock.monotonic() - begun) / 1000);
const end = begun + minutes * 60_000;
const series: Sample[] = [];
const show = ({ at, node, memory: kib, ...sizes }: Sample): string =>
  `${String(at).padStart(5)} s  ${node}  connections ${sizes.connections}  flows ${sizes.own}+${sizes.others}  elements ${sizes.elements}  KiB ${Object.entries(
    kib,
  )
    .map(([name, size]) => `${name} ${size}`)
    .join(", ")}`;
let switchovers = 0;
const failures: string[] = [];
let nextSwitch = begun + every;
while (hostClock.monotonic() < end) {
  await sleep(SAMPLE_EVERY);
  if (hostClock.monotonic() >= nextSwitch) {
    nextSwitch += every;
    const from = await lab.steady();
    const to = lab.nodes.find((node) => node !== from) ?? from;
    await subject.switchover(from, to).then(
      () => switchovers++,
      (error: unknown) => failures.push(`${seconds()} s: ${String(error)}`),
    );
    await lab.steady();
    continue;
  }
  const now = await sample(seconds());
  series.push(...now);
  for (const one of now) console.log(show(one));
}
const { kept } = await probers.end();
probers.stop();
const outcome = kept.get("arriving") ?? { before: 0, kept: 0 };

/** What is still in a table, once nobody has a connection. */
let left: Sample[] = [];
const settle = hostClock.monotonic() + EMPTY_WITHIN;
do {
  await sleep(2000);
  left = await sample(seconds());
} while (
  left.some(({ connections: count, own, others }) => count + own + others > 0) &&
  hostClock.monotonic() < settle
);
for (const one of left) {
  console.log(show(one));
  if (one.connections > 0) console.log(await connectionsOf(one.node));
}

const after = has("--heaps") ? await alive() : undefined;

const third = (from: number, to: number): Sample[] =>
  series.filter(({ at }) => at >= (from * minutes * 60) / 3 && at < (to * minutes * 60) / 3);
// One that is refused (a node that is not in sync) is no loss; but without any this was no soak.
const problems = switchovers === 0 ? ["no switchover took place"] : [];
for (const one of failures) console.log(`a switchover was refused: ${one}`);
const lost = outcome.before - outcome.kept;
if (lost > 0)
  problems.push(`${lost} of ${outcome.before} connections were lost: ${JSON.stringify(outcome.lost)}`);
for (const { node, connections: count, own, others } of left)
  if (count + own + others > 0)
    problems.push(`${node} still has ${count} connections, flows ${own} own and ${others} of others`);
const rows = lab.nodes.flatMap((node) => {
  const mine = series.filter((one) => one.node === node);
  const names = Object.keys(mine.at(-1)?.memory ?? {});
  for (const name of names) {
    const [begin = Number.NaN, now = Number.NaN] = [before, after].map((heap) => heap?.get(node)?.[name]);
    if (before !== undefined) console.log(`${name} of ${node}: ${begin} bytes alive, in the end ${now}`);
    // Not a number where a process was started anew, or could not be looked into.
    if (before !== undefined && !(now <= begin + HEAP))
      problems.push(`${name} of ${node} had ${begin} bytes alive at the beginning and ${now} in the end`);
    const of = (list: readonly Sample[]): number =>
      median(list.flatMap((one) => (one.node === node ? [one.memory[name] ?? 0] : [])));
    const [middle, last] = [of(third(1, 2)), of(third(2, 3))];
    if (before === undefined && last > middle * GROWTH.share + GROWTH.kib)
      problems.push(
        `${name} of ${node} grew from ${middle} to ${last} KiB between the middle and the last third`,
      );
  }
  return [
    rowOf(
      "table",
      node,
      "connections",
      "entries",
      mine.map((one) => one.connections),
    ),
    rowOf(
      "table",
      node,
      "flows",
      "entries",
      mine.map(({ own, others }) => own + others),
    ),
    rowOf(
      "table",
      node,
      "nftables",
      "elements",
      mine.map((one) => one.elements),
    ),
    ...names.map((name) =>
      rowOf(
        "memory",
        node,
        name,
        "KiB",
        mine.map((one) => one.memory[name] ?? 0),
      ),
    ),
  ];
});
if (has("--no-result") || before !== undefined) console.log(JSON.stringify({ outcome, left, switchovers }));
else report("soak", rows, [], { minutes, arrivals, switchovers, outcome, left, problems, series });
console.log(
  `${outcome.before} connections in ${minutes} minutes, ${switchovers} switchovers, ${lost} lost; ${problems.length === 0 ? "nothing leaked, nothing grew" : "see below"}`,
);
for (const one of problems) console.log(`problem: ${one}`);
process.exit(problems.length === 0 ? 0 : 1);
