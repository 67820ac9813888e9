// Rows and ratios of bench/results/proxy.json, and the same for the eye.
export interface Row {
  readonly case: string;
  readonly subject: string;
  readonly metric: string;
  readonly unit: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly runs: number;
}

export interface Ratio {
  readonly case: string;
  readonly metric: string;
  readonly against: string;
  readonly value: number;
  readonly aim?: number;
}

const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2;
};
const round = (value: number): number => Math.round(value * 100) / 100;

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
  median: round(median(values)),
  min: round(Math.min(...values)),
  max: round(Math.max(...values)),
  runs: values.length,
});

const AIMS: readonly { case: string; metric: string; against: string; aim: number }[] = [
  { case: "tiny GET, kept connections", metric: "cpu", against: "haproxy", aim: 1.5 },
  { case: "tiny GET, kept connections", metric: "cpu", against: "caddy", aim: 0.4 },
  { case: "tiny GET, kept connections", metric: "cpu", against: "http-proxy-3", aim: 0.2 },
];

/** nines against everyone, in CPU and memory: below 1 nines takes less. */
export const ratiosOf = (rows: readonly Row[]): Ratio[] =>
  rows.flatMap((theirs) => {
    if (theirs.subject === "nines" || (theirs.metric !== "cpu" && theirs.metric !== "memory")) return [];
    const ours = rows.find(
      (row) => row.subject === "nines" && row.case === theirs.case && row.metric === theirs.metric,
    );
    if (ours === undefined || theirs.median <= 0) return [];
    const known = { case: theirs.case, metric: theirs.metric, against: theirs.subject };
    const aim = AIMS.find(
      (one) => one.case === known.case && one.metric === known.metric && one.against === known.against,
    );
    const value = round(ours.median / theirs.median);
    return [aim === undefined ? { ...known, value } : { ...known, value, aim: aim.aim }];
  });

export function print(rows: readonly Row[], ratios: readonly Ratio[]): void {
  for (const name of new Set(rows.map((row) => row.case))) {
    console.log(`\n${name}`);
    const these = rows.filter((row) => row.case === name);
    for (const subject of new Set(these.map((row) => row.subject))) {
      const of = (metric: string): Row | undefined =>
        these.find((row) => row.subject === subject && row.metric === metric);
      const main = of("cpu") ?? of("memory");
      const ratio = ratios.find((one) => one.case === name && one.against === subject);
      const more =
        of("cpu") === undefined
          ? ""
          : `; user ${of("user cpu")?.median}, system ${of("system cpu")?.median})  ` +
            `${Math.round(of("rate")?.median ?? 0)}/s  p50 ${of("p50")?.median} ms  p99 ${of("p99")?.median} ms`;
      console.log(
        `  ${subject.padEnd(12)} ${String(main?.median).padStart(9)} ${main?.unit} (${main?.min}-${main?.max}` +
          `${more === "" ? ")" : more}${ratio === undefined ? "" : `  nines: ${ratio.value} x`}`,
      );
    }
  }
}
