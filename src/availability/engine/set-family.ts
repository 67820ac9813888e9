/**
 * The minimal sets of every module, in one zero-suppressed diagram. A set of an outer module names inner
 * modules as it names events: what stands for what is resolved by whoever walks over the sets.
 */
import type { Compiled } from "./compile.ts";
import { DiagramFull } from "./node-table.ts";
import { OP_EVENT } from "./simplify.ts";
import { ANY_ORDER, Zbdd } from "./zbdd.ts";

/** Counts by order kept at once, over all nodes of a module: 128 MiB. */
const MAX_COUNTS = 1 << 24;

export interface FamilyLimits {
  readonly maxOrder: number;
  readonly cutOff: number;
  readonly nodeLimit: number;
}

export class SetFamily {
  readonly z: Zbdd;
  readonly limits: FamilyLimits;
  /** How many sets the top has by order, modules unfolded. */
  byOrder: readonly number[] = [];
  /** The top's sets: a node of `z`. */
  root = 0;
  /** Per leaf of the graph that is a module: its node in `z`. */
  readonly rootOf = new Map<number, number>();
  readonly #source: Compiled;
  readonly #byOrder = new Map<number, readonly number[]>();
  /** Per leaf that is a module: its least order. */
  readonly #leastOrder = new Map<number, number>();
  /** Per node of `z`: the greatest probability of a set under it. */
  #best = Float64Array.of(0, 1);
  #known = 2;

  /** Throws DiagramFull. */
  constructor(source: Compiled, limits: FamilyLimits) {
    this.#source = source;
    this.limits = limits;
    const { graph, modules, bdd } = source;
    this.z = new Zbdd(limits.nodeLimit, {
      cutOff: limits.cutOff,
      orderOf: (level) => this.#leastOrder.get(this.leafOf(level)) ?? 1,
      chanceOf: (level) => this.chanceOf(this.leafOf(level)),
    });
    for (const module of modules) {
      const node = module.parts.root;
      const first = this.z.count;
      const edge = module.edge! ^ (node === graph.top >> 1 ? graph.top & 1 : 0);
      this.root = this.z.minimalSets(bdd, edge, limits.maxOrder, module.firstNode);
      this.#weigh();
      this.byOrder = this.#countByOrder(first);
      if (graph.op[node] === OP_EVENT) continue;
      this.rootOf.set(node, this.root);
      this.#byOrder.set(node, this.byOrder);
      const least = this.byOrder.findIndex((count) => count > 0);
      this.#leastOrder.set(node, least < 0 ? ANY_ORDER : least);
    }
  }

  leafOf(level: number): number {
    return this.#source.leafOfLevel[level]!;
  }
  /** The leaf of a node's variable: an event or a module. */
  leafAt(node: number): number {
    return this.leafOf(this.z.level[node]!);
  }
  /** The event in the tree that a leaf stands for. */
  eventOf(leaf: number): number {
    return this.#source.graph.origin[leaf]!;
  }
  /** Of an event its probability, of a module that of its most probable set. */
  chanceOf(leaf: number): number {
    const root = this.rootOf.get(leaf);
    if (root !== undefined) return this.#best[root]!;
    return this.#source.tree.probabilityOf(this.eventOf(leaf));
  }
  /** The greatest probability of a set under this node. */
  bestUnder(node: number): number {
    return this.#best[node]!;
  }

  #weigh(): void {
    const { z } = this;
    if (this.#best.length < z.count) {
      const best = new Float64Array(z.level.length);
      best.set(this.#best);
      this.#best = best;
    }
    for (; this.#known < z.count; this.#known++) {
      const node = this.#known;
      const high = this.chanceOf(this.leafAt(node)) * this.#best[z.high[node]!]!;
      this.#best[node] = Math.max(high, this.#best[z.low[node]!]!);
    }
  }

  /** Polynomials in the order, bottom up; a module's variable stands for the polynomial of its sets. */
  #countByOrder(first: number): readonly number[] {
    const { z, root } = this;
    const { maxOrder } = this.limits;
    const known = new Map<number, readonly number[]>([
      [0, []],
      [1, [1]],
    ]);
    let kept = 0;
    for (const node of this.#reachable(first)) {
      const factor = this.#byOrder.get(this.leafAt(node)) ?? [0, 1];
      const high = known.get(z.high[node]!)!;
      const sum = [...known.get(z.low[node]!)!];
      for (let i = 0; i < high.length; i++) {
        if (high[i] === 0) continue;
        for (let j = 0; j < factor.length && i + j <= maxOrder; j++) {
          const count = high[i]! * factor[j]!;
          if (count === 0) continue;
          while (sum.length <= i + j) sum.push(0);
          sum[i + j]! += count;
        }
      }
      known.set(node, sum);
      kept += sum.length;
      if (kept > MAX_COUNTS) throw new DiagramFull();
    }
    return known.get(root)!;
  }

  /** Nodes under the root from `first` on, inputs first: numbers ascend from inputs to users. */
  #reachable(first: number): number[] {
    const { z, root } = this;
    const result: number[] = [];
    if (root < first) return result;
    const seen = new Uint8Array(root + 1 - first);
    const see = (node: number): void => {
      if (node >= first) seen[node - first] = 1;
    };
    see(root);
    for (let node = root; node >= first; node--) {
      if (seen[node - first] === 0) continue;
      result.push(node);
      see(z.low[node]!);
      see(z.high[node]!);
    }
    return result.reverse();
  }
}
