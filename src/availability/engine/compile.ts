/**
 * From a tree to decision diagrams, module by module. Where a module outgrows the limit under every order,
 * it is left open: its probability is then known between bounds only (bounds.ts).
 */
import { type Result, fail, ok } from "../../base/result.ts";
import { BDD_TRUE, Bdd } from "./bdd.ts";
import { findModules, groupPrivateInputs } from "./modules.ts";
import { DiagramFull } from "./node-table.ts";
import { HEURISTICS, type Heuristic, type ModuleParts, orderLeaves, splitModules } from "./ordering.ts";
import { sift } from "./sifting.ts";
import { type Graph, OP_AND, OP_ATLEAST, OP_EVENT, OP_OR, OP_XOR, simplify } from "./simplify.ts";
import type { FaultTree, TreeFault } from "./tree.ts";

/** One module's diagram. `edge` is undefined where it could not be built. */
export interface CompiledModule {
  readonly parts: ModuleParts;
  /** Leaf nodes of the graph from the top level to the bottom; levels are consecutive from `firstLevel`. */
  readonly order: readonly number[];
  readonly firstLevel: number;
  /** All of its diagram's nodes have this number or a greater one. */
  readonly firstNode: number;
  readonly edge: number | undefined;
  readonly heuristic: Heuristic;
}

export interface Compiled {
  readonly tree: FaultTree;
  readonly graph: Graph;
  readonly bdd: Bdd;
  /** Inner modules first; the last one is the top, unless the top is a constant. */
  readonly modules: readonly CompiledModule[];
  /** Graph node of each level. */
  readonly leafOfLevel: readonly number[];
  /** Whether every module has its diagram. */
  readonly exact: boolean;
}

export interface CompileOptions {
  /** Most diagram nodes kept at once; 20 bytes each and as much again in caches. Default 8 million. */
  readonly nodeLimit?: number | undefined;
  /** false analyses the tree in one piece (a test's cross-check, and cut sets of incoherent trees). */
  readonly modules?: boolean | undefined;
  /** Try this order first instead of the usual one. */
  readonly heuristic?: Heuristic | undefined;
  /** Nodes that a module may take before other orders are tried; then forty times as many. Default 50,000. */
  readonly firstBudget?: number | undefined;
  /** Reorder from so many nodes on, instead of trying other orders first (a test's cross-check). */
  readonly siftFrom?: number | undefined;
}

const DEFAULT_NODE_LIMIT = 8_000_000;
const FIRST_BUDGET = 50_000;
/** Where no order fits, nodes are reordered when there are so many, and again when they have doubled. */
const SIFT_FROM = 20_000;
/** More than this is not kept while reordering: each round looks at all of it. */
const SIFT_CEILING = 1_000_000;
/** Beyond that an exchange of levels takes too many steps for what it may win. */
const SIFT_LEAVES = 20_000;
const SIFTINGS = 12;
/** How many of the attempts are worth another budget. */
const LATER_ATTEMPTS = 2;
/** 2^10 small builds at most. */
const MAX_HUBS = 10;

export function compile(tree: FaultTree, options: CompileOptions = {}): Result<Compiled, TreeFault> {
  const order = tree.order();
  if (!order.ok) return fail(order.error);
  const simple = simplify(tree, order.value);
  const modular = options.modules ?? true;
  const graph = modular ? groupPrivateInputs(simple) : simple;
  const isModule = modular ? findModules(graph) : new Uint8Array(graph.op.length);
  const bdd = new Bdd(options.nodeLimit ?? DEFAULT_NODE_LIMIT);
  const modules: CompiledModule[] = [];
  const leafOfLevel: number[] = [];
  const levelOf = new Int32Array(graph.op.length).fill(-1);
  if (graph.top >> 1 !== 0) {
    for (const parts of splitModules(graph, isModule)) {
      const firstLevel = leafOfLevel.length;
      const firstNode = bdd.count;
      const built = buildModule(graph, bdd, parts, firstLevel, levelOf, options);
      for (const leaf of built.order) leafOfLevel.push(leaf);
      modules.push({ parts, firstLevel, firstNode, ...built });
    }
  }
  const exact = modules.every((module) => module.edge !== undefined);
  return ok({ tree, graph, bdd, modules, leafOfLevel, exact });
}

