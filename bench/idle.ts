// `npm run bench:idle [-- --quick] [-- --aims]`: memory and CPU of an idle layer-4 node, per process, while it is Active at
// 100 ms advertisements beside a Backup. Needs root (namespaces). Writes bench/results/idle.json.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { PAIR, edgeSite, openPair } from "../src/daemon/testing/sites.ts";
import { makeKeys } from "../src/forwarding/flows/keys.ts";
import { type Ratio, has, report, rowOf } from "./support/results.ts";

/** The design's aim for all processes of an idle layer-4 node, in MiB of proportional memory. */
const AIM_MIB = 100;
const seconds = has("--quick") ? 5 : 30;
const runs = has("--quick") ? 2 : 3;
const ticksPerSecond = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

const keys = mkdtempSync(join(tmpdir(), "nines-idle-"));
const site = edgeSite(PAIR, {
  flows: { keys },
  pools: {
    apps: {
      backends: { one: "10.9.0.11:80", two: "10.9.0.12:80", three: "10.9.0.13:80" },
      check: { tcp: true, interval: "1s", timeout: "500ms" },
    },
  },
  services: { web: { on: "edge", listen: "10.9.0.1:80/tcp", forward: { pool: "apps" } } },
});

interface Sample {
  readonly process: string;
  /** MiB as the kernel divides shared pages, here among all programs that run on Node on this host. */
  readonly pss: number;
  /** The same if nothing else on the host ran on Node: shared pages are divided among this node's processes only. */
  readonly alone: number;
  readonly rss: number;
  /** Per cent of one core. */
  readonly cpu: number;
}

function memory(pid: number, processes: number): Omit<Sample, "process" | "cpu"> {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const mib = (field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? 0) / 1024;
  const own = mib("Private_Clean") + mib("Private_Dirty");
  const shared = mib("Shared_Clean") + mib("Shared_Dirty");
  return { pss: mib("Pss"), alone: own + shared / processes, rss: mib("Rss") };
}

function cpuTicks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  // utime and stime, the 14th and 15th of proc(5); two went with the name.
  return Number(fields[11]) + Number(fields[12]);
}

async function measure(): Promise<Sample[]> {
  const pair = await openPair(site);
  const { a, b } = pair;
  try {
    a.start("a");
    for (let i = 0; i < 200; i++) {
      const status = await a.status().catch(() => undefined);
      if (status?.routers[0]?.state === "active") break;
      if (i === 199) throw new Error("the node did not become Active within 20 s");
      await sleep(100);
    }
    b.start("b");
    // The start's garbage is collected and its caches are filled.
    await sleep(10_000);
    const pids = [
      ["parent", a.pid] as const,
      ...a.processes().map(({ name, pid }) => [name, pid ?? 0] as const),
    ];
    const before = pids.map(([, pid]) => cpuTicks(pid));
    await sleep(seconds * 1000);
    return pids.map(([name, pid], i) => ({
      process: name,
      ...memory(pid, pids.length),
      cpu: ((cpuTicks(pid) - (before[i] ?? 0)) / ticksPerSecond / seconds) * 100,
    }));
  } finally {
    await pair.end();
  }
}

await makeKeys(keys, "shop", ["a", "b"]);
process.on("exit", () => rmSync(keys, { recursive: true, force: true }));
const samples: Sample[][] = [];
for (let run = 0; run < runs; run++) {
  const these = await measure();
  const sum = (of: (sample: Sample) => number): number => these.reduce((total, each) => total + of(each), 0);
  these.push({
    process: "all",
    pss: sum((each) => each.pss),
    alone: sum((each) => each.alone),
    rss: sum((each) => each.rss),
    cpu: sum((each) => each.cpu),
  });
  samples.push(these);
}

const columns = [
  { metric: "memory", subject: "PSS", unit: "MiB", of: (each: Sample) => each.pss },
  { metric: "memory", subject: "PSS alone", unit: "MiB", of: (each: Sample) => each.alone },
  { metric: "memory", subject: "RSS", unit: "MiB", of: (each: Sample) => each.rss },
  { metric: "cpu", subject: "nines", unit: "% of a core", of: (each: Sample) => each.cpu },
] as const;
const names = (samples[0] ?? []).map((each) => each.process);
const rows = columns.flatMap(({ metric, subject, unit, of }) =>
  names.map((name) => {
    const values = samples.flatMap((run) => run.filter((each) => each.process === name).map(of));
    return rowOf(name, subject, metric, unit, values);
  }),
);
const total = rows.find((row) => row.case === "all" && row.subject === "PSS alone")?.median ?? 0;
const ratios: Ratio[] = [
  { case: "all", metric: "memory", against: `${AIM_MIB} MiB`, value: total / AIM_MIB, aim: 1 },
];
report("idle", rows, ratios);
