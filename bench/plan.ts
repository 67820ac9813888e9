/* oxlint-disable typescript/no-unnecessary-type-assertion -- the linter sees benches without noUncheckedIndexedAccess */
// `npm run bench:plan [-- --quick] [-- --aims]`: nines and scram on scram's own large models, in turn, A B A B.
// Whole processes (reading, cut sets, probability, report) and what both say of the analysis alone. scram writes
// every cut set into its report; nines also computes the importance of every event, which takes scram much longer.
// Writes bench/results/plan.json and prints both. Run `npm run build` before.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Ratio, type Row, has, ratioOf, report, rowOf } from "./support/results.ts";

const MODELS = "/usr/share/scram/input";
const NINES = new URL("../dist/cli/main.js", import.meta.url).pathname;

const cases = [
  { name: "Chinese", files: ["Chinese/chinese.xml", "Chinese/chinese-basic-events.xml"], order: 20 },
  { name: "baobab2", files: ["Baobab/baobab2.xml", "Baobab/baobab2-basic-events.xml"], order: 20 },
  { name: "baobab1", files: ["Baobab/baobab1.xml", "Baobab/baobab1-basic-events.xml"], order: 20 },
  { name: "CEA9601-3", files: ["CEA9601/CEA9601.xml", "CEA9601/CEA9601-basic-events.xml"], order: 3 },
  { name: "CEA9601-4", files: ["CEA9601/CEA9601.xml", "CEA9601/CEA9601-basic-events.xml"], order: 4 },
];

if (!existsSync("/usr/bin/scram") || !existsSync(MODELS) || !existsSync(NINES)) {
  console.error("skipped: needs Debian's scram package, and the compiled program (npm run build)");
  process.exit(0);
}

interface Run {
  readonly wall: number;
  readonly analysis: number;
  /** MiB at the peak. */
  readonly memory: number;
  readonly probability: number;
  readonly sets: number;
}

const scratch = mkdtempSync(join(tmpdir(), "nines-bench-"));
const out = join(scratch, "out.xml");

/** Wall time in ms, peak resident memory as the kernel accounts it, standard output. */
function measure(
  command: string,
  args: readonly string[],
): Promise<{ wall: number; memory: number; text: string }> {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
    let memory = 0;
    let text = "";
    const look = setInterval(() => {
      try {
        const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
        memory = Math.max(memory, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
      } catch {
        // It has ended.
      }
    }, 2);
    child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
    child.on("close", (code) => {
      clearInterval(look);
      const wall = performance.now() - started;
      if (code === 0) resolve({ wall, memory, text });
      else reject(new Error(`${command} ended with ${code}`));
    });
  });
}

async function runScram(files: readonly string[], order: number): Promise<Run> {
  const args = ["--probability", "1", "-l", String(order), ...files, "-o", out];
  const { wall, memory } = await measure("scram", args);
  const text = readFileSync(out, "utf8");
  const seconds = ["products", "probability"].map((what) =>
    Number(new RegExp(`<${what}>([^<]*)</${what}>`).exec(text)?.[1] ?? 0),
  );
  const sum = /<sum-of-products [^>]*products="(\d+)" probability="([^"]*)"/.exec(text);
  return {
    wall,
    memory,
    analysis: seconds.reduce((a, b) => a + b, 0) * 1000,
    sets: Number(sum?.[1]),
    probability: Number(sum?.[2]),
  };
}

async function runNines(files: readonly string[], order: number): Promise<Run> {
  const { wall, memory, text } = await measure(process.execPath, [
    NINES,
    "plan",
    ...files,
    "--json",
    "--max-order",
    String(order),
  ]);
  const [top] = JSON.parse(text) as {
    probability: number;
    milliseconds: number;
    cutSets: { count: number };
  }[];
  return {
    wall,
    memory,
    analysis: top?.milliseconds ?? 0,
    sets: top?.cutSets.count ?? 0,
    probability: top?.probability ?? 0,
  };
}

const repeat = has("--quick") ? 3 : 9;
const metrics = [
  { metric: "process", unit: "ms", of: (run: Run) => run.wall },
  { metric: "analysis", unit: "ms", of: (run: Run) => run.analysis },
  { metric: "memory", unit: "MiB", of: (run: Run) => run.memory },
] as const;

const rows: Row[] = [];
const ratios: Ratio[] = [];
for (const { name, files: given, order } of cases) {
  const files = given.map((file) => join(MODELS, file));
  const runs: Record<"nines" | "scram", Run[]> = { nines: [], scram: [] };
  for (let i = 0; i < repeat; i++) {
    runs.nines.push(await runNines(files, order));
    runs.scram.push(await runScram(files, order));
  }
  const [ours, theirs] = [runs.nines[0]!, runs.scram[0]!];
  if (ours.sets !== theirs.sets || Math.abs(ours.probability / theirs.probability - 1) > 1e-5)
    throw new Error(
      `${name}: the answers differ: ${ours.sets} ${ours.probability}, ${theirs.sets} ${theirs.probability}`,
    );
  for (const { metric, unit, of } of metrics) {
    for (const subject of ["nines", "scram"] as const)
      rows.push(rowOf(name, subject, metric, unit, runs[subject].map(of)));
    // The aim is speed; memory is reported.
    ratios.push(...ratioOf(rows, [name, metric, "nines", "scram"], metric === "memory" ? null : 1));
  }
}
rmSync(scratch, { recursive: true, force: true });
report("plan", rows, ratios);
