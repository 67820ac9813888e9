import type { Command } from "commander";
import { type ConfigIssue, formatConfigIssue } from "../../base/errors.ts";
import type { LoadedSite, SiteReport } from "../../config/load.ts";
import { CommandExit } from "../exit-codes.ts";

interface CheckOptions {
  node?: string;
  json?: boolean;
  strict?: boolean;
}

const counted = (count: number, one: string, many = `${one}s`): string =>
  `${count} ${count === 1 ? one : many}`;

function summary({ site, digest }: LoadedSite): string {
  const size = (room: object): number => Object.keys(room).length;
  const parts = [
    counted(size(site.nodes), "node"),
    counted(size(site.virtualRouters), "virtual router"),
    counted(size(site.pools), "pool"),
    counted(size(site.services), "service"),
  ];
  return `site ${site.site}: ${parts.join(", ")}; digest ${digest.slice(0, 12)}`;
}

/** What one node does in the virtual routers of the site. */
function nodeLines({ site }: LoadedSite, node: string): string[] {
  return Object.entries(site.virtualRouters).flatMap(([name, router]) => {
    const priority = router.priorities[node];
    if (priority === undefined) return [];
    const links = router.members.map((member) => {
      const link = typeof member.interface === "string" ? member.interface : member.interface[node];
      return `VRID ${member.vrid} on ${link}`;
    });
    return [`${node}: ${name} with priority ${priority}, ${links.join(", ")}`];
  });
}

function asJson(file: string, { issues, warnings, loaded }: SiteReport): string {
  const found = loaded ? { site: loaded.site.site, digest: loaded.digest } : {};
  return JSON.stringify({ file, good: loaded !== undefined, ...found, issues, warnings }, undefined, 2);
}

function print(file: string, report: SiteReport, node: string | undefined): void {
  const all: [ConfigIssue, string][] = [
    ...report.issues.map((issue): [ConfigIssue, string] => [issue, ""]),
    ...report.warnings.map((issue): [ConfigIssue, string] => [issue, "warning: "]),
  ];
  all.sort(([a], [b]) => a.line - b.line || a.column - b.column);
  for (const [issue, prefix] of all) console.log(`${prefix}${formatConfigIssue(issue)}`);
  const warnings = report.warnings.length > 0 ? `, ${counted(report.warnings.length, "warning")}` : "";
  if (!report.loaded) {
    console.log(`${file}: ${counted(report.issues.length, "mistake")}${warnings}`);
    return;
  }
  console.log(`${file}: good${warnings}; ${summary(report.loaded)}`);
  if (node !== undefined) for (const line of nodeLines(report.loaded, node)) console.log(line);
}

export function registerCheck(program: Command): void {
  program
    .command("check")
    .description("read a site file and say everything that is wrong with it; changes nothing")
    .argument("<site>", "the site file: site.yaml or site.ts")
    .option("--node <name>", "also say what this node does")
    .option("--json", "for programs: { file, good, digest, issues, warnings }")
    .option("--strict", "warnings count as a no (exit code 1)")
    .action(async (file: string, options: CheckOptions) => {
      const { examineSite } = await import("../../config/load.ts");
      const report = await examineSite(file);
      if (report.loaded && options.node !== undefined && !(options.node in report.loaded.site.nodes)) {
        const { suggest } = await import("../../config/explain/near.ts");
        const hint = suggest(options.node, Object.keys(report.loaded.site.nodes), "nodes");
        throw new CommandExit("usage", `the site has no node "${options.node}" (${hint ?? ""})`);
      }
      if (options.json) console.log(asJson(file, report));
      else print(file, report, options.node);
      if (report.issues.length > 0) throw new CommandExit("config");
      if (options.strict && report.warnings.length > 0) throw new CommandExit("negative");
    });
}
