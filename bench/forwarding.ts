// `npm run bench:forwarding`: connections through the kernel's tables of nines, through HAProxy (mode tcp) and nginx
// (stream), over the same way merely routed, and over a wire without anybody between, in turn, A B C A B C, in
// namespaces of their own. Then what one change of a backend costs among 10, 100 and 1,000. Behind --: --quick,
// --repeat N, --seconds N, --aims, --only changes|traffic. Writes bench/results/forwarding.json. Needs root and wrk.
//
// Method: CPU is that of all processes of the namespaces and of ksoftirqd (support/cpu.ts). Load and backends are
// part of it; "of the balancer" is what is left after taking off the direct wire's of the same round, so that the
// director's whole hop is charged to whoever sits there. "disturbed" says how busy others kept the machine.
import { existsSync } from "node:fs";
import { canNamespace, runScenario } from "../src/linux/nftables/testing/namespace.ts";
import type { Change } from "./scenarios/change-scenario.ts";
import type { Sample } from "./scenarios/forwarding-scenario.ts";
import { STREAM_MODULE } from "./support/peers.ts";
import { type Ratio, type Row, has, numberAfter, ratioOf, report, rowOf } from "./support/results.ts";

if (!canNamespace("wrk", "nginx")) {
  console.error("skipped: needs root (namespaces), wrk and nginx");
  process.exit(0);
}
const quick = has("--quick");
const repeat = numberAfter("--repeat") ?? (quick ? 2 : 7);
const seconds = numberAfter("--seconds") ?? (quick ? 2 : 4);
const only = process.argv.includes("--only") ? process.argv[process.argv.indexOf("--only") + 1] : undefined;
const haproxy = canNamespace("haproxy");
const peers = [...(haproxy ? ["haproxy"] : []), ...(existsSync(STREAM_MODULE) ? ["nginx"] : [])];
for (const missing of ["haproxy", "nginx"].filter((one) => !peers.includes(one)))
  console.error(
    `${missing} is left out: ${missing === "nginx" ? "its stream module" : "it"} is not installed`,
  );

const rows: Row[] = [];
const ratios: Ratio[] = [];
const tell = (text: string): void => void process.stderr.write(text);

if (only !== "changes") {
  const scenario = new URL("scenarios/forwarding-scenario.ts", import.meta.url);
  const settings = { repeat, seconds, connections: quick ? 1000 : 4000, peers };
  const limit = 60_000 + repeat * 5 * (2 * seconds + 30) * 1000;
  const rounds = await runScenario<Sample[][]>(scenario, limit, [JSON.stringify(settings)], tell);
  const subjects = (rounds[0] ?? []).map(({ subject }) => subject);
  const add = (
    name: string,
    metric: string,
    unit: string,
    of: (sample: Sample, direct: Sample) => number,
    who: readonly string[] = subjects,
  ): void => {
    for (const subject of who) {
      const values = rounds.flatMap((round) => {
        const [sample, direct] = [subject, "direct"].map((one) => round.find((each) => each.subject === one));
        return sample && direct ? [of(sample, direct)] : [];
      });
      rows.push(rowOf(name, subject, metric, unit, values));
    }
  };
  const between = subjects.filter((one) => one !== "direct");
  add("a connection each", "connections", "1/s", (one) => one.connections.perSecond);
  add("a connection each", "cpu", "us per connection, all", (one) => one.connections.cpu);
  add(
    "a connection each",
    "cpu-balancer",
    "us per connection, of the balancer",
    (one, direct) => one.connections.cpu - direct.connections.cpu,
    between,
  );
  add("a connection each", "p50-loaded", "ms", (one) => one.connections.p50);
  add("a connection each", "p99-loaded", "ms", (one) => one.connections.p99);
  add("bulk", "throughput", "GB/s", (one) => one.bulk.perSecond / 1e9);
  add("bulk", "cpu", "s per GB, all", (one) => one.bulk.cpu);
  add(
    "bulk",
    "cpu-balancer-bulk",
    "s per GB, of the balancer",
    (one, direct) => one.bulk.cpu - direct.bulk.cpu,
    between,
  );
  add("one connection at a time", "p50", "ms", (one) => one.latency.p50);
  add("one connection at a time", "p99", "ms", (one) => one.latency.p99);
  add("whole round", "disturbed", "cores", (one) => one.disturbed);
  for (const against of ["haproxy", "nginx"]) {
    const aim = against === "haproxy" ? 0.2 : null;
    ratios.push(
      ...ratioOf(rows, ["a connection each", "cpu-balancer", "nines", against], aim),
      ...ratioOf(rows, ["bulk", "cpu-balancer-bulk", "nines", against], aim),
      ...ratioOf(rows, ["a connection each", "connections", "nines", against], null),
      ...ratioOf(rows, ["one connection at a time", "p99", "nines", against], null),
    );
  }
  ratios.push(
    ...ratioOf(rows, ["bulk", "throughput", "nines", "direct"], 0.9, true),
    ...ratioOf(rows, ["bulk", "throughput", "nines", "routed"], 0.9, true),
    ...ratioOf(rows, ["a connection each", "connections", "nines", "direct"], null),
  );
}

if (only !== "traffic") {
  const scenario = new URL("scenarios/change-scenario.ts", import.meta.url);
  const sizes = [10, 100, 1000];
  const settings = { sizes, changes: quick ? 40 : 200, haproxy };
  const rounds: Change[][] = [];
  for (let i = 0; i < Math.min(repeat, 5); i++)
    rounds.push(await runScenario<Change[]>(scenario, 180_000, [JSON.stringify(settings)], tell));
  for (const size of sizes) {
    const name = `one change among ${size} backends`;
    for (const subject of haproxy ? ["nines", "haproxy"] : ["nines"]) {
      const these = rounds.flat().filter((one) => one.subject === subject && one.backends === size);
      const cpu = rowOf(
        name,
        subject,
        "cpu-change",
        "ms",
        these.map((one) => one.cpu),
      );
      rows.push(
        cpu,
        rowOf(
          name,
          subject,
          "time",
          "ms",
          these.flatMap((one) => one.times),
        ),
      );
      if (subject === "nines")
        ratios.push({ case: name, metric: "cpu-change", against: "5 ms", value: cpu.median / 5, aim: 1 });
    }
  }
}
report("forwarding", rows, ratios);
