/**
 * A zero-suppressed diagram: families of sets, here of minimal cut sets. Node 0 is the empty family, node 1
 * the family of the empty set. A node's high branch holds the sets with its variable.
 */
import type { Bdd } from "./bdd.ts";
import { NodeTable } from "./node-table.ts";

const NONE = 0;
const UNIT = 1;
/** An order limit that limits nothing. */
export const ANY_ORDER = 0x3fff;

export class Zbdd extends NodeTable {
  /** Least order and greatest probability of a set per variable. */
  readonly #orderOf: (level: number) => number;
  readonly #chanceOf: (level: number) => number;
  readonly #cutOff: number;
  /** Greatest product of any set under a node; kept only with a cut-off. */
  #chance: Float64Array;
  #stack: Int32Array = new Int32Array(4096);
  #without: Int32Array = new Int32Array(4096);

  constructor(
    limit: number,
    options: {
      cutOff?: number | undefined;
      orderOf?: (level: number) => number;
      chanceOf?: (level: number) => number;
    } = {},
  ) {
    super(limit, 2, 1 << 12);
    this.#cutOff = options.cutOff ?? 0;
    this.#orderOf = options.orderOf ?? (() => 1);
    this.#chanceOf = options.chanceOf ?? (() => 1);
    this.#chance = new Float64Array(this.level.length);
    this.#chance[UNIT] = 1;
  }

