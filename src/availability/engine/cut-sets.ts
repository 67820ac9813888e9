/**
 * Minimal cut sets: the smallest combinations of failures that bring the top event about. Those of order 1
 * are the single points of failure. Kept per module as zero-suppressed diagrams; counted without being
 * listed, listed only as far as somebody asks.
 */
import { type Result, fail, ok } from "../../base/result.ts";
import { BddFull } from "./bdd.ts";
import { type Compiled, compile } from "./compile.ts";
import { OP_EVENT, OP_XOR } from "./simplify.ts";
import type { FaultTree } from "./tree.ts";
import { ANY_ORDER, Zbdd } from "./zbdd.ts";

export interface CutSetOptions {
  /** Sets of more members are left out. Default: none are. */
  readonly maxOrder?: number | undefined;
  /** Sets less probable than this are left out. Default 0. */
  readonly cutOff?: number | undefined;
  /** Most diagram nodes; default 16 million. */
  readonly nodeLimit?: number | undefined;
}

export interface CutSet {
  /** Tree nodes of the events. */
  readonly events: readonly number[];
  readonly probability: number;
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

interface Piece {
  readonly root: number;
  readonly z: Zbdd;
  readonly leafOfLevel: readonly number[];
  byOrder: number[];
}

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
      message: "the tree is too large for a diagram; only bounds and sampled cut sets are known",
    });
  try {
    return ok(build(source, options));
  } catch (thrown) {
    if (!(thrown instanceof BddFull)) throw thrown;
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
  const { graph, tree, bdd } = source;
  const maxOrder = Math.min(options.maxOrder ?? ANY_ORDER, ANY_ORDER);
  const cutOff = options.cutOff ?? 0;
  const limit = options.nodeLimit ?? 16_000_000;
  // Per leaf of the graph (event or module): least order, greatest probability of a set.
  const leastOrder = new Map<number, number>();
  const greatest = new Map<number, number>();
  const chanceOf = (leaf: number): number => greatest.get(leaf) ?? probabilityOf(tree, graph.origin[leaf]!);
  const pieces = new Map<number, Piece>();
  for (const module of source.modules) {
    const z = new Zbdd(limit, {
      cutOff,
      orderOf: (level) => leastOrder.get(source.leafOfLevel[level]!) ?? 1,
      chanceOf: (level) => chanceOf(source.leafOfLevel[level]!),
    });
    const edge = module.edge! ^ (module.parts.root === graph.top >> 1 ? graph.top & 1 : 0);
    const root = z.minimalSets(bdd, edge, maxOrder, module.firstNode);
    const piece: Piece = { root, z, leafOfLevel: source.leafOfLevel, byOrder: [] };
    piece.byOrder = countByOrder(piece, pieces, maxOrder);
    const node = module.parts.root;
    if (graph.op[node] !== OP_EVENT) {
      pieces.set(node, piece);
      const first = piece.byOrder.findIndex((count) => count > 0);
      leastOrder.set(node, first < 0 ? ANY_ORDER : first);
      greatest.set(node, greatestChance(piece, chanceOf));
    } else pieces.set(-1, piece);
  }
  const topPiece = pieces.get(graph.top >> 1) ?? pieces.get(-1);
  const each: CutSets["each"] = (visit) => {
    if (graph.top === 0) visit([], 1);
    if (topPiece) enumerate(topPiece, pieces, source, maxOrder, cutOff, 0, visit);
  };
  let byOrder = topPiece?.byOrder ?? (graph.top === 0 ? [1] : []);
  if (cutOff > 0) {
    // Whole branches below the cut-off are gone already; single sets in the others are not.
    byOrder = [];
    each((events) => {
      while (byOrder.length <= events.length) byOrder.push(0);
      byOrder[events.length]!++;
      return true;
    });
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
    worst(wanted) {
      return topPiece === undefined || wanted <= 0
        ? []
        : worstSets(topPiece, pieces, source, maxOrder, cutOff, wanted);
    },
  };
}

function probabilityOf(tree: FaultTree, node: number): number {
  const value = tree.nodes[node];
  return value?.kind === "event" ? value.probability : 1;
}

