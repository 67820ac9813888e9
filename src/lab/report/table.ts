import type { DrillBudget, DrillRun } from "../../contracts/drills.ts";
import { figuresOf, quantile } from "../policy.ts";

/** Columns padded to the widest cell; the first to the left, the rest to the right. */
export function renderTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join("  ")
      .trimEnd();
  const [head = [], ...body] = rows;
  return [line(head), widths.map((width) => "-".repeat(width)).join("  "), ...body.map(line)].join("\n");
}

const number = (value: number): string => (Number.isInteger(value) ? String(value) : value.toFixed(0));

/** median, or `median / worst` of several runs. */
function spread(values: readonly number[]): string {
  const worst = Math.max(...values);
  return values.length === 1 ? number(worst) : `${number(quantile(values, 0.5))} / ${number(worst)}`;
}

const heads = [
  "drill",
  "runs",
  "gap ms",
  "budget",
  "lost",
  "kept",
  "stream stall ms",
  "no owner ms",
  "two owners ms",
  "takeovers",
  "prober lag ms",
  "verdict",
];

/** One line per drill and subject; several runs as `median / worst`. */
export function drillTable(runs: readonly DrillRun[]): string {
  const groups = new Map<string, DrillRun[]>();
  const many = new Set(runs.map(({ subject }) => subject)).size > 1;
  for (const run of runs) {
    const key = many ? `${run.drill} (${run.subject})` : run.drill;
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  const rows = [...groups].map(([name, all]) => {
    const ran = all.filter(({ verdict, probes }) => verdict !== "skipped" && probes.length > 0);
    const counts = { passed: 0, failed: 0, skipped: 0 };
    for (const { verdict } of all) counts[verdict]++;
    const verdict = Object.entries(counts).flatMap(([word, n]) =>
      n > 0 ? [all.length > 1 ? `${n} ${word}` : word] : [],
    );
    if (ran.length === 0)
      return [name, String(all.length), ...heads.slice(3).map(() => "-"), verdict.join(", ")];
    const figures = ran.map((run) => figuresOf(run.probes, run));
    const stalls = ran.map(({ probes }) =>
      Math.max(0, ...probes.filter(({ established }) => established).map(({ longestGap }) => longestGap)),
    );
    const budget: DrillBudget = ran[0]?.budget ?? {};
    return [
      name,
      String(all.length),
      spread(figures.map(({ gap }) => gap)),
      budget.gap === undefined ? (budget.lost === 0 ? "0 lost" : "-") : `<= ${budget.gap}`,
      spread(figures.map(({ lost }) => lost)),
      `${number(100 * Math.min(...figures.map(({ kept }) => kept)))} %`,
      spread(stalls),
      spread(ran.map(({ noOwner }) => noOwner)),
      spread(ran.map(({ twoOwners }) => twoOwners)),
      spread(ran.map(({ takeovers }) => takeovers)),
      spread(ran.map(({ proberLag }) => proberLag)),
      verdict.join(", "),
    ];
  });
  return renderTable([heads, ...rows]);
}

/** A line per run that did not pass, with its reason. */
export function reasons(runs: readonly DrillRun[]): string[] {
  return runs.flatMap(({ drill, repeat, verdict, reason }) =>
    verdict === "passed" ? [] : [`${verdict} ${drill} #${repeat}: ${reason ?? "no reason given"}`],
  );
}
