// What bench:proxy makes of its rows: ratios of nines against everyone, and a line for each subject.
import { type Ratio, type Row, ratioOf } from "../support/results.ts";

const AIMS: readonly { case: string; metric: string; against: string; aim: number }[] = [
  { case: "tiny GET, kept connections", metric: "cpu", against: "haproxy", aim: 1.5 },
  { case: "tiny GET, kept connections", metric: "cpu", against: "caddy", aim: 0.4 },
  { case: "tiny GET, kept connections", metric: "cpu", against: "http-proxy-3", aim: 0.2 },
];

/** nines against everyone, in CPU and memory: below 1 nines takes less. */
export const ratiosOf = (rows: readonly Row[]): Ratio[] =>
  rows.flatMap(({ case: name, metric, subject }) => {
    if (subject === "nines" || (metric !== "cpu" && metric !== "memory")) return [];
    const aim = AIMS.find(
      (one) => one.case === name && one.metric === metric && one.against === subject,
    )?.aim;
    return ratioOf(rows, [name, metric, "nines", subject], aim ?? null);
  });

const round = (value: number | undefined): number | undefined =>
  value === undefined ? undefined : Math.round(value * 100) / 100;

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
          : `; user ${round(of("user cpu")?.median)}, system ${round(of("system cpu")?.median)})  ` +
            `${Math.round(of("rate")?.median ?? 0)}/s  p50 ${round(of("p50")?.median)} ms  p99 ${round(of("p99")?.median)} ms`;
      console.log(
        `  ${subject.padEnd(12)} ${String(round(main?.median)).padStart(9)} ${main?.unit} (${round(main?.min)}-${round(main?.max)}` +
          `${more === "" ? ")" : more}${ratio === undefined ? "" : `  nines: ${round(ratio.value)} x`}`,
      );
    }
  }
}
