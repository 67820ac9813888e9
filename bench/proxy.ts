// `npm run bench:proxy [-- --quick] [-- --aims]`: nines beside HAProxy, nginx, Caddy and a proxy on node:http, each on
// core 0, load (wrk) and backend (nginx) on core 1, in turn, A B C A B C. All configured alike: request id,
// X-Forwarded-For, -Proto and -Host, an access log to a file, kept connections on both sides. CPU is what the
// kernel charged to the proxy's processes, divided by the requests answered. Writes bench/results/proxy.json.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { Agent, createServer, request } from "node:http";
import { connect } from "node:net";
import { cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import { poolSchema } from "../src/config/schema/pools.ts";
import { serviceSchema } from "../src/config/schema/services.ts";
import { Proxy } from "../src/proxy/proxy.ts";

const has = (flag: string): boolean => process.argv.includes(flag);
const option = (flag: string): string => process.argv[process.argv.indexOf(flag) + 1] ?? "";
const BACKEND = 19_000;

interface Subject {
  readonly name: string;
  readonly port: number;
  readonly tool: string;
  start(directory: string): ChildProcess;
}

interface Row {
  readonly case: string;
  readonly subject: string;
  readonly metric: string;
  readonly unit: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly runs: number;
}

interface Ratio {
  readonly case: string;
  readonly metric: string;
  readonly against: string;
  readonly value: number;
  readonly aim: number;
}

const onCore = (core: number, command: string, args: readonly string[], log?: string): ChildProcess =>
  spawn(
    "taskset",
    ["-c", String(core), "sh", "-c", `exec "$0" "$@" > ${log ?? "/dev/null"} 2>/dev/null`, command, ...args],
    {
      stdio: "ignore",
    },
  );

const self = (subject: string, port: number, directory: string): ChildProcess =>
  onCore(0, process.execPath, [
    ...process.execArgv,
    import.meta.filename,
    "--subject",
    subject,
    String(port),
    directory,
  ]);

const write = (directory: string, name: string, text: string): string => {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
};

const SUBJECTS: readonly Subject[] = [
  { name: "nines", port: 19_001, tool: "node", start: (directory) => self("nines", 19_001, directory) },
  {
    name: "haproxy",
    port: 19_002,
    tool: "haproxy",
    start: (directory) =>
      onCore(
        0,
        "haproxy",
        [
          "-f",
          write(
            directory,
            "haproxy.cfg",
            `global
  nbthread 1
  maxconn 8000
  log stdout format raw local0
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  log global
  option httplog
  option forwardfor
  unique-id-format %{+X}o%ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
frontend web
  bind 127.0.0.1:19002
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(Host)]
  default_backend apps
backend apps
  server a 127.0.0.1:${BACKEND}
`,
          ),
        ],
        join(directory, "haproxy.log"),
      ),
  },
  {
    name: "nginx",
    port: 19_003,
    tool: "nginx",
    start: (directory) =>
      onCore(0, "nginx", [
        "-c",
        write(
          directory,
          "nginx.conf",
          `worker_processes 1; daemon off; pid ${directory}/nginx.pid; error_log /dev/null;
events { worker_connections 8000; }
http { access_log ${directory}/nginx.log combined buffer=64k flush=1s; keepalive_requests 1000000000;
  upstream apps { server 127.0.0.1:${BACKEND}; keepalive 128; keepalive_requests 1000000000; }
  server { listen 127.0.0.1:19003 backlog=4096; location / { proxy_pass http://apps; proxy_http_version 1.1;
    proxy_set_header Connection ""; proxy_set_header Host $http_host; proxy_set_header X-Request-Id $request_id;
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host; } } }
`,
        ),
      ]),
  },
  {
    name: "caddy",
    port: 19_004,
    tool: "caddy",
    start: (directory) =>
      onCore(0, "env", [
        "GOMAXPROCS=1",
        `HOME=${directory}`,
        "caddy",
        "run",
        "--adapter",
        "caddyfile",
        "--config",
        write(
          directory,
          "Caddyfile",
          `{
  admin off
  auto_https off
}
http://127.0.0.1:19004 {
  log {
    output file ${directory}/caddy.log
  }
  reverse_proxy 127.0.0.1:${BACKEND} {
    header_up X-Request-Id {http.request.uuid}
  }
}
`,
        ),
      ]),
  },
  {
    name: "node-http",
    port: 19_005,
    tool: "node",
    start: (directory) => self("node-http", 19_005, directory),
  },
];

/** The proxies that this file itself is, run as a process of its own. */
async function beSubject(name: string, port: number, directory: string): Promise<void> {
  if (name === "nines") {
    const proxy = new Proxy();
    await proxy.apply({
      pools: { apps: poolSchema.parse({ backends: { a: `127.0.0.1:${BACKEND}` } }) },
      services: {
        web: serviceSchema.parse({
          listen: `127.0.0.1:${port}/tcp`,
          proxy: { pool: "apps", accessLog: { file: join(directory, "nines.log") } },
        }),
      },
    });
    return;
  }
  const agent = new Agent({ keepAlive: true, maxSockets: 256 });
  let id = 0;
  createServer((incoming, response) => {
    const outgoing = request(
      {
        agent,
        host: "127.0.0.1",
        port: BACKEND,
        path: incoming.url,
        method: incoming.method,
        headers: {
          ...incoming.headers,
          "x-request-id": String(id++),
          "x-forwarded-for": incoming.socket.remoteAddress,
          "x-forwarded-proto": "http",
          "x-forwarded-host": incoming.headers.host,
        },
      },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      },
    );
    outgoing.on("error", () => response.destroy());
    incoming.pipe(outgoing);
  }).listen(port, "127.0.0.1");
}

