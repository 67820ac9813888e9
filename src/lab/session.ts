/** A series of drills in one lab: what `nines drill`, the demo and the benchmark run. Only inside a lab. */
import type { DrillReport } from "../contracts/drills.ts";
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
  readonly tell: (line: string) => void;
}

/** Whether this user may have real-time priority: the prober then runs with it. */
async function realTimeAllowed(): Promise<boolean> {
  try {
    return (await attempt(["chrt", "--rr", "20", "true"])).code === 0;
  } catch {
    return false;
  }
}

export async function drillSession(options: SessionOptions): Promise<DrillReport> {
  const { site, siteFile, subjects, drills, repeat, directory, tell } = options;
  await settleIn();
  const lab = new Lab(site, siteFile);
  const begun = hostClock.monotonic();
  await lab.up();
  tell(`lab of ${site.site}: ${lab.plan.hosts.map(({ name }) => name).join(", ")}`);
  const probers = new Probers(lab.client, await realTimeAllowed());
  const runner = new Runner(lab, probers);
  const watched: WatchedRun[] = [];
  // One subject stays up for all its drills; several take turns at each repeat.
  const alone = subjects.length === 1;
  const rounds = alone
    ? [drills.flatMap((drill) => Array.from({ length: repeat }, (_, i) => ({ drill, i })))]
    : drills.flatMap((drill) => Array.from({ length: repeat }, (_, i) => [{ drill, i }]));
  for (const round of rounds)
    for (const name of subjects) {
      const subject = makeSubject(name, lab);
      const missing = subject.unavailable();
      if (missing === undefined) await lab.startSubject(subject);
      for (const { drill, i } of round) {
        const one =
          missing === undefined
            ? await runner.run(drill, i + 1)
            : runner.skipped(name, drill, i + 1, missing);
        watched.push(one);
        const { verdict, reason, probes } = one.run;
        const gap = Math.max(
          0,
          ...probes.filter(({ kind }) => kind === "connect").map(({ longestGap }) => longestGap),
        );
        tell(
          `${verdict.padEnd(7)} ${name} ${drill.name} #${i + 1}${probes.length > 0 ? `, gap ${gap} ms` : ""}${reason === undefined ? "" : `: ${reason}`}`,
        );
      }
      if (missing === undefined) await lab.stopSubject();
    }
  probers.stop();
  const report = makeReport(
    site.site,
    watched.map(({ run }) => run),
  );
  if (directory !== undefined) writeReport(directory, report, watched);
  tell(`\n${drillTable(report.runs)}\n`);
  for (const line of reasons(report.runs)) tell(line);
  tell(
    `${report.runs.length} runs in ${Math.round((hostClock.monotonic() - begun) / 1000)} s${directory === undefined ? "" : `; report in ${directory}`}`,
  );
  return report;
}
