// `npm run bench:failover`: nines and keepalived (with nftables DNAT) in the same lab, in turn, A B A B.
// Writes bench/results/failover.json and prints both. Behind --: --quick (2 repeats instead of 10), --repeat N,
// --aims, --minutes N (starvation too), --only power-cut,switchover, --keep (what was measured of others before stays),
// --report (timelines in reports/failover).
import { loadSite } from "../src/config/load.ts";
import type { DrillRun } from "../src/contracts/drills.ts";
import { allDrills } from "../src/lab/drills/index.ts";
import { insideLab, repeatInLab } from "../src/lab/outer.ts";
import { figuresOf } from "../src/lab/policy.ts";
import { promisesOf } from "../src/lab/promises.ts";
import { renderTable } from "../src/lab/report/table.ts";
import { drillSession } from "../src/lab/session.ts";
import { type Row, has, numberAfter, ratioOf, rowOf, save, wordAfter } from "./support/results.ts";

const SITE = new URL("../examples/two-tier/site.yaml", import.meta.url).pathname;

const minutes = numberAfter("--minutes");
const only = wordAfter("--only")?.split(",");

if (!insideLab()) process.exit(await repeatInLab("bench-failover"));

const { site } = await loadSite(SITE);
const promises = promisesOf(site);
const wanted = (name: string, onlyByName: boolean | undefined): boolean =>
  only !== undefined ? only.includes(name) : onlyByName !== true || minutes !== undefined;
const drills = allDrills({ minutes: minutes ?? 10 }).filter(({ name, onlyByName }) =>
  wanted(name, onlyByName),
);

const { runs } = await drillSession({
  site,
  siteFile: SITE,
  subjects: ["nines", "keepalived"],
  drills,
  repeat: numberAfter("--repeat") ?? (has("--quick") ? 2 : 10),
  directory: has("--report") ? "reports/failover" : undefined,
  tell: (line) => console.log(line),
});

const metrics: readonly { metric: string; unit: string; of: (run: DrillRun) => number }[] = [
  { metric: "gap", unit: "ms", of: (run) => figuresOf(run.probes, run).gap },
  { metric: "lost", unit: "connections", of: (run) => figuresOf(run.probes, run).lost },
  { metric: "kept", unit: "share", of: (run) => figuresOf(run.probes, run).kept },
  { metric: "two-owners", unit: "ms", of: (run) => run.twoOwners },
  { metric: "takeovers", unit: "count", of: (run) => run.takeovers },
];

const measured = (drill: string, subject: string): DrillRun[] =>
  runs.filter((run) => run.drill === drill && run.subject === subject && run.probes.length > 0);

const rows = drills.flatMap(({ name }) =>
  ["nines", "keepalived"].flatMap((subject) => {
    const these = measured(name, subject);
    if (these.length === 0) return [];
    return metrics.map(({ metric, unit, of }) => rowOf(name, subject, metric, unit, these.map(of)));
  }),
);
const row = (drill: string, subject: string, metric: string): Row | undefined =>
  rows.find((one) => one.case === drill && one.subject === subject && one.metric === metric);

const ratios = drills.flatMap(({ name }) => ratioOf(rows, [name, "gap", "nines", "keepalived"], null));

/** Worst run, not median: an aim that one run in ten misses is missed. */
const limits: readonly { case: string; metric: string; aim: number }[] = [
  { case: "power-cut", metric: "gap", aim: promises.activeDown + 100 },
  { case: "switchover", metric: "lost", aim: 0 },
  { case: "hung-resolver", metric: "gap", aim: 1000 },
  { case: "both-brains-killed", metric: "lost", aim: 0 },
  ...(minutes === undefined ? [] : [{ case: "starvation", metric: "takeovers", aim: 0 }]),
];
const aims = limits
  .filter(({ case: name }) => drills.some((drill) => drill.name === name))
  .map((limit) => {
    const worst = row(limit.case, "nines", limit.metric)?.max;
    const attempts = runs.filter(({ drill, subject }) => drill === limit.case && subject === "nines").length;
    const complete = row(limit.case, "nines", limit.metric)?.runs === attempts;
    return { ...limit, worst: worst ?? null, met: complete && worst !== undefined && worst <= limit.aim };
  });

save("failover", rows, ratios, { aims });

const show = (one: Row | undefined): string =>
  one === undefined ? "-" : `${Math.round(one.median)} (${Math.round(one.min)}-${Math.round(one.max)})`;
console.log(
  `\n${renderTable([
    ["median (min-max)", "nines gap ms", "keepalived gap ms", "nines lost", "keepalived lost"],
    ...drills.map(({ name }) => [
      name,
      show(row(name, "nines", "gap")),
      show(row(name, "keepalived", "gap")),
      show(row(name, "nines", "lost")),
      show(row(name, "keepalived", "lost")),
    ]),
  ])}\n`,
);
for (const { case: name, metric, aim, worst, met } of aims)
  if (!met) console.log(`aim missed: ${name} ${metric} ${worst ?? "not measured"}, aim <= ${aim}`);
process.exit(has("--aims") && aims.some(({ met }) => !met) ? 1 : 0);
