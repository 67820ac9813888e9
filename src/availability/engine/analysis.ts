/** The front door: a tree in, everything a planner reads out. */
import { type Result, fail, ok } from "../../base/result.ts";
import { type Bounds, probabilityBounds } from "./bounds.ts";
import { type CompileOptions, type Compiled, compile } from "./compile.ts";
import { type CutSetOptions, type CutSetFault, type CutSets, cutSets } from "./cut-sets.ts";
import { Evaluator, type Importance, importanceOf } from "./probability.ts";
import type { FaultTree, TreeFault } from "./tree.ts";

export interface Analysis {
  readonly compiled: Compiled;
  /** Both ends equal where the value is exact. */
  readonly bounds: Bounds;
  readonly exact: boolean;
  /** The exact value; the upper bound where only bounds are known. */
  readonly probability: number;
  /** Undefined where the diagram did not fit. */
  readonly evaluator: Evaluator | undefined;
  /** Of all events that matter, by tree node; empty where the diagram did not fit. */
  importance(): Importance[];
  cutSets(options?: CutSetOptions): Result<CutSets, CutSetFault>;
  /**
   * How often the top event begins, in the unit of `intensity` (events per hour, say): the sum of each
   * event's intensity times its Birnbaum importance. Undefined where the diagram did not fit.
   */
  frequency(intensity: (node: number) => number): number | undefined;
}

export function analyse(tree: FaultTree, options: CompileOptions = {}): Result<Analysis, TreeFault> {
  const compiled = compile(tree, options);
  if (!compiled.ok) return fail(compiled.error);
  const source = compiled.value;
  const evaluator = source.exact ? new Evaluator(source) : undefined;
  const exact = evaluator?.probability();
  const bounds = exact === undefined ? probabilityBounds(source) : { lower: exact, upper: exact };
  let gradient: { probability: number; birnbaum: Float64Array } | undefined;
  const slopes = () => (gradient ??= evaluator?.gradient());
  return ok({
    compiled: source,
    bounds,
    exact: source.exact,
    probability: bounds.upper,
    evaluator,
    importance() {
      const result: Importance[] = [];
      const found = slopes();
      if (found === undefined) return result;
      tree.nodes.forEach((node, i) => {
        const birnbaum = found.birnbaum[i]!;
        if (node.kind === "event" && birnbaum !== 0)
          result.push(importanceOf(found.probability, node.probability, birnbaum, i));
      });
      return result;
    },
    cutSets: (wanted = {}) => cutSets(source, wanted),
    frequency(intensity) {
      const found = slopes();
      if (found === undefined) return undefined;
      let sum = 0;
      tree.nodes.forEach((node, i) => {
        if (node.kind === "event" && found.birnbaum[i] !== 0) sum += intensity(i) * found.birnbaum[i]!;
      });
      return sum;
    },
  });
}
