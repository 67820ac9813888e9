// `npm run bench:proxy [-- --quick] [-- --aims] [-- --only CASE]`: nines beside HAProxy, nginx, Caddy, http-proxy-3 and a
// proxy on node:http and undici, each on core 0, load and backends on core 1, in turn, A B C A B C. CPU is what the
// kernel charged to the proxy's processes, divided by the requests answered. Writes bench/results/proxy.json, except
// with `--only` (a part of a case's name), which measures and prints those cases alone.
import { type ChildProcess, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LoadCase, LOAD_CASES, MEMORY_CASES, driverArgs } from "./proxy/cases.ts";
import { LOAD_CORE, cpuOf, family, onCore, stop, untilAnswers } from "./proxy/process.ts";
import { print, ratiosOf } from "./proxy/report.ts";
import { type Row, has, report, rowOf } from "./support/results.ts";
import { BACKEND, ECHO, SUBJECTS, type Subject, backendConfig } from "./proxy/subjects.ts";

const only = has("--only") ? (process.argv[process.argv.indexOf("--only") + 1] ?? "") : "";
const installed = (tool: string): boolean =>
  tool === "node" || spawnSync("which", [tool], { stdio: "ignore" }).status === 0;
const wanted = ({ name }: { name: string }): boolean => name.includes(only);
const quick = has("--quick");
const seconds = quick ? 2 : 3;
const rounds = quick ? 3 : 5;
const idleCount = quick ? 2000 : 4000;

const children = new Set<ChildProcess>();
const directory = mkdtempSync(join(tmpdir(), "nines-bench-proxy-"));

function prepare(): void {
  mkdirSync(join(directory, "files"));
  writeFileSync(join(directory, "files", "64k"), Buffer.alloc(65_536, "x"));
  writeFileSync(join(directory, "files", "10m"), Buffer.alloc(10 * 1_048_576, "x"));
  const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")];
  const request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=bench";
  spawnSync("openssl", [...request.split(" "), "-keyout", key, "-out", cert], { stdio: "ignore" });
  spawnSync("sh", ["-c", `cat ${cert} ${key} > ${join(directory, "both.pem")}`]);
  writeFileSync(join(directory, "backend.conf"), backendConfig(directory));
  children.add(onCore(LOAD_CORE, "nginx", ["-c", join(directory, "backend.conf")]));
  children.add(onCore(LOAD_CORE, process.execPath, driverArgs("echo", ECHO, 0)));
}

async function start(subject: Subject): Promise<ChildProcess> {
  const child = subject.start(directory);
  children.add(child);
  await untilAnswers(subject.port);
  await untilAnswers(subject.tlsPort);
  return child;
}

/** The values of each metric of one subject in one case. */
class Samples {
  readonly of = new Map<string, { unit: string; values: number[] }>();
  add(metric: string, unit: string, value: number): void {
    const kept = this.of.get(metric);
    if (kept === undefined) this.of.set(metric, { unit, values: [value] });
    else kept.values.push(value);
  }
}

function measure(one: LoadCase, subject: Subject, pid: number, samples: Samples): void {
  const pids = family(pid);
  const before = cpuOf(pids);
  const began = performance.now();
  const { requests, p50, p99 } = one.load(subject, seconds, directory);
  const took = (performance.now() - began) / 1000;
  const after = cpuOf(pids);
  const [user, system] = [(after[0] - before[0]) / requests, (after[1] - before[1]) / requests];
  samples.add("cpu", `us a ${one.unit}`, user + system);
  samples.add("user cpu", `us a ${one.unit}`, user);
  samples.add("system cpu", `us a ${one.unit}`, system);
  samples.add("rate", `${one.unit}s/s`, requests / took);
  samples.add("p50", "ms", p50);
  samples.add("p99", "ms", p99);
}

const rowsOf = (name: string, subject: Subject, samples: Samples): Row[] =>
  [...samples.of].map(([metric, { unit, values }]) => rowOf(name, subject.name, metric, unit, values));

async function loads(subjects: readonly Subject[]): Promise<Row[]> {
  const rows: Row[] = [];
  const cases = LOAD_CASES.filter(wanted);
  if (cases.length === 0) return rows;
  const running = new Map<Subject, ChildProcess>();
  for (const subject of subjects) running.set(subject, await start(subject));
  for (const one of cases) {
    const able: Subject[] = [];
    for (const subject of subjects)
      if (one.able === undefined || (await one.able(subject))) able.push(subject);
    const samples = new Map(able.map((subject) => [subject, new Samples()]));
    // Node compiles what runs often: nobody is measured cold.
    for (const subject of able) one.load(subject, 2, directory);
    for (let i = 0; i < rounds; i++)
      for (const [subject, into] of samples) measure(one, subject, running.get(subject)?.pid ?? 0, into);
    for (const [subject, of] of samples) rows.push(...rowsOf(one.name, subject, of));
    console.log(`measured: ${one.name}`);
  }
  for (const child of running.values()) await stop(child);
  return rows;
}

/** A process of its own for each, so that memory which earlier work left free hides nothing. */
async function memory(subjects: readonly Subject[]): Promise<Row[]> {
  const rows: Row[] = [];
  for (const one of MEMORY_CASES.filter(wanted)) {
    for (const subject of subjects) {
      const samples = new Samples();
      for (let i = 0; i < (quick ? 1 : 2); i++) {
        const child = await start(subject);
        samples.add("memory", "KiB", (await one.memory(subject, child.pid ?? 0, idleCount)) / 1024);
        await stop(child);
      }
      rows.push(...rowsOf(one.name, subject, samples));
    }
    console.log(`measured: ${one.name}`);
  }
  return rows;
}

async function main(): Promise<void> {
  for (const tool of ["wrk", "h2load", "nginx", "taskset", "openssl"])
    if (!installed(tool)) throw new Error(`${tool} is not installed`);
  const subjects = SUBJECTS.filter(({ tool }) => installed(tool));
  const rows: Row[] = [];
  try {
    prepare();
    await untilAnswers(BACKEND);
    await untilAnswers(ECHO);
    rows.push(...(await loads(subjects)), ...(await memory(subjects)));
  } finally {
    for (const child of children) await stop(child);
    rmSync(directory, { recursive: true, force: true });
  }
  const ratios = ratiosOf(rows);
  print(rows, ratios);
  if (only === "") report("proxy", rows, ratios);
}

await main();