/**
 * A small budget first, for every order and for the expansion over shared leaves: most modules fit. Where
 * none did, the attempt that got furthest goes first under the next budget.
 */
function buildModule(
  graph: Graph,
  bdd: Bdd,
  parts: ModuleParts,
  firstLevel: number,
  levelOf: Int32Array,
  options: CompileOptions,
): { order: readonly number[]; edge: number | undefined; heuristic: Heuristic } {
  const preferred = options.heuristic ?? HEURISTICS[0]!;
  const only = parts.gates.length === 1 ? graph.op[parts.root] : undefined;
  if (only === OP_AND || only === OP_OR) {
    // Every order is as good: a node per input, whatever their number.
    const mark = bdd.count;
    const order = parts.leaves;
    try {
      return { order, edge: chain(graph, bdd, parts, firstLevel), heuristic: preferred };
    } catch (thrown) {
      if (!(thrown instanceof DiagramFull)) throw thrown;
      bdd.release(mark);
      return { order, edge: undefined, heuristic: preferred };
    }
  }
  const hubs = findHubs(graph, parts);
  const attempts = [preferred, ...HEURISTICS.filter((other) => other !== preferred)].map((heuristic) => ({
    heuristic,
    pivot: false,
    done: 0,
    order: undefined as readonly number[] | undefined,
  }));
  if (hubs.length > 0)
    attempts.splice(1, 0, { heuristic: preferred, pivot: true, done: 0, order: undefined });
  // A shared leaf that alone decides the root (a zone that takes too much with it) promises small builds.
  const promising = hubs.some((hub) =>
    [BDD_TRUE, BDD_TRUE ^ 1].some((value) => decided(graph, parts, new Map([[hub, value]])) !== undefined),
  );
  const ceiling = options.nodeLimit ?? DEFAULT_NODE_LIMIT;
  const mark = bdd.count;
  let order: readonly number[] = parts.leaves;
  const reordered = (from: number): { order: readonly number[]; edge: number } | undefined => {
    bdd.limit = Math.min(ceiling, mark + SIFT_CEILING);
    const { heuristic } = attempts.find(({ pivot: expanded }) => !expanded)!;
    const first = orderLeaves(graph, parts, heuristic);
    try {
      return buildSifting(graph, bdd, parts, levelOf, { firstLevel, order: first, from });
    } catch (thrown) {
      if (!(thrown instanceof DiagramFull)) throw thrown;
      bdd.release(mark);
      return undefined;
    } finally {
      bdd.limit = ceiling;
    }
  };
  if (options.siftFrom !== undefined) {
    const sifted = reordered(options.siftFrom);
    if (sifted !== undefined) return { ...sifted, heuristic: preferred };
  }
  for (let budget = options.firstBudget ?? FIRST_BUDGET; ; budget *= 40) {
    const limit = Math.min(ceiling, mark + budget);
    // Each leaf takes a node before the first gate does.
    if (budget < parts.leaves.length && limit < ceiling) continue;
    for (const attempt of attempts) {
      const { heuristic } = attempt;
      order = attempt.order ??= orderLeaves(graph, parts, heuristic, attempt.pivot ? hubs : []);
      for (let i = 0; i < order.length; i++) levelOf[order[i]!] = firstLevel + i;
      bdd.limit = attempt.pivot && promising ? Math.min(ceiling, mark + budget * 40) : limit;
      const progress = { gates: 0 };
      try {
        const edge = attempt.pivot
          ? pivot(graph, bdd, parts, levelOf, hubs, new Map())
          : buildGates(graph, bdd, parts, levelOf, undefined, progress);
        bdd.limit = ceiling;
        return { order, edge, heuristic };
      } catch (thrown) {
        if (!(thrown instanceof DiagramFull)) throw thrown;
        attempt.done = progress.gates;
        bdd.release(mark);
      }
    }
    attempts.sort((one, other) => other.done - one.done);
    if (budget > (options.firstBudget ?? FIRST_BUDGET) && parts.leaves.length <= SIFT_LEAVES) {
      const sifted = reordered(SIFT_FROM);
      if (sifted !== undefined) return { ...sifted, heuristic: preferred };
    }
    if (limit >= ceiling) break;
    attempts.splice(LATER_ATTEMPTS);
  }
  bdd.limit = ceiling;
  return { order, edge: undefined, heuristic: preferred };
}

