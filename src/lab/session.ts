/** A series of drills in one lab: what `nines drill`, the demo and the benchmark run. Only inside a lab. */
import { messageOf } from "../base/errors.ts";
import type { DrillReport, DrillRun } from "../contracts/drills.ts";
import type { Site } from "../contracts/site.ts";
import type { Drill } from "./drills/drill.ts";
import { hostClock } from "./host-clock.ts";
import { Lab } from "./lab.ts";
import { settleIn } from "./outer.ts";
import { Probers } from "./probers.ts";
import { drillTable, reasons } from "./report/table.ts";
import { makeReport, writeReport } from "./report/write.ts";
import { Runner, type WatchedRun } from "./runner.ts";
import { attempt } from "./shell.ts";
import { lookAround } from "./stay.ts";
import { makeSubject } from "./subjects/index.ts";
import type { Subject } from "./subjects/subject.ts";

export interface SessionOptions {
  readonly site: Site;
  readonly siteFile: string;
  /** In turn, A B A B: each repeat of a drill is run with each of them. */
  readonly subjects: readonly Subject["name"][];
  readonly drills: readonly Drill[];
  readonly repeat: number;
  /** Where the report goes; none is written without it. */
  readonly directory?: string | undefined;
  /** Stay up after the drills, until Ctrl-C. */
  readonly keep?: boolean;
  /** What whoever asked for the drills has to say about them; told after the table. */
  readonly comment?: (report: DrillReport) => readonly string[];
  readonly tell: (line: string) => void;
}

function runLine({ verdict, subject, drill, repeat, reason, probes }: DrillRun): string {
  const gaps = probes
    .filter(({ kind }) => kind === "connect" || kind === "resolver")
    .map((one) => one.longestGap);
  const gap = gaps.length === 0 ? "" : `, gap ${Math.max(...gaps)} ms`;
  return `${verdict.padEnd(7)} ${subject} ${drill} #${repeat}${gap}${reason === undefined ? "" : `: ${reason}`}`;
}

/** Whether this user may have real-time priority: the prober and the backends then run with it. */
async function realTimeAllowed(): Promise<boolean> {
  try {
    return (await attempt(["chrt", "--rr", "20", "true"])).code === 0;
  } catch {
    return false;
  }
}

/**
 * The first start must succeed: else nothing here serves, and that is told once. One that fails later in a
 * series is said, and each drill of the turn then says for itself why it could not begin.
 */
async function startOrSay(
  lab: Lab,
  runner: Runner,
  subject: Subject,
  repeat: number,
  tell: (line: string) => void,
): Promise<void> {
  try {
    await lab.startSubject(subject);
    await runner.mustServe();
  } catch (error) {
    if (repeat === 1) throw error;
    tell(`failed  ${subject.name} did not start for repeat ${repeat}: ${messageOf(error)}`);
    for (const node of lab.nodes) for (const line of subject.said(node).slice(-5)) tell(`  ${node}: ${line}`);
  }
}

export async function drillSession(options: SessionOptions): Promise<DrillReport> {
  const { site, siteFile, subjects, drills, directory, tell } = options;
  await settleIn();
  const realTime = await realTimeAllowed();
  const lab = new Lab(site, siteFile, realTime);
  const begun = hostClock.monotonic();
  await lab.up();
  tell(`lab of ${site.site}: ${lab.plan.hosts.map(({ name }) => name).join(", ")}`);
  const probers = new Probers(lab.client, realTime);
  const runner = new Runner(lab, probers);
  const watched: WatchedRun[] = [];
  // One of each for the whole series: what it counts (a directory per start) must not begin again.
  const made = new Map(subjects.map((name) => [name, makeSubject(name, lab)]));
  let current: Subject | undefined;
  for (let repeat = 1; repeat <= options.repeat; repeat++)
    for (const name of subjects) {
      // A subject that is alone stays up; several take turns, A B A B.
      if (current?.name !== name) {
        if (current !== undefined && lab.runs(current)) await lab.stopSubject();
        current = made.get(name) ?? makeSubject(name, lab);
        if (current.unavailable() === undefined) await startOrSay(lab, runner, current, repeat, tell);
      }
      const missing = current.unavailable();
      for (const drill of drills) {
        const one =
          missing === undefined
            ? await runner.run(drill, repeat)
            : runner.skipped(name, drill, repeat, missing);
        watched.push(one);
        tell(runLine(one.run));
      }
    }
  probers.stop();
  const report = makeReport(
    site.site,
    watched.map(({ run }) => run),
  );
  if (directory !== undefined) writeReport(directory, report, watched);
  tell(`\n${drillTable(report.runs)}\n`);
  for (const line of options.comment?.(report) ?? []) tell(line);
  for (const line of reasons(report.runs)) tell(line);
  tell(
    `${report.runs.length} runs in ${Math.round((hostClock.monotonic() - begun) / 1000)} s${directory === undefined ? "" : `; report in ${directory}`}`,
  );
  if (options.keep === true) {
    for (const line of lookAround(lab)) tell(line);
    await new Promise(() => setInterval(() => {}, 60_000));
  }
  return report;
}
