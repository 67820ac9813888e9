import { type Command, InvalidArgumentError } from "commander";
import { OperationalError } from "../../base/errors.ts";
import type { DrillRun } from "../../contracts/drills.ts";
import { exitStatus } from "../failures.ts";
import { gapRows } from "../gap-text.ts";
import { endOfLab } from "../lab-end.ts";
import { painter } from "../paint.ts";

interface DrillOptions {
  repeat: number;
  report?: string;
  subject: DrillRun["subject"];
  minutes: number;
  json?: boolean;
  list?: boolean;
  keep?: boolean;
}

function whole(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 1000)
    throw new InvalidArgumentError("expected 1 to 1000.");
  return value;
}

function fraction(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 1440)) throw new InvalidArgumentError("expected minutes, such as 10 or 0.5.");
  return value;
}

const SUBJECTS: readonly string[] = ["nines", "keepalived", "conntrackd", "haproxy"];

function subjectName(text: string): string {
  if (SUBJECTS.includes(text)) return text;
  throw new InvalidArgumentError(`expected one of ${SUBJECTS.join(", ")}.`);
}

export function registerDrill(program: Command): void {
  program
    .command("drill")
    .description("break the site in a lab on this machine and measure what clients see of it")
    .argument("<site>", "the site file, with a lab: section")
    .argument("[drills...]", "which drills; default: all but those that take minutes")
    .option("--repeat <n>", "how often each drill is run", whole, 1)
    .option("--report <dir>", "write report.json, junit.xml and a timeline (SVG) of each run")
    .option(
      "--subject <name>",
      "what is drilled: nines, or keepalived in its place, alone or beside conntrackd or haproxy",
      subjectName,
      "nines",
    )
    .option("--minutes <n>", "how long the starvation drill lasts", fraction, 10)
    .option("--keep", "leave the lab up after the drills, until Ctrl-C")
    .option("--json", "print the report as JSON instead of the table")
    .option("--list", "list the drills with their stories")
    .action(async (site: string, names: string[], options: DrillOptions) => {
      const { allDrills } = await import("../../lab/drills/index.ts");
      const drills = allDrills({ minutes: options.minutes });
      if (options.list === true) {
        for (const { name, story } of drills) console.log(`${name.padEnd(20)} ${story}`);
        return;
      }
      const known = drills.map(({ name }) => name);
      const unknown = names.filter((name) => !(known as readonly string[]).includes(name));
      if (unknown.length > 0)
        throw new OperationalError(
          "NOT_FOUND",
          `no drill is called ${unknown.join(", ")}; there are ${known.join(", ")}`,
        );
      // Before the lab exists, so that a wrong file is told at once.
      const { loadSite } = await import("../../config/load.ts");
      const loaded = await loadSite(site);
      const { insideLab, repeatInLab } = await import("../../lab/outer.ts");
      if (!insideLab()) {
        process.exitCode = await repeatInLab(`drill-${process.pid}`);
        return;
      }
      const { drillSession } = await import("../../lab/session.ts");
      const { compareGaps } = await import("../../availability/model/gaps.ts");
      const chosen =
        names.length > 0
          ? drills.filter(({ name }) => names.includes(name))
          : drills.filter(({ onlyByName }) => onlyByName !== true);
      const report = await drillSession({
        site: loaded.site,
        siteFile: site,
        subjects: [options.subject],
        drills: chosen,
        repeat: options.repeat,
        directory: options.report,
        keep: options.keep ?? false,
        comment: (drilled) => {
          const rows = gapRows(compareGaps(loaded.site, [drilled]), painter());
          return rows.length === 0 ? [] : ["Predicted and drilled gaps", ...rows, ""];
        },
        tell: options.json === true ? () => {} : (line) => console.log(line),
      }).catch(endOfLab);
      if (options.json === true) console.log(JSON.stringify(report, undefined, 2));
      const failed = report.runs.filter(({ verdict }: DrillRun) => verdict === "failed").length;
      // Process 1 of the lab ends here, and everything in it with it.
      process.exit(exitStatus(failed > 0 ? "negative" : "ok"));
    });
}
