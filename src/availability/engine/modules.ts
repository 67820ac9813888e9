/**
 * Modules: gates whose events appear nowhere else. Each is analysed alone and stands in the rest as one
 * variable, which turns large site models into many small ones.
 */
import { type Graph, OP_AND, OP_EVENT, OP_OR } from "./simplify.ts";

/** 1 for gates that are modules (Dutuit and Rauzy, "A linear-time algorithm to find modules of fault trees"). */
export function findModules(graph: Graph): Uint8Array {
  const count = graph.op.length;
  const top = graph.top >> 1;
  const first = new Int32Array(count);
  const second = new Int32Array(count);
  const last = new Int32Array(count);
  const path = [top];
  const next = [0];
  let date = 1;
  first[top] = last[top] = date;
  while (path.length > 0) {
    const node = path[path.length - 1] as number;
    const at = next[next.length - 1] as number;
    const inputs = graph.inputs[node]!;
    if (at >= inputs.length) {
      second[node] = ++date;
      last[node] = date;
      path.pop();
      next.pop();
      continue;
    }
    next[next.length - 1] = at + 1;
    const child = inputs[at]! >> 1;
    last[child] = ++date;
    if (first[child] === 0) {
      first[child] = date;
      path.push(child);
      next.push(0);
    }
  }
  const isModule = new Uint8Array(count);
  const low = new Int32Array(count);
  const high = new Int32Array(count);
  for (let node = 1; node < count; node++) {
    if (first[node] === 0) continue;
    let min = 0x7fffffff;
    let max = 0;
    for (const input of graph.inputs[node]!) {
      const child = input >> 1;
      min = Math.min(min, low[child]!, first[child]!);
      max = Math.max(max, high[child]!, last[child]!);
    }
    low[node] = min;
    high[node] = max;
    if (graph.op[node] !== OP_EVENT && min > first[node]! && max < second[node]!) isModule[node] = 1;
  }
  return isModule;
}

/**
 * Makes more modules: under an and/or, the inputs that share no event with the other inputs (events used
 * once, modules) become a gate of their own. Returns a new graph with inputs before gates.
 */
export function groupPrivateInputs(graph: Graph): Graph {
  const isModule = findModules(graph);
  const count = graph.op.length;
  const parents = new Int32Array(count);
  for (let node = 1; node < count; node++)
    for (const input of graph.inputs[node]!) parents[input >> 1] = parents[input >> 1]! + 1;
  const result: Graph = {
    op: [0],
    inputs: [new Int32Array(0)],
    atLeast: [0],
    origin: [-1],
    top: 0,
    coherent: graph.coherent,
  };
  const add = (op: number, inputs: Int32Array, atLeast: number, origin: number): number => {
    result.op.push(op);
    result.inputs.push(inputs);
    result.atLeast.push(atLeast);
    result.origin.push(origin);
    return result.op.length - 1;
  };
  const made = new Int32Array(count);
  const moved = (literal: number): number => made[literal >> 1]! * 2 + (literal & 1);
  for (let node = 1; node < count; node++) {
    const op = graph.op[node]!;
    let inputs = graph.inputs[node]!;
    if (op === OP_AND || op === OP_OR) {
      const isPrivate = (input: number): boolean =>
        parents[input >> 1] === 1 && (graph.op[input >> 1] === OP_EVENT || isModule[input >> 1] === 1);
      const own = inputs.filter(isPrivate);
      if (own.length > 1 && own.length < inputs.length) {
        const group = add(op, own.map(moved), 0, -1);
        inputs = inputs.filter((input) => !isPrivate(input)).map(moved);
        const all = new Int32Array(inputs.length + 1);
        all.set(inputs);
        all[inputs.length] = group * 2;
        made[node] = add(op, all, 0, graph.origin[node]!);
        continue;
      }
    }
    made[node] = add(op, inputs.map(moved), graph.atLeast[node]!, graph.origin[node]!);
  }
  result.top = moved(graph.top);
  return result;
}
