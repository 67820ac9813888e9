// `npm run bench:connections`: established connections that each kind of failover costs: nines, and keepalived with
// conntrackd (FT-FW, its primary-backup script) in the same lab, in turn, A B A B. Half of the connections are
// server-first, over all backends of the two-tier example. Prints, and writes bench/results/connections.json.
// Behind --: --repeat N (10), --connections N (2000), --only switchover,power-cut, --quick (2 repeats, 200),
// --subjects nines,conntrackd, --masquerade (the client's address is not preserved), --report, --aims.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseDocument } from "yaml";
import { loadSite } from "../src/config/load.ts";
import type { DrillRun } from "../src/contracts/drills.ts";
import type { Drill } from "../src/lab/drills/drill.ts";
import { allDrills } from "../src/lab/drills/index.ts";
import { insideLab, repeatInLab } from "../src/lab/outer.ts";
import type { StreamSpec } from "../src/lab/probe/stream.ts";
import { drillSession } from "../src/lab/session.ts";
import type { Subject } from "../src/lab/subjects/subject.ts";
import { has, numberAfter, report, rowOf } from "./support/results.ts";

const EXAMPLE = new URL("../examples/two-tier/site.yaml", import.meta.url).pathname;
const DRILLS = [
  "switchover",
  "failback",
  "kill-all",
  "power-cut",
  "hang",
  "link-down-front",
  "partition",
  "brain-killed",
  "flows-killed",
  "rolling-upgrade",
  "ruleset-flushed",
  "backend-changed",
];
const listAfter = (flag: string): string[] | undefined => {
  const at = process.argv.indexOf(flag);
  return at < 0 ? undefined : (process.argv[at + 1] ?? "").split(",");
};

if (!insideLab()) process.exit(await repeatInLab("bench-connections"));

const connections = numberAfter("--connections") ?? (has("--quick") ? 200 : 2000);
const repeat = numberAfter("--repeat") ?? (has("--quick") ? 2 : 10);
const subjects = (listAfter("--subjects") ?? ["nines", "conntrackd"]) as Subject["name"][];
const masquerade = has("--masquerade");

let file = EXAMPLE;
if (masquerade) {
  const text = parseDocument(readFileSync(EXAMPLE, "utf8"));
  text.setIn(["services", "web", "forward", "masquerade"], "10.1.0.1");
  const directory = mkdtempSync(join(tmpdir(), "nines-bench-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  file = join(directory, "site.yaml");
  writeFileSync(file, String(text));
}
const { site } = await loadSite(file);

/** Each connection carries a line every two seconds, however many there are. */
const PERIOD = 2000;
const held = (usual: readonly StreamSpec[]): StreamSpec[] =>
  usual.map((spec) => {
    if (!spec.kind.startsWith("established")) return spec;
    const count = Math.ceil(connections / 2);
    return { ...spec, connections: count, interval: PERIOD / count, deadline: 1000 };
  });
const wanted = listAfter("--only") ?? DRILLS;
const drills = allDrills()
  .filter(({ name }) => wanted.includes(name))
  .map((drill): Drill => ({
    ...drill,
    streams: (usual, lab) => held(drill.streams?.(usual, lab) ?? usual),
  }));

const { runs } = await drillSession({
  site,
  siteFile: file,
  subjects,
  drills,
  repeat,
  directory: has("--report") ? "reports/connections" : undefined,
  tell: (line) => console.log(line),
});

/** Connections that were established and did not live on. */
function lost(run: DrillRun): number {
  const all = run.probes.flatMap(({ established }) => (established === undefined ? [] : [established]));
  return all.reduce((sum, { before, kept }) => sum + before - kept, 0);
}
const before = (run: DrillRun): number =>
  run.probes.reduce((sum, { established }) => sum + (established?.before ?? 0), 0);
const measured = (drill: string, subject: string): DrillRun[] =>
  runs.filter((run) => run.drill === drill && run.subject === subject && run.probes.length > 0);

const rows = drills.flatMap(({ name }) =>
  subjects.flatMap((subject) => {
    const these = measured(name, subject);
    if (these.length === 0) return [];
    return [
      rowOf(name, subject, "established", "connections", these.map(before)),
      rowOf(name, subject, "lost", "connections", these.map(lost)),
    ];
  }),
);
const perRepeat = drills.flatMap(({ name }) =>
  subjects.map((subject) => ({
    case: name,
    subject,
    lost: measured(name, subject).map(lost),
    skipped: runs.find((run) => run.drill === name && run.subject === subject && run.verdict === "skipped")
      ?.reason,
    notMeasured: runs.filter(
      (run) =>
        run.drill === name && run.subject === subject && run.verdict === "failed" && run.probes.length === 0,
    ).length,
  })),
);
const aims = perRepeat
  .filter(({ subject }) => subject === "nines")
  .map((one) => ({
    case: one.case,
    aim: "no established connection lost",
    met: one.lost.length === repeat && one.lost.every((count) => count === 0),
  }));
report(`connections${masquerade ? "-masquerade" : ""}`, rows, [], { connections, perRepeat, aims });
console.log("lost, repeat by repeat:");
for (const { case: name, subject, lost: counts, skipped, notMeasured } of perRepeat)
  console.log(
    `${name}  ${subject}  ${skipped === undefined ? counts.join(" ") : `skipped: ${skipped}`}${notMeasured > 0 ? `  (${notMeasured} not measured)` : ""}`,
  );
if (has("--aims"))
  for (const { case: name, met } of aims)
    if (!met) {
      console.log(`aim missed: ${name}: an established connection was lost, or a run not measured`);
      process.exitCode = 1;
    }
process.exit();
