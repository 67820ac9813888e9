import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";
import { OperationalError, messageOf } from "../../base/errors.ts";
import type { DrillReport, DrillRun } from "../../contracts/drills.ts";
import { hostClock } from "../host-clock.ts";
import type { WatchedRun } from "../runner.ts";
import { junit } from "./junit.ts";
import { timelineSvg } from "./svg.ts";

export function makeReport(site: string, runs: readonly DrillRun[]): DrillReport {
  const machine = `${cpus().length} processors, Linux ${release()}, Node ${process.version}`;
  return { site, date: new Date(hostClock.wall()).toISOString(), machine, runs };
}

/** report.json, junit.xml, a picture per run, and what the nodes wrote in runs that failed. */
export function writeReport(directory: string, report: DrillReport, watched: readonly WatchedRun[]): void {
  try {
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, "report.json"), `${JSON.stringify(report, undefined, 2)}\n`);
    writeFileSync(join(directory, "junit.xml"), junit(report));
    for (const { run, samples, logs } of watched) {
      const stem = join(directory, `${run.drill}-${run.repeat}-${run.subject}`);
      if (run.verdict === "failed")
        for (const [node, lines] of logs) writeFileSync(`${stem}-${node}.log`, `${lines.join("\n")}\n`);
      if (run.probes.length > 0) writeFileSync(`${stem}.svg`, timelineSvg(run, samples));
    }
  } catch (error) {
    throw new OperationalError("FILE_UNREADABLE", `the report could not be written: ${messageOf(error)}`);
  }
}