/** Polynomials in the order, bottom up; a module's variable stands for the polynomial of its sets. */
function countByOrder(piece: Piece, pieces: ReadonlyMap<number, Piece>, maxOrder: number): number[] {
  const { z, root } = piece;
  const known = new Map<number, number[]>([
    [0, []],
    [1, [1]],
  ]);
  for (const node of reachable(z, root)) {
    const leaf = piece.leafOfLevel[z.level[node]!]!;
    const factor = pieces.get(leaf)?.byOrder;
    const high = known.get(z.high[node]!)!;
    const low = known.get(z.low[node]!)!;
    const sum = [...low];
    const addTo = (order: number, count: number): void => {
      if (order > maxOrder || count === 0) return;
      while (sum.length <= order) sum.push(0);
      sum[order]! += count;
    };
    if (factor === undefined) for (let i = 0; i < high.length; i++) addTo(i + 1, high[i]!);
    else
      for (let i = 0; i < high.length; i++)
        for (let j = 0; j < factor.length; j++) addTo(i + j, high[i]! * factor[j]!);
    known.set(node, sum);
  }
  return known.get(root)!;
}

/** Nodes under `root`, inputs first: numbers ascend from inputs to users. */
function reachable(z: Zbdd, root: number): number[] {
  if (root < 2) return [];
  const seen = new Uint8Array(root + 1);
  seen[root] = 1;
  const result: number[] = [];
  for (let node = root; node >= 2; node--) {
    if (seen[node] === 0) continue;
    result.push(node);
    seen[z.low[node]!] = 1;
    seen[z.high[node]!] = 1;
  }
  return result.reverse();
}

function greatestChance(piece: Piece, chanceOf: (leaf: number) => number): number {
  const best = bestBelow(piece, chanceOf);
  return best.get(piece.root) ?? 0;
}

function bestBelow(piece: Piece, chanceOf: (leaf: number) => number): Map<number, number> {
  const best = new Map<number, number>([
    [0, 0],
    [1, 1],
  ]);
  const { z } = piece;
  for (const node of reachable(z, piece.root)) {
    const chance = chanceOf(piece.leafOfLevel[z.level[node]!]!);
    best.set(node, Math.max(chance * best.get(z.high[node]!)!, best.get(z.low[node]!)!));
  }
  return best;
}

/** What is still to be chosen: a node of a piece, with what comes after it. */
interface Rest {
  readonly piece: Piece;
  readonly node: number;
  readonly after: Rest | undefined;
}
/** The events chosen so far, as a list that shares its tail. */
interface Chosen {
  readonly event: number;
  readonly before: Chosen | undefined;
}

/** Depth first over the diagrams, modules unfolded in place; a stack of alternatives instead of recursion. */
function enumerate(
  top: Piece,
  pieces: ReadonlyMap<number, Piece>,
  source: Compiled,
  maxOrder: number,
  cutOff: number,
  _from: number,
  visit: (events: readonly number[], probability: number) => boolean,
): void {
  const { graph, tree } = source;
  const chosen: number[] = [];
  const chances: number[] = [1];
  const open: { rest: Rest | undefined; depth: number }[] = [
    { rest: { piece: top, node: top.root, after: undefined }, depth: 0 },
  ];
  while (open.length > 0) {
    const { rest: start, depth } = open.pop()!;
    chosen.length = depth;
    chances.length = depth + 1;
    let rest: Rest | undefined = start;
    for (;;) {
      if (rest === undefined) {
        if (!visit(chosen, chances[chosen.length]!)) return;
        break;
      }
      const { piece, node, after }: Rest = rest;
      if (node === 0) break;
      if (node === 1) {
        rest = after;
        continue;
      }
      const { z } = piece;
      if (z.low[node] !== 0) open.push({ rest: { piece, node: z.low[node]!, after }, depth: chosen.length });
      const leaf: number = piece.leafOfLevel[z.level[node]!]!;
      const inner = pieces.get(leaf);
      const high: Rest | undefined = z.high[node] === 1 ? after : { piece, node: z.high[node]!, after };
      if (inner !== undefined) {
        rest = { piece: inner, node: inner.root, after: high };
        continue;
      }
      const event = graph.origin[leaf]!;
      const chance: number = chances[chosen.length]! * probabilityOf(tree, event);
      if (chosen.length + 1 > maxOrder || chance < cutOff) break;
      chosen.push(event);
      chances.push(chance);
      rest = high;
    }
  }
}

