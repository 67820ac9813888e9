/**
 * From a tree to decision diagrams, module by module. Where a module outgrows the limit under every order,
 * it is left open: its probability is then known between bounds only (bounds.ts).
 */
import { type Result, fail, ok } from "../../base/result.ts";
import { BDD_TRUE, Bdd, BddFull } from "./bdd.ts";
import { findModules, groupPrivateInputs } from "./modules.ts";
import { HEURISTICS, type Heuristic, type ModuleParts, orderLeaves, splitModules } from "./ordering.ts";
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
}

const DEFAULT_NODE_LIMIT = 8_000_000;

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

/** Small diagrams under any order are fine; a large one is tried in every order before the budget rises. */
function buildModule(
  graph: Graph,
  bdd: Bdd,
  parts: ModuleParts,
  firstLevel: number,
  levelOf: Int32Array,
  options: CompileOptions,
): { order: readonly number[]; edge: number | undefined; heuristic: Heuristic } {
  const preferred = options.heuristic ?? HEURISTICS[0]!;
  const heuristics = [preferred, ...HEURISTICS.filter((other) => other !== preferred)];
  const ceiling = options.nodeLimit ?? DEFAULT_NODE_LIMIT;
  const mark = bdd.count;
  let order: readonly number[] = parts.leaves;
  for (let budget = 200_000; ; budget *= 8) {
    const limit = Math.min(ceiling, mark + budget);
    for (const heuristic of heuristics) {
      order = orderLeaves(graph, parts, heuristic);
      for (let i = 0; i < order.length; i++) levelOf[order[i]!] = firstLevel + i;
      bdd.limit = limit;
      try {
        const edge = buildGates(graph, bdd, parts, levelOf);
        bdd.limit = ceiling;
        return { order, edge, heuristic };
      } catch (thrown) {
        if (!(thrown instanceof BddFull)) throw thrown;
        bdd.release(mark);
      }
    }
    if (limit >= ceiling) break;
  }
  bdd.limit = ceiling;
  return { order, edge: undefined, heuristic: preferred };
}

function buildGates(graph: Graph, bdd: Bdd, parts: ModuleParts, levelOf: Int32Array): number {
  const edgeOf = new Map<number, number>();
  for (const leaf of parts.leaves) edgeOf.set(leaf, bdd.node(levelOf[leaf]!, 0, 1));
  if (parts.gates.length === 0) return edgeOf.get(parts.root) as number;
  for (const gate of parts.gates) {
    const inputs = Array.from(
      graph.inputs[gate]!,
      (input) => (edgeOf.get(input >> 1) as number) ^ (input & 1),
    );
    edgeOf.set(gate, combine(bdd, graph.op[gate]!, graph.atLeast[gate]!, inputs));
  }
  return edgeOf.get(parts.root) as number;
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
      for (const input of inputs)
        for (let j = k; j > 0; j--) votes[j] = bdd.or(votes[j]!, bdd.and(input, votes[j - 1]!));
      return votes[k]!;
    }
    case OP_EVENT:
    default:
      throw new RangeError(`no such operation: ${op}`);
  }
}