/** One and/or over leaves, whose literals are sorted as the leaves are. */
function chain(graph: Graph, bdd: Bdd, { root }: ModuleParts, firstLevel: number): number {
  const isAnd = graph.op[root] === OP_AND;
  const inputs = graph.inputs[root]!;
  const decides = isAnd ? BDD_TRUE ^ 1 : BDD_TRUE;
  let edge = decides ^ 1;
  for (let i = inputs.length - 1; i >= 0; i--) {
    const whenTrue = isAnd === ((inputs[i]! & 1) === 0) ? edge : decides;
    const whenFalse = whenTrue === edge ? decides : edge;
    edge = bdd.node(firstLevel + i, whenTrue, whenFalse);
  }
  return edge;
}

/** Leaves that very many gates share, such as zones: most used first, few enough to try all combinations. */
function findHubs(graph: Graph, parts: ModuleParts): number[] {
  const uses = new Map<number, number>();
  for (const gate of parts.gates)
    for (const input of graph.inputs[gate]!) uses.set(input >> 1, (uses.get(input >> 1) ?? 0) + 1);
  return parts.leaves
    .filter((leaf) => (uses.get(leaf) ?? 0) >= 8)
    .sort((a, b) => uses.get(b)! - uses.get(a)!)
    .slice(0, MAX_HUBS);
}

/** Shannon's expansion over the hubs, in the tree: with them decided, what is left is often a small build. */
function pivot(
  graph: Graph,
  bdd: Bdd,
  parts: ModuleParts,
  levelOf: Int32Array,
  hubs: readonly number[],
  fixed: Map<number, number>,
): number {
  const known = decided(graph, parts, fixed);
  if (known !== undefined) return known ? BDD_TRUE : BDD_TRUE ^ 1;
  const [hub, ...rest] = hubs;
  if (hub === undefined) return buildGates(graph, bdd, parts, levelOf, fixed);
  fixed.set(hub, BDD_TRUE);
  const high = pivot(graph, bdd, parts, levelOf, rest, fixed);
  fixed.set(hub, BDD_TRUE ^ 1);
  const low = pivot(graph, bdd, parts, levelOf, rest, fixed);
  fixed.delete(hub);
  return bdd.node(levelOf[hub]!, high, low);
}

/** The root's value where the fixed leaves alone decide it. */
function decided(graph: Graph, parts: ModuleParts, fixed: ReadonlyMap<number, number>): boolean | undefined {
  const value = new Map<number, boolean>();
  for (const [leaf, edge] of fixed) value.set(leaf, edge === BDD_TRUE);
  for (const gate of parts.gates) {
    let yes = 0;
    let no = 0;
    const inputs = graph.inputs[gate]!;
    for (const input of inputs) {
      const known = value.get(input >> 1);
      if (known === undefined) continue;
      if (known === ((input & 1) === 0)) yes++;
      else no++;
    }
    const op = graph.op[gate];
    const needed = op === OP_AND ? inputs.length : op === OP_OR ? 1 : graph.atLeast[gate]!;
    if (op === OP_XOR) {
      if (yes + no === inputs.length) value.set(gate, yes % 2 === 1);
    } else if (yes >= needed) value.set(gate, true);
    else if (inputs.length - no < needed) value.set(gate, false);
  }
  return value.get(parts.root);
}

function buildGates(
  graph: Graph,
  bdd: Bdd,
  parts: ModuleParts,
  levelOf: Int32Array,
  fixed?: ReadonlyMap<number, number>,
  progress: { gates: number } = { gates: 0 },
): number {
  const edgeOf = new Map<number, number>();
  for (const leaf of parts.leaves) edgeOf.set(leaf, fixed?.get(leaf) ?? bdd.node(levelOf[leaf]!, 0, 1));
  if (parts.gates.length === 0) return edgeOf.get(parts.root) as number;
  for (const gate of parts.gates) {
    const inputs = Array.from(
      graph.inputs[gate]!,
      (input) => (edgeOf.get(input >> 1) as number) ^ (input & 1),
    );
    edgeOf.set(gate, combine(bdd, graph.op[gate]!, graph.atLeast[gate]!, inputs));
    progress.gates++;
  }
  return edgeOf.get(parts.root) as number;
}

