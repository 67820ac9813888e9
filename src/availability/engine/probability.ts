/**
 * The exact probability of the top event, and in a second pass its derivative by every event's probability.
 * Only what the top reaches is kept, in an order in which one loop computes it: a Monte Carlo run is that
 * loop many times.
 */
import type { Compiled } from "./compile.ts";
import { OP_EVENT } from "./simplify.ts";

/** Straight-line program: node i reads variable `leaf[i]` and earlier nodes. */
export class Evaluator {
  readonly #compiled: Compiled;
  /** Diagram nodes in use, ascending; module by module. */
  readonly #nodes: Int32Array;
  readonly #low: Int32Array;
  readonly #high: Int32Array;
  /** Graph node of the variable per diagram node. */
  readonly #leaf: Int32Array;
  /** After how many diagram nodes each module's root is known. */
  readonly #until: Int32Array;
  readonly #value: Float64Array;
  readonly #slope: Float64Array;
  /** Probability per graph node: events and modules. */
  readonly #leafValue: Float64Array;
  readonly #leafSlope: Float64Array;
  readonly #rootEdge: Int32Array;

  /** `compiled.exact` must hold. */
  constructor(compiled: Compiled) {
    this.#compiled = compiled;
    const { bdd, modules, leafOfLevel, graph } = compiled;
    const used = new Uint8Array(bdd.count);
    for (const module of modules) used[module.edge! >> 1] = 1;
    for (let node = bdd.count - 1; node > 0; node--) {
      if (used[node] === 0) continue;
      used[bdd.low[node]! >> 1] = 1;
      used[bdd.high[node]! >> 1] = 1;
    }
    const renumbered = new Int32Array(bdd.count);
    let count = 1;
    for (let node = 1; node < bdd.count; node++) if (used[node] === 1) renumbered[node] = count++;
    this.#nodes = new Int32Array(count);
    this.#low = new Int32Array(count);
    this.#high = new Int32Array(count);
    this.#leaf = new Int32Array(count);
    for (let node = 1; node < bdd.count; node++) {
      if (used[node] === 0) continue;
      const at = renumbered[node]!;
      const low = bdd.low[node]!;
      this.#low[at] = renumbered[low >> 1]! * 2 + (low & 1);
      this.#high[at] = renumbered[bdd.high[node]! >> 1]! * 2;
      this.#leaf[at] = leafOfLevel[bdd.level[node]!]!;
    }
    this.#until = Int32Array.from(modules, (module) => renumbered[module.edge! >> 1]! + 1);
    this.#rootEdge = Int32Array.from(
      modules,
      (module) => renumbered[module.edge! >> 1]! * 2 + (module.edge! & 1),
    );
    this.#value = new Float64Array(count);
    this.#slope = new Float64Array(count);
    this.#leafValue = new Float64Array(graph.op.length);
    this.#leafSlope = new Float64Array(graph.op.length);
  }

  /** Diagram nodes that the top uses. */
  get size(): number {
    return this.#nodes.length - 1;
  }

  /** The top's probability with the tree's own probabilities, or with `of(tree node)`. */
  probability(of?: (node: number) => number): number {
    const { modules, graph, tree } = this.#compiled;
    if (graph.top >> 1 === 0) return graph.top === 0 ? 1 : 0;
    for (let leaf = 1; leaf < graph.op.length; leaf++) {
      if (graph.op[leaf] !== OP_EVENT) continue;
      const origin = graph.origin[leaf]!;
      this.#leafValue[leaf] = of ? of(origin) : tree.probabilityOf(origin);
    }
    return this.#forward(modules.length);
  }

  #forward(moduleCount: number): number {
    const { modules, graph } = this.#compiled;
    const value = this.#value;
    value[0] = 1;
    let at = 1;
    let root = 1;
    for (let m = 0; m < moduleCount; m++) {
      const until = this.#until[m]!;
      for (; at < until; at++) {
        const p = this.#leafValue[this.#leaf[at]!]!;
        const low = this.#low[at]!;
        const vl = value[low >> 1]!;
        value[at] = p * value[this.#high[at]! >> 1]! + (1 - p) * (low & 1 ? 1 - vl : vl);
      }
      const edge = this.#rootEdge[m]!;
      root = edge & 1 ? 1 - value[edge >> 1]! : value[edge >> 1]!;
      const node = modules[m]!.parts.root;
      if (graph.op[node] !== OP_EVENT) this.#leafValue[node] = root;
    }
    return graph.top & 1 ? 1 - root : root;
  }

  /**
   * P and dP/dp of every event (Birnbaum's importance) by tree node, in one pass down the diagrams after
   * one up. Events that do not matter have 0.
   */
  gradient(of?: (node: number) => number): { probability: number; birnbaum: Float64Array } {
    const { modules, graph, tree } = this.#compiled;
    const birnbaum = new Float64Array(tree.nodes.length);
    const probability = this.probability(of);
    if (graph.top >> 1 === 0) return { probability, birnbaum };
    const slope = this.#slope.fill(0);
    const leafSlope = this.#leafSlope.fill(0);
    const value = this.#value;
    leafSlope[graph.top >> 1] = graph.top & 1 ? -1 : 1;
    let at = this.#nodes.length - 1;
    for (let m = modules.length - 1; m >= 0; m--) {
      const edge = this.#rootEdge[m]!;
      const node = modules[m]!.parts.root;
      // A top that is a single event has itself as its only leaf.
      const above = leafSlope[node]!;
      if (graph.op[node] === OP_EVENT) leafSlope[node] = 0;
      slope[edge >> 1] = slope[edge >> 1]! + (edge & 1 ? -above : above);
      const from = m === 0 ? 1 : this.#until[m - 1]!;
      for (; at >= from; at--) {
        const s = slope[at]!;
        if (s === 0) continue;
        const leaf = this.#leaf[at]!;
        const p = this.#leafValue[leaf]!;
        const low = this.#low[at]!;
        const high = this.#high[at]! >> 1;
        const vl = value[low >> 1]!;
        leafSlope[leaf] = leafSlope[leaf]! + s * (value[high]! - (low & 1 ? 1 - vl : vl));
        slope[high] = slope[high]! + s * p;
        slope[low >> 1] = slope[low >> 1]! + (low & 1 ? -1 : 1) * s * (1 - p);
      }
    }
    for (let leaf = 1; leaf < graph.op.length; leaf++)
      if (graph.op[leaf] === OP_EVENT) birnbaum[graph.origin[leaf]!] = leafSlope[leaf]!;
    return { probability, birnbaum };
  }
}

