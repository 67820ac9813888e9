// `npm run bench:classic-pair`: sites with proxies, nines beside HAProxy and keepalived (which tracks it) on the same
// nodes, in turn, A B A B: the proxy on the virtual address, or with `--site proxies-behind-forwarder` two proxies behind
// two forwarders. Writes bench/results/SITE.json. Behind --: --quick (2 repeats instead of 10), --repeat N, --aims,
// --only power-cut,switchover, --report (timelines in reports/SITE), --from report.json (figures of runs that were made).
import { readFileSync } from "node:fs";
import type { DrillReport } from "../src/contracts/drills.ts";
import { loadSite } from "../src/config/load.ts";
import { allDrills } from "../src/lab/drills/index.ts";
import { insideLab, repeatInLab } from "../src/lab/outer.ts";
import { figuresOf } from "../src/lab/policy.ts";
import { promisesOf } from "../src/lab/promises.ts";
import { drillSession } from "../src/lab/session.ts";
import { type Row, has, numberAfter, ratioOf, report, rowOf, wordAfter } from "./support/results.ts";

const name = wordAfter("--site") ?? "classic-pair";
const siteFile = new URL(`../examples/${name}/site.yaml`, import.meta.url).pathname;
const SUBJECTS = ["nines", "haproxy"] as const;
const wanted = wordAfter("--only")?.split(",") ?? [
  "switchover",
  "proxy-killed",
  "kill-all",
  "power-cut",
  "proxy-cut",
];

const from = wordAfter("--from");
if (from === undefined && !insideLab()) process.exit(await repeatInLab(`bench-${name}`));

const { site } = await loadSite(siteFile);
const { runs, date } =
  from === undefined
    ? await drillSession({
        site,
        siteFile,
        subjects: SUBJECTS,
        drills: allDrills().filter((drill) => wanted.includes(drill.name)),
        repeat: numberAfter("--repeat") ?? (has("--quick") ? 2 : 10),
        directory: has("--report") ? `reports/${name}` : undefined,
        tell: (line) => console.log(line),
      })
    : (JSON.parse(readFileSync(from, "utf8")) as DrillReport);

const rows: Row[] = [];
for (const drill of wanted)
  for (const subject of SUBJECTS) {
    const these = runs.filter(
      (run) => run.drill === drill && run.subject === subject && run.probes.length > 0,
    );
    if (these.length === 0) continue;
    const add = (metric: string, unit: string, of: (run: (typeof these)[number]) => number): void =>
      void rows.push(rowOf(drill, subject, metric, unit, these.map(of)));
    add("gap", "ms", (run) => figuresOf(run.probes, run).gap);
    add("lost", "connections", (run) => figuresOf(run.probes, run).lost);
    // By what the client saw: on new connections, and on kept ones.
    for (const kind of ["connect", "http"] as const) {
      const probes = (run: (typeof these)[number]) => run.probes.filter((one) => one.kind === kind);
      for (const error of new Set(
        these.flatMap((run) => probes(run).flatMap(({ errors }) => Object.keys(errors))),
      ))
        add(`${kind}-${error}`, "requests", (run) =>
          probes(run).reduce((sum, { errors }) => sum + (errors[error] ?? 0), 0),
        );
    }
    // Where it is large, the machine was busy, and the figures are worse than the truth.
    add("prober-lag", "ms", ({ proberLag }) => proberLag);
  }

const { activeDown } = promisesOf(site);
const worst = (drill: string, metric: string, aim: number) =>
  rows
    .filter((row) => row.case === drill && row.metric === metric && row.subject === "nines")
    .map(({ max }) => ({ case: `${drill}, worst run`, metric, against: "none", value: max, aim }));
report(
  name,
  rows,
  [
    ...wanted.flatMap((drill) => ratioOf(rows, [drill, "gap", "nines", "haproxy"], null)),
    ...worst("switchover", "lost", 0),
    ...worst("power-cut", "gap", activeDown + 100),
  ],
  { date },
);
