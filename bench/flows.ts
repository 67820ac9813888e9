// `npm run bench:flows`: replication of the connection table between two namespaces, nines beside conntrackd (FT-FW,
// external cache off, so that both put entries into the other kernel at once), in turn. Flows appear at rising rates:
// how many arrive, how late, at what CPU and bandwidth; then how long 100,000 entries take. Then nines alone with
// several batching delays: what a delay saves, and what a crash costs. Behind --: --quick, --repeat N, --aims.
// Writes bench/results/flows.json and docs/guide/flows-delay.svg (not under --quick). Needs root and conntrackd.
//
// Sustained is the highest rate at which no event was lost, all arrived, 99 of 100 within a second, and the last of them
// at most a tenth of the load's time after its end: what is later ("behind") is a backlog that grows. The load and the observer share the machine's cores with both replicators; their
// messages are encoded beforehand, for either subject alike. "load" is the rate that they reached: where that is short
// of the wanted one, it is the harness that could not go on, and "beyond the load" counts the runs in which a subject
// held everything that the load could give. When a flow arrived is known to a millisecond. CPU is that of both
// replicators. Bytes are those of the wire, both directions, with headers (and TLS for nines). nines runs compiled,
// with the flags and the priority of its process; conntrackd sets its own: both are told at the start.
import { writeFileSync } from "node:fs";
import { canNamespace, runScenario } from "../src/linux/nftables/testing/namespace.ts";
import type { FlowsResult, Step } from "./scenarios/flows-scenario.ts";
import { plot } from "./support/plot.ts";
import { type Ratio, type Row, has, median, numberAfter, ratioOf, report, rowOf } from "./support/results.ts";

if (!canNamespace("conntrack", "openssl")) {
  console.error("skipped: needs root (namespaces), conntrack and openssl");
  process.exit(0);
}
const quick = has("--quick");
const repeat = numberAfter("--repeat") ?? (quick ? 1 : 3);
const subjects = canNamespace("conntrackd") ? ["nines", "conntrackd"] : ["nines"];
if (subjects.length === 1) console.error("conntrackd is left out: it is not installed");
const rates = quick
  ? [2000, 10_000, 20_000, 40_000, 60_000]
  : [2000, 10_000, 20_000, 40_000, 50_000, 60_000, 80_000];
const DELAYS = quick ? [5, 50] : [1, 2, 5, 10, 50, 200];
const LAG_RATE = 2000;
const RESYNC = 100_000;

const runs = new Map<string, FlowsResult[]>();
for (let i = 0; i < repeat; i++) {
  for (const subject of subjects) {
    const settings = {
      subject,
      rates,
      seconds: quick ? 1 : 2,
      resync: RESYNC,
      delays: subject === "nines" && i === 0 ? DELAYS : [],
      delayRate: LAG_RATE,
    };
    const scenario = new URL("scenarios/flows-scenario.ts", import.meta.url);
    const result = await runScenario<FlowsResult>(scenario, 600_000, [JSON.stringify(settings)], (text) =>
      process.stderr.write(text),
    );
    runs.set(subject, [...(runs.get(subject) ?? []), result]);
  }
}

const holds = (step: Step): boolean =>
  step.overruns === 0 &&
  step.arrived >= step.flows &&
  step.p99 < 1000 &&
  step.behind <= (0.1 * 1000 * step.flows) / step.rate;