/**
 * Gate by gate, and whenever too much has come together, what later gates still need is put into a better
 * order. Throws DiagramFull where that no longer helps.
 */
function buildSifting(
  graph: Graph,
  bdd: Bdd,
  parts: ModuleParts,
  levelOf: Int32Array,
  start: { readonly firstLevel: number; readonly order: readonly number[]; readonly from: number },
): { order: readonly number[]; edge: number } {
  const { firstLevel } = start;
  const mark = bdd.count;
  const ceiling = bdd.limit;
  let order = start.order;
  const edgeOf = new Map<number, number>();
  const placeLeaves = (): void => {
    order.forEach((leaf, i) => {
      levelOf[leaf] = firstLevel + i;
      edgeOf.set(leaf, bdd.node(firstLevel + i, 0, 1));
    });
  };
  const lastUse = new Map<number, number>([[parts.root, parts.gates.length]]);
  parts.gates.forEach((gate, i) => {
    for (const input of graph.inputs[gate]!) if (input >> 1 !== parts.root) lastUse.set(input >> 1, i);
  });
  bdd.limit = Math.min(ceiling, mark + parts.leaves.length + start.from);
  placeLeaves();
  let siftings = 0;
  for (let i = 0; i < parts.gates.length; i++) {
    const gate = parts.gates[i]!;
    const op = graph.op[gate]!;
    // A wide gate is joined input by input, so that what has come together of it is reordered as well.
    const steps =
      op === OP_ATLEAST ? [[...graph.inputs[gate]!]] : Array.from(graph.inputs[gate]!, (one) => [one]);
    let soFar: number | undefined;
    for (let at = 0; at < steps.length;) {
      const inputs = steps[at]!.map((input) => edgeOf.get(input >> 1)! ^ (input & 1));
      if (soFar !== undefined) inputs.push(soFar);
      try {
        soFar = combine(bdd, op, graph.atLeast[gate]!, inputs);
        at++;
      } catch (thrown) {
        if (!(thrown instanceof DiagramFull) || siftings++ >= SIFTINGS) throw thrown;
        const needed = parts.gates.slice(0, i).filter((one) => lastUse.get(one)! >= i);
        const roots = needed.map((one) => edgeOf.get(one)!);
        if (soFar !== undefined) roots.push(soFar);
        const sifted = sift(bdd, mark, firstLevel, order.length, roots);
        const before = order;
        order = Array.from(sifted.order, (old) => before[old]!);
        needed.forEach((one, n) => edgeOf.set(one, sifted.roots[n]!));
        if (soFar !== undefined) soFar = sifted.roots.at(-1);
        const live = bdd.count - mark + parts.leaves.length;
        if (live * 2 > ceiling - mark) throw thrown;
        bdd.limit = Math.min(ceiling, mark + Math.max(2 * live, parts.leaves.length + start.from));
        placeLeaves();
      }
    }
    edgeOf.set(gate, soFar!);
  }
  return { order, edge: edgeOf.get(parts.root)! };
}

function combine(bdd: Bdd, op: number, k: number, inputs: number[]): number {
  // From the bottom of the order to its top: what is added then stands above what is there.
  inputs.sort((a, b) => bdd.level[b >> 1]! - bdd.level[a >> 1]!);
  let result: number;
  switch (op) {
    case OP_AND:
      result = BDD_TRUE;
      for (const input of inputs) result = bdd.and(input, result);
      return result;
    case OP_OR:
      result = BDD_TRUE ^ 1;
      for (const input of inputs) result = bdd.or(input, result);
      return result;
    case OP_XOR:
      result = BDD_TRUE ^ 1;
      for (const input of inputs) result = bdd.xor(input, result);
      return result;
    case OP_ATLEAST: {
      // votes[j]: at least j of the inputs seen so far. One more input: v[j] = v[j] or (input and v[j-1]).
      const votes = Array<number>(k + 1).fill(BDD_TRUE ^ 1);
      votes[0] = BDD_TRUE;
      for (const input of inputs.filter((one) => one !== (BDD_TRUE ^ 1)))
        for (let j = k; j > 0; j--) votes[j] = bdd.or(votes[j]!, bdd.and(input, votes[j - 1]!));
      return votes[k]!;
    }
    case OP_EVENT:
    default:
      throw new RangeError(`no such operation: ${op}`);
  }
}
