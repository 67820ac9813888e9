/** The accounts of one service over one window, as values and as the monthly report that a customer gets. */
import type { Site } from "../../contracts/site.ts";
import { creditFor } from "../model/windows.ts";
import { sayAvailability, sayHours } from "../model/words.ts";
import type { Fact } from "./facts.ts";
import { type Evidence, weigh } from "./policy-evidence.ts";
import {
  type Budget,
  type BurnAlert,
  type Interval,
  type WindowFigures,
  budgetOf,
  burnAlerts,
  errorRatio,
  figures,
  keepLedger,
} from "./policy-ledger.ts";
import { plannedMaintenance } from "./service.ts";

export interface ServiceAccount {
  readonly service: string;
  readonly figures: WindowFigures;
  readonly ongoing: boolean;
  readonly target?:
    | {
        readonly slo: number;
        readonly kept: boolean;
        readonly budget: Budget;
        readonly alerts: readonly BurnAlert[];
        /** Per cent of the bill. */
        readonly credit: number;
        readonly bill?: number | undefined;
      }
    | undefined;
  readonly promised?: number | undefined;
  readonly evidence?: Evidence | undefined;
}

export interface AccountsReport {
  readonly site: string;
  readonly currency: string;
  readonly window: Interval;
  readonly damagedLines: number;
  readonly services: readonly ServiceAccount[];
}

export interface Promised {
  readonly service: string;
  readonly unavailability: number;
  readonly outagesPerYear?: number | undefined;
}

export function accountsReport(
  site: Site,
  facts: readonly Fact[],
  window: Interval,
  options: { readonly promised: readonly Promised[]; readonly damagedLines?: number },
): AccountsReport {
  const services = Object.keys(site.services).map((service): ServiceAccount => {
    const planned = plannedMaintenance(site, service);
    const ledger = keepLedger(service, facts, window.to);
    const found = figures(ledger, window, planned);
    const target = site.availability.targets[service];
    const promise = options.promised.find((one) => one.service === service);
    const ratio = errorRatio(found);
    const percent = 100 * (1 - (ratio ?? 0));
    return {
      service,
      figures: found,
      ongoing: ledger.ongoing,
      target: target && {
        slo: target.slo,
        kept: percent >= target.slo,
        budget: budgetOf(found, target.slo),
        alerts: burnAlerts(ledger, target.slo, window.to - window.from, window.to, planned),
        credit: ratio === undefined ? 0 : creditFor(percent, target.credits),
        bill: target.bill,
      },
      promised: promise?.unavailability,
      evidence: promise && weigh(ledger, found, promise),
    };
  });
  return {
    site: site.site,
    currency: site.availability.currency,
    window,
    damagedLines: options.damagedLines ?? 0,
    services,
  };
}

const day = (at: number): string => new Date(at).toISOString().slice(0, 10);
const minute = (at: number): string => new Date(at).toISOString().slice(0, 16).replace("T", " ");
export const span = (ms: number): string => sayHours(ms / 3_600_000);
export const share = (ratio: number | undefined): string =>
  ratio === undefined ? "-" : sayAvailability(ratio);

interface Section {
  readonly title: string;
  readonly lines: readonly string[];
  readonly table?: { readonly head: readonly string[]; readonly rows: readonly (readonly string[])[] };
}

/** What the report says, once, for Markdown and HTML. */
function sections(report: AccountsReport): Section[] {
  const overview: Section = {
    title: `Availability of ${report.site}, ${day(report.window.from)} to ${day(report.window.to - 1)}`,
    lines:
      report.damagedLines > 0
        ? [`${report.damagedLines} damaged lines of the accounts were not believed.`]
        : [],
    table: {
      head: [
        "Service",
        "By time",
        "By requests",
        "Target",
        "Kept",
        "Down",
        "Planned",
        "Not observed",
        "Credit",
      ],
      rows: report.services.map(({ service, figures: f, target }) => [
        service,
        share(f.byTime === undefined ? undefined : 1 - f.byTime),
        share(f.byRequests === undefined ? undefined : 1 - f.byRequests),
        target === undefined ? "-" : `${target.slo} %`,
        target === undefined ? "-" : target.kept ? "yes" : "no",
        span(f.down),
        span(f.planned),
        span(f.unobserved),
        target === undefined || target.credit === 0
          ? "-"
          : `${target.credit} %${target.bill === undefined ? "" : ` (${((target.bill * target.credit) / 100).toFixed(2)} ${report.currency})`}`,
      ]),
    },
  };
  const details = report.services.map(
    ({ service, figures: f, target, promised, evidence, ongoing }): Section => {
      const lines: string[] = [];
      if (target) {
        const { used, left, total } = target.budget;
        lines.push(
          `Error budget: ${span(total)}, ${(used * 100).toFixed(1)} % used, ${left < 0 ? `overdrawn by ${span(-left)}` : `${span(left)} left`}.`,
        );
      }
      if (f.good + f.bad > 0) lines.push(`Requests: ${f.good + f.bad}, of them ${f.bad} bad.`);
      if (f.plannedDown > 0)
        lines.push(`Planned maintenance took it down for ${span(f.plannedDown)}, which is not counted.`);
      if (promised !== undefined && evidence)
        lines.push(
          `Promised ${sayAvailability(promised)}; measured ${sayAvailability(evidence.unavailability)}, with 95 % confidence between ${sayAvailability(evidence.interval[1])} and ${sayAvailability(evidence.interval[0])}: ${evidence.words}.`,
        );
      if (f.outages.length === 0) lines.push("No outages.");
      const rows = f.outages.map((outage, i) => [
        minute(outage.from),
        ongoing && i === f.outages.length - 1 ? "going on" : span(outage.to - outage.from),
        outage.cause,
      ]);
      return rows.length === 0
        ? { title: service, lines }
        : { title: service, lines, table: { head: ["Began (UTC)", "Lasted", "Cause"], rows } };
    },
  );
  return [overview, ...details];
}

export function reportMarkdown(report: AccountsReport): string {
  const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(" | ")} |`;
  return `${sections(report)
    .map(({ title, lines, table }, i) =>
      [
        `${i === 0 ? "#" : "##"} ${title}`,
        ...(lines.length > 0 ? [lines.join("  \n")] : []),
        ...(table
          ? [[line(table.head), line(table.head.map(() => "---")), ...table.rows.map(line)].join("\n")]
          : []),
      ].join("\n\n"),
    )
    .join("\n\n")}\n`;
}

export function reportHtml(report: AccountsReport): string {
  const safe = (text: string): string =>
    text.replaceAll(/[<>&]/g, (c) => (c === "<" ? "&lt;" : c === ">" ? "&gt;" : "&amp;"));
  const row = (cells: readonly string[], tag: string): string =>
    `<tr>${cells.map((text) => `<${tag}>${safe(text)}</${tag}>`).join("")}</tr>`;
  const body = sections(report).map(({ title, lines, table }, i) => {
    const head = i === 0 ? "h1" : "h2";
    const rows = table
      ? `<table>${row(table.head, "th")}${table.rows.map((cells) => row(cells, "td")).join("")}</table>`
      : "";
    return `<${head}>${safe(title)}</${head}>${lines.map((text) => `<p>${safe(text)}</p>`).join("")}${rows}`;
  });
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${safe(report.site)}: availability</title>
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
table{border-collapse:collapse}th,td{text-align:left;padding:.3rem 1rem .3rem 0;border-bottom:1px solid #8884}</style></head>
<body>
${body.join("\n")}
</body></html>
`;
}
