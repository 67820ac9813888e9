import { readFile, writeFile } from "node:fs/promises";
import { type Plan, planSite } from "../availability/model/plan.ts";
import { writeOpenPsa } from "../availability/openpsa/write.ts";
import { planHtml } from "../availability/report/html.ts";
import { OperationalError, messageOf } from "../base/errors.ts";
import { suggest } from "../config/explain/near.ts";
import type { DrillReport } from "../contracts/drills.ts";
import type { Site } from "../contracts/site.ts";
import { painter } from "./paint.ts";
import { comparisonText, planText } from "./plan-text.ts";
import { loadEditedSite } from "./site-edits.ts";

interface Options {
  drills: readonly string[];
  without: readonly string[];
  set: readonly string[];
  json?: boolean;
  html?: string;
  openPsa?: string;
  inputs?: boolean;
  top: number;
}

/** Whether every stated target is kept on average. */
export async function runPlan(file: string, other: string | undefined, options: Options): Promise<boolean> {
  const { site } = await loadEditedSite(file, options.set);
  const reports = await Promise.all(options.drills.map(readReport));
  for (const name of options.without) mustBeKnown(site, name);
  const settings = { reports, without: options.without, worst: options.top };
  const planned = planSite(site, settings);
  const { model, ...plan } = planned;
  if (options.html !== undefined) await writeFile(options.html, planHtml(plan, model));
  if (options.openPsa !== undefined) {
    // One file for all services: each honest tree is a top of its own.
    const all = model.services.map(({ honest }) => honest);
    model.tree.top = all.length === 1 ? all[0]! : model.tree.or("any service is down", ...all);
    await writeFile(options.openPsa, writeOpenPsa(model.tree, plan.site));
  }
  const paint = painter();
  if (other === undefined) {
    if (options.json) console.log(JSON.stringify(plan, undefined, 2));
    else console.log(planText(plan, paint, { inputs: options.inputs === true, top: options.top }));
  } else {
    const second: Plan = planSite((await loadEditedSite(other, options.set)).site, settings);
    if (options.json)
      console.log(JSON.stringify({ before: plan, after: { ...second, model: undefined } }, undefined, 2));
    else console.log(comparisonText(plan, second, [file, other], paint));
    return second.services.every(({ target }) => target?.kept ?? true);
  }
  return plan.services.every(({ target }) => target?.kept ?? true);
}

export async function readReport(file: string): Promise<DrillReport> {
  try {
    const value = JSON.parse(await readFile(file, "utf8")) as Partial<DrillReport>;
    if (!Array.isArray(value.runs))
      throw new Error("it has no list of runs; expected what `nines drill --report` writes");
    return value as DrillReport;
  } catch (error) {
    throw new OperationalError(
      "FILE_UNREADABLE",
      `the drill report ${file} cannot be read: ${messageOf(error)}`,
    );
  }
}

function mustBeKnown(site: Site, name: string): void {
  const zones = [
    ...Object.values(site.nodes),
    ...Object.values(site.pools).flatMap((p) => Object.values(p.backends)),
  ];
  const known = new Set([
    ...Object.keys(site.nodes),
    ...Object.values(site.pools).flatMap(({ backends }) => Object.keys(backends)),
    ...zones.flatMap(({ zone }) => (zone === undefined ? [] : [zone])),
    ...Object.keys(site.availability.power),
    ...Object.keys(site.availability.network),
    ...Object.keys(site.availability.dependencies),
  ]);
  if (known.has(name)) return;
  const hint = suggest(name, known, "names");
  throw new OperationalError(
    "NOT_FOUND",
    `--without: the site has no node, backend, zone, feed, switch or dependency "${name}"${hint === undefined ? "" : ` (${hint})`}`,
  );
}