  node(level: number, high: number, low: number): number {
    if (high === NONE) return low;
    if (this.#cutOff === 0) return this.find(level, high, low);
    const chance = this.#chanceOf(level) * this.#chance[high]!;
    if (chance < this.#cutOff) return low;
    const node = this.find(level, high, low);
    this.#chance[node] = Math.max(chance, this.#chance[low]!);
    return node;
  }

  protected override grown(capacity: number): void {
    super.grown(capacity);
    if (this.#cutOff === 0) return;
    const chance = new Float64Array(capacity);
    chance.set(this.#chance);
    this.#chance = chance;
  }

  /** The sets of `a` that contain no set of `b`; both families are minimal. */
  without(a: number, b: number): number {
    // Frame: a, b, state (0: waiting for high, 1: high minus b's high known, 2: waiting for low), high.
    let sp = 0;
    let stack = this.#without;
    let result = 0;
    for (;;) {
      let known = true;
      if (a === NONE || b === UNIT || a === b) result = NONE;
      else if (b === NONE || a === UNIT) result = a;
      else {
        // What is in b above a's variable cannot be contained in a set of a.
        const la = this.level[a]!;
        while (this.level[b]! < la) b = this.low[b]!;
        if (b === NONE) result = a;
        else if (b === UNIT || a === b) result = NONE;
        else {
          const slot = this.slotOf(a, b);
          if (this.cache[slot] === a && this.cache[slot + 1] === b && this.cache[slot + 3] === 0)
            result = this.cache[slot + 2]!;
          else {
            known = false;
            if (sp + 4 > stack.length) {
              const grown = new Int32Array(stack.length * 2);
              grown.set(stack);
              this.#without = stack = grown;
            }
            stack[sp] = a;
            stack[sp + 1] = b;
            stack[sp + 2] = this.level[b] === la ? 0 : 1;
            sp += 4;
            // Same variable: first what b has with it, then (state 1) what b has without it.
            if (this.level[b] === la) b = this.high[b]!;
            a = this.high[a]!;
          }
        }
      }
      if (!known) continue;
      let resumed = false;
      while (sp > 0) {
        a = stack[sp - 4]!;
        b = stack[sp - 3]!;
        const state = stack[sp - 2]!;
        if (state === 0) {
          stack[sp - 2] = 1;
          b = this.low[b]!;
          a = result;
          resumed = true;
          break;
        }
        if (state === 1) {
          stack[sp - 2] = 2;
          stack[sp - 1] = result;
          if (this.level[b] === this.level[a]) b = this.low[b]!;
          a = this.low[a]!;
          resumed = true;
          break;
        }
        result = this.node(this.level[a]!, stack[sp - 1]!, result);
        const slot = this.slotOf(a, b);
        this.cache[slot] = a;
        this.cache[slot + 1] = b;
        this.cache[slot + 2] = result;
        this.cache[slot + 3] = 0;
        sp -= 4;
      }
      if (!resumed) return result;
    }
  }

  /**
   * The minimal sets of positive literals that make the function true with all else false, of at most
   * `order` members (Rauzy: M(f) = M(f0) + x * (M(f1) without M(f0))).
   */
  minimalSets(bdd: Bdd, root: number, order: number, from = 1): number {
    // The computed cache serves the walk over the diagram: its size decides, not that of the sets' own.
    this.enlargeCache(((root >> 1) - from) * 4);
    const least = order === ANY_ORDER ? undefined : this.#leastOrders(bdd, root, from);
    // Frame: edge, order left, low result or -1.
    let sp = 0;
    let stack = this.#stack;
    let result = 0;
    let edge = root;
    let left = order;
    for (;;) {
      let known = true;
      if (edge === 1 || (least !== undefined && least[edge - from * 2]! > left)) result = NONE;
      else if (edge === 0) result = UNIT;
      else {
        const slot = this.slotOf(edge, left + 1);
        if (this.cache[slot] === edge && this.cache[slot + 1] === left && this.cache[slot + 3] === 1)
          result = this.cache[slot + 2]!;
        else {
          known = false;
          if (sp + 4 > stack.length) {
            const grown = new Int32Array(stack.length * 2);
            grown.set(stack);
            this.#stack = stack = grown;
          }
          stack[sp] = edge;
          stack[sp + 1] = left;
          stack[sp + 2] = -1;
          sp += 4;
          edge = bdd.low[edge >> 1]! ^ (edge & 1);
        }
      }
      if (!known) continue;
      let resumed = false;
      while (sp > 0) {
        edge = stack[sp - 4]!;
        left = stack[sp - 3]!;
        const level = bdd.level[edge >> 1]!;
        if (stack[sp - 2] === -1) {
          stack[sp - 2] = result;
          const rest = left === ANY_ORDER ? ANY_ORDER : left - this.#orderOf(level);
          // With no order left nothing can be added; with the low branch a tautology nothing need be.
          if (rest >= 0 && result !== UNIT) {
            edge = bdd.high[edge >> 1]! ^ (edge & 1);
            left = rest;
            resumed = true;
            break;
          }
          result = NONE;
        }
        const low = stack[sp - 2]!;
        result = this.node(level, this.without(result, low), low);
        const slot = this.slotOf(edge, left + 1);
        this.cache[slot] = edge;
        this.cache[slot + 1] = left;
        this.cache[slot + 2] = result;
        this.cache[slot + 3] = 1;
        sp -= 4;
      }
      if (!resumed) return result;
    }
  }

  /** The least order of a set per edge of nodes `from`..root: where it exceeds the limit nothing is to be found. */
  #leastOrders(bdd: Bdd, root: number, from: number): Int16Array {
    const end = (root >> 1) + 1;
    const least = new Int16Array(Math.max(2, (end - from) * 2));
    const of = (edge: number): number =>
      edge >> 1 === 0 ? (edge === 0 ? 0 : ANY_ORDER) : least[edge - from * 2]!;
    for (let node = from; node < end; node++) {
      const weight = Math.min(this.#orderOf(bdd.level[node]!), ANY_ORDER);
      const low = bdd.low[node]!;
      const high = bdd.high[node]!;
      const at = (node - from) * 2;
      least[at] = Math.min(of(low), weight + of(high), ANY_ORDER);
      least[at + 1] = Math.min(of(low ^ 1), weight + of(high ^ 1), ANY_ORDER);
    }
    return least;
  }
}
