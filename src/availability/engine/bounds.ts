/**
 * What is certain where a diagram does not fit in memory: bounds. Modules that did fit are exact; the gates
 * of the others are bounded from their inputs. Independent events used through coherent gates are associated,
 * so that and/or of dependent inputs stay between the product and the extreme (Esary and Proschan).
 */
import type { Compiled } from "./compile.ts";
import { OP_AND, OP_EVENT, OP_OR } from "./simplify.ts";

export interface Bounds {
  readonly lower: number;
  readonly upper: number;
}

const clamp = (value: number): number => Math.min(1, Math.max(0, value));

export function probabilityBounds(compiled: Compiled): Bounds {
  const { graph, tree, modules, bdd } = compiled;
  if (graph.top >> 1 === 0) return graph.top === 0 ? { lower: 1, upper: 1 } : { lower: 0, upper: 0 };
  const lower = new Float64Array(graph.op.length);
  const upper = new Float64Array(graph.op.length);
  for (let node = 1; node < graph.op.length; node++) {
    if (graph.op[node] !== OP_EVENT) continue;
    lower[node] = upper[node] = tree.probabilityOf(graph.origin[node]!);
  }
  for (const module of modules) {
    if (module.edge !== undefined && graph.coherent) {
      // A coherent function of bounded, independent inputs: both ends are one evaluation each.
      const until = (module.edge >> 1) + 1;
      for (const bound of [lower, upper]) {
        const value = new Float64Array(until - module.firstNode);
        const of = (edge: number): number => {
          const v = edge >> 1 === 0 ? 1 : value[(edge >> 1) - module.firstNode]!;
          return edge & 1 ? 1 - v : v;
        };
        for (let node = module.firstNode; node < until; node++) {
          const p = bound[compiled.leafOfLevel[bdd.level[node]!]!]!;
          value[node - module.firstNode] = p * of(bdd.high[node]!) + (1 - p) * of(bdd.low[node]!);
        }
        bound[module.parts.root] = of(module.edge);
      }
      continue;
    }
    for (const gate of module.parts.gates) boundGate(compiled, gate, lower, upper);
  }
  const top = graph.top >> 1;
  return graph.top & 1
    ? { lower: 1 - upper[top]!, upper: 1 - lower[top]! }
    : { lower: lower[top]!, upper: upper[top]! };
}

function boundGate({ graph }: Compiled, gate: number, lower: Float64Array, upper: Float64Array): void {
  const lows: number[] = [];
  const highs: number[] = [];
  for (const input of graph.inputs[gate]!) {
    const node = input >> 1;
    lows.push(input & 1 ? 1 - upper[node]! : lower[node]!);
    highs.push(input & 1 ? 1 - lower[node]! : upper[node]!);
  }
  const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);
  const op = graph.op[gate];
  const n = lows.length;
  if (op === OP_AND) {
    lower[gate] = graph.coherent
      ? lows.reduce((product, value) => product * value, 1)
      : clamp(sum(lows) - (n - 1));
    upper[gate] = Math.min(...highs);
  } else if (op === OP_OR) {
    lower[gate] = Math.max(...lows);
    upper[gate] = graph.coherent
      ? -Math.expm1(highs.reduce((log, value) => log + Math.log1p(-value), 0))
      : clamp(sum(highs));
  } else if (graph.atLeast[gate]! > 0) {
    // Markov's inequality from above; any k of the inputs together from below.
    const k = graph.atLeast[gate]!;
    const best = lows.sort((a, b) => b - a).slice(0, k);
    lower[gate] = graph.coherent
      ? best.reduce((product, value) => product * value, 1)
      : clamp(sum(best) - (k - 1));
    upper[gate] = clamp(sum(highs) / k);
  } else {
    lower[gate] = 0;
    upper[gate] = clamp(sum(highs));
  }
}
