/**
 * Minimal cut sets: the smallest combinations of failures that bring the top event about. Those of order 1
 * are the single points of failure. Kept per module as zero-suppressed diagrams; counted without being
 * listed, listed only as far as somebody asks.
 */
import { type Result, fail, ok } from "../../base/result.ts";
import { DiagramFull } from "./node-table.ts";
import { type Compiled, compile } from "./compile.ts";
import { SetFamily } from "./set-family.ts";
import { type CutSet, enumerate, worstSets } from "./set-walks.ts";
import { OP_XOR } from "./simplify.ts";
import { ANY_ORDER } from "./zbdd.ts";

export interface CutSetOptions {
  /** Sets of more members are left out. Default: none are. */
  readonly maxOrder?: number | undefined;
  /** Sets less probable than this are left out. Default 0. */
  readonly cutOff?: number | undefined;
  /** Most diagram nodes; default 16 million. */
  readonly nodeLimit?: number | undefined;
}

export interface CutSets {
  /** How many sets there are of order 0, 1, 2, ...; undefined with a probability cut-off that needs listing. */
  readonly byOrder: readonly number[];
  readonly count: number;
  /** The most probable sets first, `limit` at most. */
  worst(limit: number): CutSet[];
  /** All sets, in no order, until `visit` returns false. `visit` gets tree nodes; do not keep the array. */
  each(visit: (events: readonly number[], probability: number) => boolean): void;
  /** The sum of all sets' probabilities: an upper bound (rare event approximation), may exceed 1. */
  readonly rareEvent: number;
  /** 1 - product of (1 - probability of each set): the min-cut upper bound. */
  readonly minCutUpperBound: number;
}

export type CutSetFault =
  | { readonly reason: "memory"; readonly message: string }
  | { readonly reason: "open"; readonly message: string };

export function cutSets(compiled: Compiled, options: CutSetOptions = {}): Result<CutSets, CutSetFault> {
  let source = compiled;
  if (!source.graph.coherent && !modulesArePositive(source)) {
    const whole = compile(source.tree, { modules: false });
    if (!whole.ok) return fail({ reason: "open", message: whole.error.message });
    source = whole.value;
  }
  if (!source.exact)
    return fail({
      reason: "open",
      message: "the tree is too large for a diagram: its cut sets are not known, only the bounds",
    });
  try {
    return ok(build(source, options));
  } catch (thrown) {
    if (!(thrown instanceof DiagramFull)) throw thrown;
    return fail({
      reason: "memory",
      message: "the cut sets outgrow the memory limit; lower the order limit or raise the cut-off",
    });
  }
}

/**
 * Whether the sets of the modules can be put in place of the modules: not where one is used negated or under
 * an xor, nor where one holds without any failure (`not a`), for then other sets are no longer minimal.
 */
function modulesArePositive({ graph, modules, bdd }: Compiled): boolean {
  const roots = new Set(modules.slice(0, -1).map((module) => module.parts.root));
  for (let node = 1; node < graph.op.length; node++) {
    for (const input of graph.inputs[node]!)
      if (roots.has(input >> 1) && ((input & 1) === 1 || graph.op[node] === OP_XOR)) return false;
  }
  return modules.slice(0, -1).every(({ edge }) => {
    let at = edge ?? 1;
    while (at >> 1 !== 0) at = bdd.low[at >> 1]! ^ (at & 1);
    return at === 1;
  });
}

function build(source: Compiled, options: CutSetOptions): CutSets {
  const { graph } = source;
  const cutOff = options.cutOff ?? 0;
  const family = new SetFamily(source, {
    maxOrder: Math.min(options.maxOrder ?? ANY_ORDER, ANY_ORDER),
    cutOff,
    nodeLimit: options.nodeLimit ?? 16_000_000,
  });
  const each: CutSets["each"] = (visit) => {
    if (graph.top === 0) visit([], 1);
    else enumerate(family, visit);
  };
  let byOrder = graph.top === 0 ? [1] : family.byOrder;
  if (cutOff > 0) {
    // Whole branches below the cut-off are gone already; single sets in the others are not.
    const listed: number[] = [];
    each((events) => {
      while (listed.length <= events.length) listed.push(0);
      listed[events.length]!++;
      return true;
    });
    byOrder = listed;
  }
  const count = byOrder.reduce((sum, n) => sum + n, 0);
  let bounds: { rareEvent: number; minCutUpperBound: number } | undefined;
  const measure = (): { rareEvent: number; minCutUpperBound: number } => {
    let rareEvent = 0;
    let log = 0;
    each((_, probability) => {
      rareEvent += probability;
      log += Math.log1p(-probability);
      return true;
    });
    return { rareEvent, minCutUpperBound: -Math.expm1(log) };
  };
  return {
    byOrder,
    count,
    each,
    get rareEvent() {
      return (bounds ??= measure()).rareEvent;
    },
    get minCutUpperBound() {
      return (bounds ??= measure()).minCutUpperBound;
    },
    worst: (wanted) => worstSets(family, wanted),
  };
}
