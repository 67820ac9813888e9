/** `nines plan --html`: one file, nothing loaded from elsewhere. The chart of nines, tables, the fault trees. */
import type { Literal } from "../engine/tree.ts";
import type { SiteModel } from "../model/site-model.ts";
import type { Plan, PlannedService } from "../model/plan.ts";
import { MONTH_HOURS, YEAR_HOURS, ninesOf, sayAvailability, sayHours } from "../model/words.ts";

const escape = (text: string): string =>
  text.replaceAll(/[<>&"]/g, (c) => ({ "<": "&lt;", ">": "&gt;", "&": "&amp;" })[c] ?? "&quot;");

const STYLE = `
:root { color-scheme: light dark; --line: #8886; --good: #2a7; --fair: #c90; --bad: #d43; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); } h3 { margin: 1.5rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--soft); }
th { font-weight: 600; opacity: .65; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.soft { opacity: .65; } .bad { color: var(--bad); } .good { color: var(--good); }
details { margin-left: 1.1rem; } summary { cursor: pointer; } .leaf { margin-left: 2.1rem; }
.gate { font: 600 11px ui-monospace, monospace; border: 1px solid var(--line); border-radius: 3px; padding: 0 .35em; margin-right: .4em; }
svg text { fill: currentColor; font: 12px system-ui, sans-serif; }`;

export function planHtml(plan: Plan, model: SiteModel): string {
  const body = [
    `<h1>${escape(plan.site)}: what it promises</h1>`,
    plan.without.length > 0 ? `<p>Without ${escape(plan.without.join(", "))}.</p>` : "",
    `<p class="soft">${plan.basicEvents} things that can go wrong. A year has 365 days, a month 30.</p>`,
    chart(plan.services),
    overview(plan),
    ...plan.services.map((service) => serviceSection(service, model)),
    inputs(plan),
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${escape(plan.site)}: plan</title>
<meta name="viewport" content="width=device-width"><style>${STYLE}</style></head>
<body>
${body.filter((part) => part !== "").join("\n")}
</body></html>
`;
}

/** Bars of nines: promised, and what the naive product says behind it. */
function chart(services: readonly PlannedService[]): string {
  const left = 140;
  const wide = 640;
  const most = 9;
  const x = (nines: number): number => left + (Math.min(nines, most) / most) * wide;
  const rows = services.map((one, i) => {
    const y = 34 + i * 34;
    const nines = ninesOf(one.unavailability);
    const colour = nines < 3 ? "var(--bad)" : nines < 4 ? "var(--fair)" : "var(--good)";
    const target =
      one.target === undefined
        ? ""
        : `<line x1="${x(ninesOf(1 - one.target.slo / 100))}" x2="${x(ninesOf(1 - one.target.slo / 100))}" y1="${y - 4}" y2="${y + 22}" stroke="currentColor" stroke-width="2"><title>target ${one.target.slo} %</title></line>`;
    return `<text x="${left - 10}" y="${y + 13}" text-anchor="end">${escape(one.service)}</text>
<rect x="${left}" y="${y}" width="${x(ninesOf(one.naive)) - left}" height="18" fill="var(--soft)"><title>naive product: ${sayAvailability(one.naive)}</title></rect>
<rect x="${left}" y="${y}" width="${x(nines) - left}" height="18" fill="${colour}"><title>${sayAvailability(one.unavailability)}</title></rect>
<text x="${x(nines) + 6}" y="${y + 13}">${sayAvailability(one.unavailability)}</text>${target}`;
  });
  const height = 44 + services.length * 34;
  const grid = Array.from({ length: most }, (_, i) => i + 1).map(
    (n) =>
      `<line x1="${x(n)}" x2="${x(n)}" y1="22" y2="${height - 8}" stroke="var(--line)" stroke-dasharray="2 3"/><text x="${x(n)}" y="14" text-anchor="middle">${n} ${n === 1 ? "nine" : "nines"}</text>`,
  );
  return `<svg viewBox="0 0 ${left + wide + 60} ${height}" role="img" aria-label="Nines per service">${grid.join("")}${rows.join("\n")}</svg>
<p class="soft">Coloured: promised. Grey: what multiplying nines says. Line: the target.</p>`;
}

const row = (cells: readonly string[], tag = "td"): string =>
  `<tr>${cells.map((cell, i) => `<${tag}${i === 0 ? "" : ' class="n"'}>${cell}</${tag}>`).join("")}</tr>`;
const tableOf = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  rows.length === 0 ? "" : `<table>${row(head, "th")}${rows.map((cells) => row(cells)).join("")}</table>`;

function overview(plan: Plan): string {
  return tableOf(
    ["service", "availability", "down a year", "down a month", "outages a year", "naive product"],
    plan.services.map((one) => [
      escape(one.service),
      sayAvailability(one.unavailability) + (one.exact ? "" : " (bound)"),
      sayHours(one.unavailability * YEAR_HOURS),
      sayHours(one.unavailability * MONTH_HOURS),
      one.outagesPerYear?.toPrecision(2) ?? "-",
      sayAvailability(one.naive),
    ]),
  );
}

function serviceSection(one: PlannedService, model: SiteModel): string {
  const share = (value: number): string => `${(value * 100).toFixed(1)} %`;
  const tops = model.services.find(({ service }) => service === one.service);
  const target = one.target;
  return [
    `<h2>${escape(one.service)}</h2>`,
    target === undefined
      ? ""
      : `<p>Target ${target.slo} %: <b class="${target.kept ? "good" : "bad"}">${target.kept ? "kept on average" : "not kept on average"}</b>, missed in ${share(target.missed)} of windows.</p>`,
    "<h3>Single points of failure</h3>",
    one.singlePoints.length === 0
      ? '<p class="good">none</p>'
      : tableOf(
          ["", "a year", "share"],
          one.singlePoints.map((p) => [
            escape(p.name),
            sayHours(p.unavailability * YEAR_HOURS),
            share(p.share),
          ]),
        ),
    "<h3>Worst combinations</h3>",
    tableOf(
      ["", "a year", "share"],
      one.cutSets.map((set) => [
        escape(set.events.join(" and ")),
        sayHours(set.unavailability * YEAR_HOURS),
        share(set.share),
      ]),
    ),
    one.improvements.length === 0 ? "" : "<h3>What one change buys</h3>",
    tableOf(
      ["", "now", "then", "a year less"],
      one.improvements
        .slice(0, 12)
        .map((i) => [
          escape(i.what),
          sayAvailability(i.from),
          sayAvailability(i.to),
          sayHours((i.from - i.to) * YEAR_HOURS),
        ]),
    ),
    "<h3>Fault tree</h3>",
    tops === undefined ? "" : faultTree(model, tops.honest),
  ].join("\n");
}

/** Gates as things that open; two levels are open at first. A gate used twice is written out once. */
function faultTree(model: SiteModel, top: Literal): string {
  const shown = new Set<number>();
  let budget = 3000;
  const walk = (literal: Literal, depth: number): string => {
    const node = model.tree.nodes[literal >> 1];
    if (node === undefined) return "";
    if (--budget < 0) return budget === -1 ? '<div class="leaf soft">and more</div>' : "";
    if (node.kind !== "gate") {
      const info = model.events.get(literal >> 1);
      const p = node.kind === "event" ? `${node.probability.toExponential(1)}, ` : "";
      const how = info === undefined ? "" : `${p}${sayHours(info.duration)} each time, ${info.origin}`;
      return `<div class="leaf">${escape(info?.name ?? "down by assumption")} <span class="soft">${how}</span></div>`;
    }
    const sign = node.gate === "atleast" ? `${node.atLeast} of ${node.inputs.length}` : node.gate;
    if (node.inputs.length === 1 && node.gate !== "not") return walk(node.inputs[0]!, depth);
    const title = `<span class="gate">${sign}</span>${escape(node.name)}`;
    if (shown.has(literal >> 1))
      return `<div class="leaf">${title} <span class="soft">(see above)</span></div>`;
    shown.add(literal >> 1);
    return `<details${depth < 2 ? " open" : ""}><summary>${title}</summary>${node.inputs.map((input) => walk(input, depth + 1)).join("")}</details>`;
  };
  return walk(top, 0);
}

function inputs(plan: Plan): string {
  return `<h2>What went in</h2>${tableOf(
    ["input", "value", "origin", "source"],
    plan.inputs.map(({ what, value, origin, source }) => [
      escape(what),
      escape(value),
      origin,
      escape(source),
    ]),
  )}`;
}
