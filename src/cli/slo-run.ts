import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { readJournal } from "../availability/accounts/journal.ts";
import { mergeFacts } from "../availability/accounts/policy-ledger.ts";
import {
  type AccountsReport,
  type ServiceAccount,
  accountsReport,
  reportHtml,
  reportMarkdown,
  share,
  span,
} from "../availability/accounts/report.ts";
import { planSite } from "../availability/model/plan.ts";
import { sayAvailability } from "../availability/model/words.ts";
import { OperationalError } from "../base/errors.ts";
import { SystemClock } from "../base/system-clock.ts";
import { loadSite } from "../config/load.ts";
import type { Site } from "../contracts/site.ts";
import { type Paint, painter, table } from "./paint.ts";
import { readReport } from "./plan-run.ts";

interface Options {
  store: readonly string[];
  month?: string;
  now?: number;
  drills: readonly string[];
  json?: boolean;
  markdown?: string | true;
  html?: string;
}

const DAY = 86_400_000;

export async function showAccounts(file: string, options: Options): Promise<void> {
  const { site } = await loadSite(file);
  const stores =
    options.store.length > 0
      ? options.store
      : Object.keys(site.nodes)
          .map((node) => `/var/lib/nines/${node}/accounts`)
          .filter((dir) => existsSync(dir));
  if (stores.length === 0)
    throw new OperationalError("NOT_FOUND", "no accounts on this host; name their directory with --store");
  const missing = stores.find((dir) => !existsSync(dir));
  if (missing !== undefined) throw new OperationalError("NOT_FOUND", `there are no accounts in ${missing}`);
  const journals = stores.map((dir) => readJournal(dir));
  const window = windowOf(site, options);
  const stored = journals.map((journal) => journal.facts);
  const facts = stored.length === 1 ? (stored[0] ?? []) : mergeFacts(stored, window.to);
  const reports = await Promise.all(options.drills.map(readReport));
  const promised = planSite(site, { reports, deep: false }).services;
  const report = accountsReport(site, facts, window, {
    promised,
    damagedLines: journals.reduce((sum, journal) => sum + journal.damaged, 0),
  });
  if (options.html !== undefined) await writeFile(options.html, reportHtml(report));
  if (typeof options.markdown === "string") await writeFile(options.markdown, reportMarkdown(report));
  if (options.json) console.log(JSON.stringify(report, undefined, 2));
  else if (options.markdown === true) console.log(reportMarkdown(report));
  else console.log(accountsText(report, painter()));
}

function windowOf(site: Site, options: Options): { from: number; to: number } {
  const now = options.now ?? new SystemClock().wall();
  if (options.month !== undefined) {
    const match = /^(\d{4})-(0[1-9]|1[0-2])$/.exec(options.month);
    if (!match) throw new OperationalError("NOT_FOUND", `--month is yyyy-mm, not "${options.month}"`);
    const [year, month] = [Number(match[1]), Number(match[2])];
    // A month that is not over yet is reported as far as it has come.
    return { from: Date.UTC(year, month - 1, 1), to: Math.min(Date.UTC(year, month, 1), now) };
  }
  const windows = Object.values(site.availability.targets).map(({ window }) => window);
  return { from: now - Math.max(30 * DAY, ...windows), to: now };
}

export function accountsText(report: AccountsReport, paint: Paint): string {
  const dim = (text: string): string => paint("dim", text);
  const day = (at: number): string => new Date(at).toISOString().slice(0, 16).replace("T", " ");
  const lines = [
    `${paint("bold", report.site)}: what was measured ${dim(`(${day(report.window.from)} to ${day(report.window.to)} UTC)`)}`,
  ];
  if (report.damagedLines > 0)
    lines.push(paint("yellow", `${report.damagedLines} damaged lines of the accounts were not believed`));
  lines.push(
    "",
    ...table(
      [
        [
          "service",
          "by time",
          "by requests",
          "target",
          "budget used",
          "down",
          "outages",
          "planned",
          "not observed",
        ].map(dim),
        ...report.services.map((one) => accountRow(one, paint)),
      ],
      "  ",
    ),
  );
  const withEvidence = report.services.filter((one) => one.evidence !== undefined);
  lines.push(
    "",
    paint("bold", "Promised and measured"),
    ...table(
      [
        ["service", "promised", "measured", "95 % of confidence", ""].map(dim),
        ...withEvidence.map((one) => evidenceRow(one, paint)),
      ],
      "  ",
    ),
  );
  for (const { service, target } of report.services) {
    if (target === undefined) continue;
    const rows = target.alerts.map((alert) => [
      alert.severity,
      `${span(alert.long)} and ${span(alert.short)}`,
      `${alert.threshold.toFixed(1)}x`,
      `${alert.longRate.toFixed(1)}x and ${alert.shortRate.toFixed(1)}x`,
      alert.firing ? paint("red", "FIRING") : paint("green", "quiet"),
    ]);
    lines.push(
      "",
      paint("bold", `Burn rate (${service})`),
      ...table([["alert", "over", "from", "now", ""].map(dim), ...rows], "  "),
    );
    if (target.credit > 0) lines.push(paint("red", `  credit due: ${target.credit} % of the bill`));
  }
  for (const { service, figures, ongoing } of report.services) {
    if (figures.outages.length === 0) continue;
    const shown = figures.outages.slice(-12);
    const rows = shown.map((outage) => [
      day(outage.from),
      ongoing && outage === shown.at(-1) ? paint("red", "going on") : span(outage.to - outage.from),
      outage.cause,
    ]);
    lines.push(
      "",
      paint(
        "bold",
        `Outages (${service}${shown.length < figures.outages.length ? `, the last ${shown.length}` : ""})`,
      ),
      ...table(rows, "  "),
    );
  }
  return lines.join("\n");
}

function accountRow({ service, figures, target }: ServiceAccount, paint: Paint): string[] {
  const used = target === undefined ? "-" : `${(target.budget.used * 100).toFixed(1)} %`;
  const colour = target === undefined ? "dim" : target.kept ? "green" : "red";
  return [
    paint("bold", service),
    paint(colour, share(figures.byTime === undefined ? undefined : 1 - figures.byTime)),
    share(figures.byRequests === undefined ? undefined : 1 - figures.byRequests),
    target === undefined ? "-" : `${target.slo} %`,
    target !== undefined && target.budget.used > 1 ? paint("red", used) : used,
    span(figures.down),
    String(figures.outages.length),
    span(figures.planned),
    figures.unobserved === 0 ? "-" : paint("yellow", span(figures.unobserved)),
  ];
}

function evidenceRow({ service, promised, evidence }: ServiceAccount, paint: Paint): string[] {
  if (evidence === undefined || promised === undefined) return [service];
  const { interval, verdict, words } = evidence;
  return [
    paint("bold", service),
    sayAvailability(promised),
    sayAvailability(evidence.unavailability),
    `${sayAvailability(interval[1])} to ${sayAvailability(interval[0])}`,
    paint(verdict === "worse" ? "red" : verdict === "agrees" ? "green" : "yellow", words),
  ];
}
