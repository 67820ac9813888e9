/** What every bench shares: flags, medians, the file in bench/results, what is printed, aims. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";

export interface Row {
  readonly case: string;
  readonly subject: string;
  readonly metric: string;
  readonly unit: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly runs: number;
  /** Where it was measured before the rest of its file. */
  readonly date?: string;
}

export interface Ratio {
  readonly case: string;
  readonly metric: string;
  readonly against: string;
  readonly value: number;
  /** Nothing is promised where it is null. */
  readonly aim: number | null;
  /** The aim is a least value; otherwise a greatest one. */
  readonly atLeast?: true;
}

export const has = (flag: string): boolean => process.argv.includes(flag);
/** The number after a flag. */
export const numberAfter = (flag: string): number | undefined => {
  const at = process.argv.indexOf(flag);
  return at < 0 ? undefined : Number(process.argv[at + 1]);
};

/** The word after a flag. */
export const wordAfter = (flag: string): string | undefined => {
  const at = process.argv.indexOf(flag);
  return at < 0 ? undefined : process.argv[at + 1];
};

/** Of an even count the lower middle one: a value that was measured. */
export const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[(values.length - 1) >> 1] ?? 0;

export const rowOf = (
  name: string,
  subject: string,
  metric: string,
  unit: string,
  values: readonly number[],
): Row => ({
  case: name,
  subject,
  metric,
  unit,
  median: median(values),
  min: Math.min(...values),
  max: Math.max(...values),
  runs: values.length,
});

/** Median of `ours` divided by that of `theirs`; nothing where either was not measured. */
export function ratioOf(
  rows: readonly Row[],
  [name, metric, ours, theirs]: readonly [string, string, string, string],
  aim: number | null,
  atLeast = false,
): Ratio[] {
  const of = (subject: string): Row | undefined =>
    rows.find((row) => row.case === name && row.metric === metric && row.subject === subject);
  const [a, b] = [of(ours), of(theirs)];
  if (a === undefined || b === undefined || b.median === 0) return [];
  const value = a.median / b.median;
  return [{ case: name, metric, against: theirs, value, aim, ...(atLeast ? { atLeast } : {}) }];
}

/** Figures with the digits that the spread can carry. */
const show = (value: number): string =>
  Math.abs(value) >= 100 ? String(Math.round(value)) : value.toFixed(Math.abs(value) < 1 ? 3 : 1);

function printTable(lines: readonly (readonly string[])[]): void {
  const widths = (lines[0] ?? []).map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  for (const line of lines)
    console.log(
      line
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    );
}

interface More {
  readonly aims?: readonly { readonly case: string }[];
  readonly [fact: string]: unknown;
}

interface Saved {
  readonly date: string;
  readonly rows: readonly Row[];
  readonly ratios: readonly Ratio[];
  readonly aims?: readonly { readonly case: string }[];
}

/** Writes bench/results/NAME.json. `--keep`: what the file has of other cases stays, with the date it was measured. */
export function save(bench: string, rows: readonly Row[], ratios: readonly Ratio[], more: More = {}): void {
  const results = new URL("../results/", import.meta.url).pathname;
  mkdirSync(results, { recursive: true });
  const path = `${results}${bench}.json`;
  const earlier: Saved | undefined =
    has("--keep") && existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Saved) : undefined;
  const cases = new Set(rows.map((row) => row.case));
  const other = <T extends { readonly case: string }>(list: readonly T[] = []): T[] =>
    list.filter((one) => !cases.has(one.case));
  const machine = `${cpus().length} x ${cpus()[0]?.model.trim()}, Linux ${release()}, Node ${process.version}`;
  const file = {
    bench,
    date: new Date().toISOString(),
    machine,
    rows: [...other(earlier?.rows).map((row) => ({ date: earlier?.date, ...row })), ...rows],
    ratios: [...other(earlier?.ratios), ...ratios],
    ...more,
    ...(more.aims === undefined ? {} : { aims: [...other(earlier?.aims), ...more.aims] }),
  };
  writeFileSync(path, `${JSON.stringify(file, undefined, 2)}\n`);
}

/** Prints all, writes bench/results/NAME.json, and under `--aims` names what is missed and ends with 1. */
export function report(bench: string, rows: readonly Row[], ratios: readonly Ratio[], more: More = {}): void {
  printTable([
    ["case", "metric", "subject", "median (min-max)"],
    ...rows.map((row) => [
      row.case,
      row.metric,
      row.subject,
      `${show(row.median)} ${row.unit} (${show(row.min)}-${show(row.max)}, ${row.runs} runs)`,
    ]),
  ]);
  console.log("");
  for (const { case: name, metric, against, value, aim, atLeast } of ratios)
    console.log(
      `${name}, ${metric}: ${value.toFixed(2)} x ${against}${aim === null ? "" : ` (aim: at ${atLeast ? "least" : "most"} ${aim})`}`,
    );
  save(bench, rows, ratios, more);
  if (!has("--aims")) return;
  for (const { case: name, metric, against, value, aim, atLeast } of ratios) {
    if (aim === null || (atLeast ? value >= aim : value <= aim)) continue;
    console.log(`aim missed: ${name}, ${metric} against ${against}: ${value.toFixed(2)}, aim ${aim}`);
    process.exitCode = 1;
  }
}