/** Best first: an alternative is ranked by the greatest probability that it can still reach. */
function worstSets(
  top: Piece,
  pieces: ReadonlyMap<number, Piece>,
  source: Compiled,
  maxOrder: number,
  cutOff: number,
  wanted: number,
): CutSet[] {
  const { graph, tree } = source;
  const bests = new Map<Piece, Map<number, number>>();
  const greatest = new Map<number, number>();
  const chanceOf = (leaf: number): number => greatest.get(leaf) ?? probabilityOf(tree, graph.origin[leaf]!);
  for (const [leaf, piece] of pieces) {
    const best = bestBelow(piece, chanceOf);
    bests.set(piece, best);
    greatest.set(leaf, best.get(piece.root) ?? 0);
  }
  interface State {
    bound: number;
    chance: number;
    order: number;
    chosen: Chosen | undefined;
    rest: Rest | undefined;
  }
  const heap: State[] = [];
  const push = (state: State): void => {
    if (state.bound < cutOff || (state.bound === 0 && cutOff > 0)) return;
    let at = heap.push(state) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent]!.bound >= heap[at]!.bound) break;
      [heap[parent], heap[at]] = [heap[at]!, heap[parent]!];
      at = parent;
    }
  };
  const pop = (): State => {
    const best = heap[0]!;
    const last = heap.pop()!;
    if (heap.length > 0) {
      heap[0] = last;
      for (let at = 0; ;) {
        let child = 2 * at + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && heap[child + 1]!.bound > heap[child]!.bound) child++;
        if (heap[at]!.bound >= heap[child]!.bound) break;
        [heap[at], heap[child]] = [heap[child]!, heap[at]!];
        at = child;
      }
    }
    return best;
  };
  /** Greatest product of everything still to choose. */
  const boundOf = (rest: Rest | undefined): number => {
    let bound = 1;
    for (let at = rest; at !== undefined; at = at.after) bound *= bests.get(at.piece)!.get(at.node) ?? 0;
    return bound;
  };
  const result: CutSet[] = [];
  const start: Rest = { piece: top, node: top.root, after: undefined };
  if (top.root !== 0) push({ bound: boundOf(start), chance: 1, order: 0, chosen: undefined, rest: start });
  while (heap.length > 0 && result.length < wanted && heap.length < 4_000_000) {
    const state = pop();
    const { rest } = state;
    if (rest === undefined) {
      const events: number[] = [];
      for (let at = state.chosen; at !== undefined; at = at.before) events.push(at.event);
      result.push({ events: events.reverse(), probability: state.chance });
      continue;
    }
    const { piece, node, after } = rest;
    if (node === 1) {
      push({ ...state, rest: after });
      continue;
    }
    const { z } = piece;
    if (z.low[node] !== 0) {
      const low: Rest = { piece, node: z.low[node]!, after };
      push({ ...state, rest: low, bound: state.chance * boundOf(low) });
    }
    const high: Rest | undefined = z.high[node] === 1 ? after : { piece, node: z.high[node]!, after };
    const leaf = piece.leafOfLevel[z.level[node]!]!;
    const inner = pieces.get(leaf);
    if (inner !== undefined) {
      const into: Rest = { piece: inner, node: inner.root, after: high };
      push({ ...state, rest: into, bound: state.chance * boundOf(into) });
      continue;
    }
    if (state.order + 1 > maxOrder) continue;
    const event = graph.origin[leaf]!;
    const chance = state.chance * probabilityOf(tree, event);
    push({
      bound: chance * boundOf(high),
      chance,
      order: state.order + 1,
      chosen: { event, before: state.chosen },
      rest: high,
    });
  }
  return result;
}
