import { readFile, stat, writeFile } from "node:fs/promises";
import { type Analysis, analyse } from "../availability/engine/analysis.ts";
import type { CutSets } from "../availability/engine/cut-sets.ts";
import { ExpressionContext } from "../availability/engine/expression.ts";
import type { Importance } from "../availability/engine/probability.ts";
import type { FaultTree, Literal, TreeNode } from "../availability/engine/tree.ts";
import { type UncertaintyResult, sampleTop } from "../availability/engine/uncertainty.ts";
import { type OpenPsaModel, readOpenPsa } from "../availability/openpsa/read.ts";
import { writeOpenPsa } from "../availability/openpsa/write.ts";
import type { Clock } from "../base/time.ts";
import { OperationalError, messageOf } from "../base/errors.ts";
import type { Random } from "../base/random.ts";
import { SystemClock } from "../base/system-clock.ts";
import { type Paint, painter, table } from "./paint.ts";

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

interface TopResult {
  readonly name: string;
  readonly analysis: Analysis;
  readonly sets: ReturnType<Analysis["cutSets"]>;
  readonly importance: readonly Importance[];
  readonly milliseconds: number;
  readonly uncertainty: UncertaintyResult | undefined;
}

/** A fault tree made elsewhere: probability, cut sets, importance, uncertainty of every top. */
export async function planModel(files: readonly string[], options: Options): Promise<void> {
  const model = readOpenPsa(await Promise.all(files.map(readModelFile)));
  const { tree, tops } = model;
  if (options.openPsa !== undefined)
    await writeFile(options.openPsa, writeOpenPsa(tree, model.name || "model"));
  const clock = new SystemClock();
  const paint = painter();
  // One top after the other, so that no more than one is in memory.
  tops.forEach((top, i) => {
    const result = analyseTop(model, top, options, clock);
    if (options.json) printJson(tree, result, i === 0 ? "[" : ",", i === tops.length - 1 ? "]" : "");
    else printText(tree, result, options, paint);
  });
  if (!options.json) for (const what of model.ignored) console.log(paint("yellow", `not read: ${what}`));
}

function analyseTop(model: OpenPsaModel, top: Literal, options: Options, clock: Clock): TopResult {
  const { tree } = model;
  tree.top = top;
  const started = clock.monotonic();
  const result = analyse(tree);
  if (!result.ok) throw new OperationalError("CONFLICT", result.error.message);
  const analysis = result.value;
  const sets = analysis.cutSets({ maxOrder: options.maxOrder });
  const importance = analysis.importance();
  const milliseconds = clock.monotonic() - started;
  const { evaluator } = analysis;
  const uncertainty =
    model.uncertain && evaluator
      ? sampleTop(evaluator, (random) => drawOf(model, random), { trials: 1000, seed: 1 })
      : undefined;
  return { name: tree.nameOf(top), analysis, sets, importance, milliseconds, uncertainty };
}

/** One trial: what varies is drawn once, what is certain is read from the tree. */
function drawOf({ tree, expressions }: OpenPsaModel, random: Random): (node: number) => number {
  const context = new ExpressionContext(8760, random);
  const drawn = new Map<number, number>();
  return (node) => {
    const expression = expressions.get(node);
    if (expression === undefined) return tree.probabilityOf(node);
    let value = drawn.get(node);
    if (value === undefined) {
      value = Math.min(1, Math.max(0, context.value(expression)));
      drawn.set(node, value);
    }
    return value;
  };
}

/** In pieces: the importance of a million events is longer than a text may be. */
function printJson(tree: FaultTree, result: TopResult, before: string, after: string): void {
  const { name, analysis, sets, importance, milliseconds, uncertainty } = result;
  const head = {
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
  };
  console.log(`${before}${JSON.stringify(head, undefined, 2).slice(0, -2)},\n  "importance": [`);
  for (let from = 0; from < importance.length; from += 1000)
    console.log(
      importance
        .slice(from, from + 1000)
        .map((one) => `    ${JSON.stringify({ ...one, event: tree.nameOf(one.event * 2) })}`)
        .join(",\n") + (from + 1000 < importance.length ? "," : ""),
    );
  console.log(`  ]\n}${after}`);
}

function printText(tree: FaultTree, result: TopResult, options: Options, paint: Paint): void {
  const { name, analysis, sets, importance, uncertainty } = result;
  const { probability, bounds } = analysis;
  const lost = hasUnderflown(analysis);
  const shown = lost ? `below ${LEAST_NORMAL.toPrecision(2)}` : probability.toPrecision(6);
  console.log(`${paint("bold", name)}: probability ${paint("bold", shown)}`);
  if (!analysis.exact)
    console.log(
      paint(
        "yellow",
        `  too large for an exact answer: between ${bounds.lower.toPrecision(6)} and ${bounds.upper.toPrecision(6)}`,
      ),
    );
  if (sets.ok) printSets(tree, sets.value, options);
  else console.log(paint("yellow", `  ${sets.error.message}`));
  if (uncertainty)
    console.log(
      `  uncertain inputs, 1000 trials: mean ${uncertainty.mean.toPrecision(4)}, 5 % ${uncertainty.quantile(0.05).toPrecision(4)}, 95 % ${uncertainty.quantile(0.95).toPrecision(4)}`,
    );
  // Quotients of numbers without digits would be noise.
  const rows = (lost ? [] : importance)
    .toSorted((a, b) => b.fussellVesely - a.fussellVesely)
    .slice(0, options.top)
    .map((one) => [
      tree.nameOf(one.event * 2),
      ...[one.birnbaum, one.criticality, one.diagnostic, one.riskAchievement, one.riskReduction].map(
        (value) => value.toPrecision(5),
      ),
    ]);
  if (rows.length === 0) return;
  console.log(paint("dim", "  the most important events:"));
  const head = ["event", "MIF", "CIF", "DIF", "RAW", "RRW"].map((cell) => paint("dim", cell));
  console.log(table([head, ...rows], "  ").join("\n"));
}

/** What is smaller than this has lost its digits, or all of itself. */
const LEAST_NORMAL = 2 ** -1022;
/** Whether the top can happen, with a probability too small for a number. */
const hasUnderflown = ({ compiled, exact, probability }: Analysis): boolean =>
  exact &&
  probability < LEAST_NORMAL &&
  compiled.graph.top >> 1 !== 0 &&
  !compiled.tree.nodes.some(isImpossible);
const isImpossible = (node: TreeNode): boolean => node.kind === "event" && node.probability === 0;

function printSets(tree: FaultTree, sets: CutSets, options: Options): void {
  console.log(
    sets.count === 0
      ? `  no minimal cut set of ${options.maxOrder} events or fewer (--max-order allows more)`
      : `  ${sets.count} minimal cut sets, by order: ${sets.byOrder.slice(1).join(" ")}`,
  );
  for (const { events, probability } of sets.worst(options.top))
    console.log(
      `  ${probability.toExponential(3)}  ${events.map((node) => tree.nameOf(node * 2)).join(" ")}`,
    );
}