/** The load fell short of what was wanted of it, and the subject held all that came. */
const short = (step: Step): boolean => step.rate < step.wanted * 0.95 && holds(step);
const rows: Row[] = [];
const metrics: readonly [string, string, (step: Step) => number][] = [
  ["load", "1/s", (step) => step.rate],
  ["arrived", "share of the flows", (step) => step.arrived / step.flows],
  ["overruns", "count", (step) => step.overruns],
  ["behind", "ms", (step) => step.behind],
  ["lag-p50", "ms", (step) => step.p50],
  ["lag-p99", "ms", (step) => step.p99],
  ["cpu", "ms per 1,000 flows", (step) => step.cpu],
  ["bytes", "per flow", (step) => step.bytes],
];
for (const subject of subjects) {
  const results = runs.get(subject) ?? [];
  const sustained = results.map(({ steps }) =>
    Math.max(0, ...steps.filter(holds).map((step) => Math.round(step.rate))),
  );
  rows.push(rowOf("new flows", subject, "sustained", "1/s", sustained));
  const beyond = results.filter(({ steps }) => steps.some(short)).length;
  rows.push(rowOf("new flows", subject, "beyond the load", `of ${results.length} runs`, [beyond]));
  const resyncs = results.flatMap((one) => (one.resync === undefined ? [] : [one.resync]));
  if (resyncs.length > 0) rows.push(rowOf("100,000 entries", subject, "resync", "ms", resyncs));
  for (const rate of rates) {
    const these = results.flatMap(({ steps }) => steps.filter((step) => step.wanted === rate));
    if (these.length === 0) continue;
    for (const [metric, unit, of] of metrics)
      rows.push(rowOf(`${rate} new flows/s`, subject, metric, unit, these.map(of)));
  }
}
const delayed = DELAYS.map((delay) => {
  const these = (runs.get("nines") ?? []).flatMap(({ delays }) =>
    delays.filter((one) => one.delay === delay),
  );
  const name = `${delay} ms of delay`;
  const more = [...metrics.slice(4), ["lost-at-crash", "flows", () => 0] as const];
  for (const [metric, unit, of] of more)
    rows.push(
      rowOf(
        name,
        "nines",
        metric,
        unit,
        metric === "lost-at-crash" ? these.map(({ lost }) => lost) : these.map(of),
      ),
    );
  return {
    lag: median(these.map((one) => one.p50)),
    bytes: median(these.map((one) => one.bytes)),
    cpu: median(these.map((one) => one.cpu)),
    lost: median(these.map((one) => one.lost)),
  };
});

const lagCase = `${LAG_RATE} new flows/s`;
const lag = rows.find((row) => row.case === lagCase && row.subject === "nines" && row.metric === "lag-p99");
const resync = rows.find((row) => row.subject === "nines" && row.metric === "resync");
const ratios: Ratio[] = [
  ...ratioOf(rows, ["new flows", "sustained", "nines", "conntrackd"], 2, true),
  ...ratioOf(rows, [lagCase, "cpu", "nines", "conntrackd"], null),
  ...ratioOf(rows, ["10000 new flows/s", "cpu", "nines", "conntrackd"], null),
  ...ratioOf(rows, ["10000 new flows/s", "bytes", "nines", "conntrackd"], null),
  ...ratioOf(rows, ["100,000 entries", "resync", "nines", "conntrackd"], null),
  ...(lag ? [{ case: lagCase, metric: "lag-p99", against: "50 ms", value: lag.median / 50, aim: 1 }] : []),
  {
    case: "100,000 entries",
    metric: "resync",
    against: "2 s",
    value: resync ? resync.median / 2000 : Infinity,
    aim: 1,
  },
];
if (!quick)
  writeFileSync(
    new URL("../docs/guide/flows-delay.svg", import.meta.url),
    plot(
      `What the batching delay costs and saves, at ${LAG_RATE} new flows a second`,
      "delay in ms",
      DELAYS,
      [
        { name: "replication lag, median", unit: "ms", values: delayed.map((one) => one.lag) },
        { name: "flows lost at a crash", unit: "", values: delayed.map((one) => one.lost) },
        { name: "bandwidth", unit: "bytes per flow", values: delayed.map((one) => one.bytes) },
        { name: "CPU", unit: "ms per 1,000 flows", values: delayed.map((one) => one.cpu) },
      ],
    ),
  );
report("flows", rows, ratios);
