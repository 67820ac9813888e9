import { readFile, stat, writeFile } from "node:fs/promises";
import type { CutSets } from "../availability/engine/cut-sets.ts";
import { analyse } from "../availability/engine/analysis.ts";
import { ExpressionContext } from "../availability/engine/expression.ts";
import { sampleTop } from "../availability/engine/uncertainty.ts";
import { readOpenPsa } from "../availability/openpsa/read.ts";
import { writeOpenPsa } from "../availability/openpsa/write.ts";
import { OperationalError, messageOf } from "../base/errors.ts";
import { SystemClock } from "../base/system-clock.ts";
import { painter, table } from "./paint.ts";

interface Options {
  json?: boolean;
  openPsa?: string;
  top: number;
  maxOrder: number;
}

/** Larger than any model that fits into memory as one text. */
const MAX_BYTES = 256 * 1024 * 1024;

async function readModelFile(file: string): Promise<{ file: string; text: string }> {
  try {
    const { size } = await stat(file);
    if (size > MAX_BYTES) throw new Error(`it has ${size} bytes; ${MAX_BYTES} at most`);
    return { file, text: await readFile(file, "utf8") };
  } catch (error) {
    throw new OperationalError("FILE_UNREADABLE", `the model ${file} cannot be read: ${messageOf(error)}`);
  }
}

/** A fault tree made elsewhere: probability, cut sets, importance, uncertainty of every top. */
export async function planModel(files: readonly string[], options: Options): Promise<void> {
  const model = readOpenPsa(await Promise.all(files.map(readModelFile)));
  const { tree, tops, expressions } = model;
  if (options.openPsa !== undefined)
    await writeFile(options.openPsa, writeOpenPsa(tree, model.name || "model"));
  const paint = painter();
  const clock = new SystemClock();
  const results = tops.map((top) => {
    tree.top = top;
    const started = clock.monotonic();
    const result = analyse(tree);
    if (!result.ok) throw new OperationalError("CONFLICT", result.error.message);
    const analysis = result.value;
    const sets = analysis.cutSets({ maxOrder: options.maxOrder });
    const importance = analysis.importance();
    const milliseconds = clock.monotonic() - started;
    const uncertainty =
      model.uncertain && analysis.evaluator
        ? sampleTop(
            analysis.evaluator,
            (random) => {
              const context = new ExpressionContext(8760, random);
              const drawn = new Map<number, number>();
              return (node) => {
                let value = drawn.get(node);
                if (value === undefined) {
                  const expression = expressions.get(node);
                  value = expression === undefined ? 0 : Math.min(1, Math.max(0, context.value(expression)));
                  drawn.set(node, value);
                }
                return value;
              };
            },
            { trials: 1000, seed: 1 },
          )
        : undefined;
    return { name: tree.nameOf(top), analysis, sets, importance, milliseconds, uncertainty };
  });
  if (options.json) {
    console.log(
      JSON.stringify(
        results.map(({ name, analysis, sets, importance, milliseconds, uncertainty }) => ({
          top: name,
          probability: analysis.probability,
          exact: analysis.exact,
          bounds: analysis.bounds,
          cutSets: sets.ok ? { count: sets.value.count, byOrder: sets.value.byOrder } : sets.error,
          uncertainty: uncertainty && {
            mean: uncertainty.mean,
            p5: uncertainty.quantile(0.05),
            p95: uncertainty.quantile(0.95),
          },
          milliseconds,
          importance: importance.map((one) => ({ ...one, event: tree.nameOf(one.event * 2) })),
        })),
        undefined,
        2,
      ),
    );
    return;
  }
  for (const { name, analysis, sets, importance, uncertainty } of results) {
    console.log(`${paint("bold", name)}: probability ${paint("bold", analysis.probability.toPrecision(6))}`);
    if (!analysis.exact)
      console.log(
        paint(
          "yellow",
          `  too large for an exact answer: between ${analysis.bounds.lower.toPrecision(6)} and ${analysis.bounds.upper.toPrecision(6)}`,
        ),
      );
    if (sets.ok) printSets(sets.value, options.top);
    else console.log(paint("yellow", `  ${sets.error.message}`));
    if (uncertainty)
      console.log(
        `  uncertain inputs, 1000 trials: mean ${uncertainty.mean.toPrecision(4)}, 5 % ${uncertainty.quantile(0.05).toPrecision(4)}, 95 % ${uncertainty.quantile(0.95).toPrecision(4)}`,
      );
    const rows = importance
      .sort((a, b) => b.fussellVesely - a.fussellVesely)
      .slice(0, options.top)
      .map((one) => [
        tree.nameOf(one.event * 2),
        ...[one.birnbaum, one.criticality, one.diagnostic, one.riskAchievement, one.riskReduction].map(
          (value) => value.toPrecision(5),
        ),
      ]);
    if (rows.length > 0) {
      console.log(paint("dim", "  the most important events:"));
      console.log(
        table(
          [["event", "MIF", "CIF", "DIF", "RAW", "RRW"].map((cell) => paint("dim", cell)), ...rows],
          "  ",
        ).join("\n"),
      );
    }
  }
  for (const what of model.ignored) console.log(paint("yellow", `not read: ${what}`));

  function printSets(sets: CutSets, wanted: number): void {
    console.log(`  ${sets.count} minimal cut sets, by order: ${sets.byOrder.slice(1).join(" ")}`);
    for (const { events, probability } of sets.worst(wanted))
      console.log(
        `  ${probability.toExponential(3)}  ${events.map((node) => tree.nameOf(node * 2)).join(" ")}`,
      );
  }
}