/** Processes of a subject: the one that was started and its children. */
function family(pid: number): number[] {
  const all = readdirSync("/proc").flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    try {
      const fields = readFileSync(`/proc/${entry}/stat`, "utf8")
        .replace(/^.*\) /, "")
        .split(" ");
      return [{ pid: Number(entry), parent: Number(fields[1]) }];
    } catch {
      return [];
    }
  });
  return [pid, ...all.filter(({ parent }) => parent === pid).map((one) => one.pid)];
}

/** User and system time in microseconds; a tick is 10 ms. */
function cpuOf(pids: readonly number[]): [number, number] {
  let user = 0;
  let system = 0;
  for (const pid of pids) {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /, "")
      .split(" ");
    user += Number(fields[11]) * 10_000;
    system += Number(fields[12]) * 10_000;
  }
  return [user, system];
}

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });

async function untilAnswers(port: number): Promise<void> {
  for (let i = 0; i < 100; i++) {
    if (await answers(port)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`nothing listens on port ${port}`);
}

const CASES: readonly { name: string; path: string; connections: number; headers: readonly string[] }[] = [
  { name: "tiny GET, kept connections", path: "/", connections: 64, headers: [] },
  { name: "64 KiB response", path: "/64k", connections: 32, headers: [] },
  { name: "tiny GET, a connection each", path: "/", connections: 32, headers: ["Connection: close"] },
];

const toMs = (text: string): number => {
  const value = Number.parseFloat(text);
  return text.endsWith("us") ? value / 1000 : text.endsWith("ms") ? value : value * 1000;
};

interface Sample {
  readonly user: number;
  readonly system: number;
  readonly rate: number;
  readonly p50: number;
  readonly p99: number;
}

function load(subject: Subject, pid: number, one: (typeof CASES)[number], seconds: number): Sample {
  const pids = family(pid);
  const before = cpuOf(pids);
  const headers = ["User-Agent: bench", "Accept: */*", ...one.headers].flatMap((header) => ["-H", header]);
  const url = `http://127.0.0.1:${subject.port}${one.path}`;
  const args = [
    "-c",
    "1",
    "wrk",
    "-t1",
    `-c${one.connections}`,
    `-d${seconds}s`,
    "--latency",
    ...headers,
    url,
  ];
  const out = spawnSync("taskset", args, { encoding: "utf8" }).stdout;
  const after = cpuOf(pids);
  const requests = Number(/(\d+) requests in/.exec(out)?.[1] ?? 0);
  if (/Non-2xx/.test(out) || requests === 0) throw new Error(`${subject.name}: ${out}`);
  return {
    user: (after[0] - before[0]) / requests,
    system: (after[1] - before[1]) / requests,
    rate: Number(/Requests\/sec:\s+([\d.]+)/.exec(out)?.[1] ?? 0),
    p50: toMs(/ 50%\s+(\S+)/.exec(out)?.[1] ?? "0"),
    p99: toMs(/ 99%\s+(\S+)/.exec(out)?.[1] ?? "0"),
  };
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
const round = (value: number): number => Math.round(value * 100) / 100;

async function main(): Promise<void> {
  const installed = (tool: string): boolean => spawnSync("which", [tool]).status === 0;
  for (const tool of ["wrk", "nginx", "taskset"])
    if (!installed(tool)) throw new Error(`${tool} is not installed`);
  const subjects = SUBJECTS.filter(({ tool }) => tool === "node" || installed(tool));
  const directory = mkdtempSync(join(tmpdir(), "nines-bench-proxy-"));
  writeFileSync(join(directory, "64k"), Buffer.alloc(65_536, "x"));
  const children: ChildProcess[] = [];
  const samples = new Map<string, Sample[]>();
  try {
    children.push(
      onCore(1, "nginx", [
        "-c",
        write(
          directory,
          "backend.conf",
          `worker_processes 1; daemon off; pid ${directory}/backend.pid; error_log /dev/null; user root;
events { worker_connections 8000; }
http { access_log off; keepalive_requests 1000000000; keepalive_timeout 120s;
  server { listen 127.0.0.1:${BACKEND} backlog=4096; location = / { return 200 "hello world!\\n"; } location / { root ${directory}; } } }
`,
        ),
      ]),
    );
    await untilAnswers(BACKEND);
    const running = new Map<Subject, ChildProcess>();
    for (const subject of subjects) {
      const child = subject.start(directory);
      children.push(child);
      running.set(subject, child);
      await untilAnswers(subject.port);
    }
    const seconds = has("--quick") ? 2 : 8;
    const rounds = has("--quick") ? 3 : 7;
    for (const one of CASES) {
      // Node compiles what it runs often: nobody is measured cold.
      for (const [subject, child] of running) load(subject, child.pid ?? 0, one, 2);
      for (let i = 0; i < rounds; i++) {
        for (const [subject, child] of running) {
          const key = `${one.name}|${subject.name}`;
          const sample = load(subject, child.pid ?? 0, one, seconds);
          samples.set(key, [...(samples.get(key) ?? []), sample]);
        }
      }
    }
  } finally {
    for (const child of children) child.kill("SIGTERM");
    rmSync(directory, { recursive: true, force: true });
  }
  report(subjects, samples);
}

function report(subjects: readonly Subject[], samples: ReadonlyMap<string, readonly Sample[]>): void {
  const rows: Row[] = [];
  const metrics: readonly [string, string, (sample: Sample) => number][] = [
    ["cpu per request", "us", (sample) => sample.user + sample.system],
    ["user cpu per request", "us", (sample) => sample.user],
    ["system cpu per request", "us", (sample) => sample.system],
    ["requests", "1/s", (sample) => sample.rate],
    ["p50", "ms", (sample) => sample.p50],
    ["p99", "ms", (sample) => sample.p99],
  ];
  for (const one of CASES) {
    for (const subject of subjects) {
      const these = samples.get(`${one.name}|${subject.name}`) ?? [];
      for (const [metric, unit, of] of metrics) {
        const values = these.map(of);
        rows.push({
          case: one.name,
          subject: subject.name,
          metric,
          unit,
          median: round(median(values)),
          min: round(Math.min(...values)),
          max: round(Math.max(...values)),
          runs: values.length,
        });
      }
    }
  }
  const cpu = (name: string, subject: string): number | undefined =>
    rows.find((row) => row.case === name && row.subject === subject && row.metric === "cpu per request")
      ?.median;
  const ratios: Ratio[] = [];
  const aims: readonly [string, number][] = [
    ["haproxy", 1.5],
    ["caddy", 0.4],
  ];
  for (const [against, aim] of aims) {
    const name = CASES[0]?.name ?? "";
    const [ours, theirs] = [cpu(name, "nines"), cpu(name, against)];
    if (ours !== undefined && theirs !== undefined)
      ratios.push({ case: name, metric: "cpu per request", against, value: round(ours / theirs), aim });
  }
  for (const one of CASES) {
    console.log(`\n${one.name}`);
    for (const subject of subjects) {
      const of = (metric: string): Row | undefined =>
        rows.find((row) => row.case === one.name && row.subject === subject.name && row.metric === metric);
      const total = of("cpu per request");
      console.log(
        `  ${subject.name.padEnd(10)} ${String(total?.median).padStart(7)} us CPU a request (${total?.min}-${total?.max}; ` +
          `user ${of("user cpu per request")?.median}, system ${of("system cpu per request")?.median})  ` +
          `${Math.round(of("requests")?.median ?? 0)} requests/s  p50 ${of("p50")?.median} ms  p99 ${of("p99")?.median} ms`,
      );
    }
  }
  console.log("");
  for (const ratio of ratios)
    console.log(`nines / ${ratio.against}: ${ratio.value} of the CPU (aim: at most ${ratio.aim})`);
  const results = new URL("./results/", import.meta.url).pathname;
  mkdirSync(results, { recursive: true });
  const machine = `${cpus()[0]?.model ?? "?"} x ${cpus().length}, Linux ${release()}, Node ${process.version}`;
  writeFileSync(
    join(results, "proxy.json"),
    `${JSON.stringify({ bench: "proxy", date: new Date().toISOString(), machine, rows, ratios }, undefined, 2)}\n`,
  );
  const missed = ratios.filter(({ value, aim }) => value > aim);
  if (!has("--aims")) return;
  for (const { case: name, against, value, aim } of missed)
    console.log(`missed: ${name}, against ${against}: ${value}, aim ${aim}`);
  process.exitCode = missed.length > 0 ? 1 : 0;
}

if (has("--subject")) {
  const at = process.argv.indexOf("--subject");
  await beSubject(option("--subject"), Number(process.argv[at + 2]), process.argv[at + 3] ?? "");
} else await main();
