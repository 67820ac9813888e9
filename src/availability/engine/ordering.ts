/** The order of variables inside one module decides the size of its diagram: several heuristics, cheap first. */
import { type Graph, OP_EVENT } from "./simplify.ts";

export type Heuristic = "depth-first" | "weight" | "shared-first" | "small-first";
export const HEURISTICS: readonly Heuristic[] = ["small-first", "weight", "depth-first", "shared-first"];

/** What belongs to one module, inputs before gates; `leaves` are events and inner modules. */
export interface ModuleParts {
  readonly root: number;
  readonly gates: readonly number[];
  readonly leaves: readonly number[];
}

/** The parts of each module, inner modules first. */
export function splitModules(graph: Graph, isModule: Uint8Array): ModuleParts[] {
  const top = graph.top >> 1;
  const roots: number[] = [];
  // A module's inputs have smaller numbers, so inner modules come first by themselves.
  for (let node = 1; node < graph.op.length; node++)
    if (isModule[node] === 1 || node === top) roots.push(node);
  const seen = new Int32Array(graph.op.length).fill(-1);
  return roots.map((root) => {
    const gates: number[] = [];
    const leaves: number[] = [];
    if (graph.op[root] === OP_EVENT) return { root, gates, leaves: [root] };
    const path = [root];
    seen[root] = root;
    while (path.length > 0) {
      const node = path.pop() as number;
      gates.push(node);
      for (const input of graph.inputs[node]!) {
        const child = input >> 1;
        if (seen[child] === root) continue;
        seen[child] = root;
        if (graph.op[child] === OP_EVENT || isModule[child] === 1) leaves.push(child);
        else path.push(child);
      }
    }
    gates.sort((a, b) => a - b);
    leaves.sort((a, b) => a - b);
    return { root, gates, leaves };
  });
}

/** The leaves of a module from the top of the diagram to its bottom, those of `first` before all others. */
export function orderLeaves(
  graph: Graph,
  parts: ModuleParts,
  heuristic: Heuristic,
  first: readonly number[] = [],
): number[] {
  if (parts.gates.length === 0) return [...parts.leaves];
  const rank = new Map<number, number>();
  for (const leaf of parts.leaves) rank.set(leaf, 1);
  const uses = new Map<number, number>();
  for (const gate of parts.gates)
    for (const input of graph.inputs[gate]!) uses.set(input >> 1, (uses.get(input >> 1) ?? 0) + 1);
  let compare: ((a: number, b: number) => number) | undefined;
  if (heuristic === "weight") {
    // Weights from the top, divided among inputs (Minato): the leaf with the greatest sum stands highest.
    const weight = new Map<number, number>([[parts.root, 1]]);
    for (let i = parts.gates.length - 1; i >= 0; i--) {
      const gate = parts.gates[i] as number;
      const inputs = graph.inputs[gate]!;
      const share = (weight.get(gate) ?? 0) / inputs.length;
      for (const input of inputs) weight.set(input >> 1, (weight.get(input >> 1) ?? 0) + share);
    }
    compare = (a, b) => (weight.get(b) ?? 0) - (weight.get(a) ?? 0);
  } else if (heuristic === "shared-first") {
    compare = (a, b) => (uses.get(b) ?? 0) - (uses.get(a) ?? 0);
  } else if (heuristic === "small-first") {
    for (const gate of parts.gates) {
      let size = 0;
      for (const input of graph.inputs[gate]!) size += rank.get(input >> 1) ?? 1;
      rank.set(gate, size);
    }
    compare = (a, b) => (rank.get(a) ?? 1) - (rank.get(b) ?? 1);
  }
  const isGate = new Set(parts.gates);
  const seen = new Set<number>([parts.root, ...first]);
  const order = [...first];
  const path = [parts.root];
  while (path.length > 0) {
    const node = path.pop() as number;
    if (!isGate.has(node)) {
      order.push(node);
      continue;
    }
    // A leaf is placed when it is taken off the stack, so that a later, deeper sight does not move it.
    let inputs = Array.from(graph.inputs[node]!, (input) => input >> 1);
    if (compare) inputs = inputs.sort(compare);
    for (let i = inputs.length - 1; i >= 0; i--) {
      const child = inputs[i] as number;
      if (seen.has(child)) continue;
      seen.add(child);
      path.push(child);
    }
  }
  return order;
}
