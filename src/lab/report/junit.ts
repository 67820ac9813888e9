import type { DrillReport } from "../../contracts/drills.ts";
import { escapeXml } from "./xml.ts";

/** JUnit's XML, as CI systems read it: a test case per run. */
export function junit(report: DrillReport): string {
  const { runs } = report;
  const count = (verdict: string): number => runs.filter((run) => run.verdict === verdict).length;
  const cases = runs.map((run) => {
    const name = escapeXml(`${run.drill} #${run.repeat}`);
    const last = Math.max(0, ...run.timeline.map(({ until }) => until ?? 0));
    const open = `  <testcase classname="drills.${run.subject}" name="${name}" time="${(last / 1000).toFixed(3)}"`;
    const reason = escapeXml(run.reason ?? "");
    if (run.verdict === "passed") return `${open}/>`;
    const inner =
      run.verdict === "failed" ? `<failure message="${reason}"/>` : `<skipped message="${reason}"/>`;
    return `${open}>${inner}</testcase>`;
  });
  return `<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="${escapeXml(`nines drill ${report.site}`)}" tests="${runs.length}" failures="${count("failed")}" skipped="${count("skipped")}" timestamp="${report.date}">
${cases.join("\n")}
</testsuite>
`;
}