/** The measures of one event, in the field's abbreviations. */
export interface Importance {
  /** Tree node of the event. */
  readonly event: number;
  /** Birnbaum: P(top | failed) - P(top | works). */
  readonly birnbaum: number;
  /** MIF * p / P. */
  readonly criticality: number;
  /** p * P(top | failed) / P: the chance that it has failed when the top has. */
  readonly diagnostic: number;
  /** P(top | failed) / P. */
  readonly riskAchievement: number;
  /** P / P(top | works); infinite for a sole cause. */
  readonly riskReduction: number;
  /** (P - P(top | works)) / P: the share of the risk that goes away with it (Fussell-Vesely). */
  readonly fussellVesely: number;
}

export function importanceOf(probability: number, p: number, birnbaum: number, event: number): Importance {
  const failed = probability + (1 - p) * birnbaum;
  // Where one event is the sole cause, the difference is rounding and the quotient would be noise.
  const rest = probability - p * birnbaum;
  const works = Math.abs(rest) < probability * 1e-13 ? 0 : rest;
  return {
    event,
    birnbaum,
    criticality: (birnbaum * p) / probability,
    diagnostic: (p * failed) / probability,
    riskAchievement: failed / probability,
    riskReduction: works <= 0 ? Number.POSITIVE_INFINITY : probability / works,
    fussellVesely: (probability - works) / probability,
  };
}
