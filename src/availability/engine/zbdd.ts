/**
 * A zero-suppressed diagram: families of sets, here of minimal cut sets. Node 0 is the empty family, node 1
 * the family of the empty set. A node's high branch holds the sets with its variable.
 */
import type { Bdd } from "./bdd.ts";
import { BddFull } from "./bdd.ts";

const NONE = 0;
const UNIT = 1;
const TERMINAL_LEVEL = 0x7fffffff;
/** An order limit that limits nothing. */
export const ANY_ORDER = 0x3fff;

export class Zbdd {
  level: Int32Array;
  low: Int32Array;
  high: Int32Array;
  count = 2;
  readonly limit: number;
  /** Least order and greatest probability of a set per variable; see `weigh`. */
  readonly #orderOf: (level: number) => number;
  readonly #chanceOf: (level: number) => number;
  readonly #cutOff: number;
  /** Greatest product of any set under a node; kept only with a cut-off. */
  #chance: Float64Array;
  #unique: Int32Array;
  #cache: Int32Array;
  #cacheMask: number;
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
    const capacity = 1 << 12;
    this.limit = limit;
    this.#cutOff = options.cutOff ?? 0;
    this.#orderOf = options.orderOf ?? (() => 1);
    this.#chanceOf = options.chanceOf ?? (() => 1);
    this.level = new Int32Array(capacity);
    this.low = new Int32Array(capacity);
    this.high = new Int32Array(capacity);
    this.level[0] = this.level[1] = TERMINAL_LEVEL;
    this.#chance = new Float64Array(capacity);
    this.#chance[UNIT] = 1;
    this.#unique = new Int32Array(capacity * 2);
    this.#cacheMask = capacity * 2 - 1;
    this.#cache = new Int32Array(4 * (this.#cacheMask + 1)).fill(-1);
  }

  node(level: number, high: number, low: number): number {
    if (high === NONE) return low;
    if (this.#cutOff > 0 && this.#chanceOf(level) * this.#chance[high]! < this.#cutOff) return low;
    const mask = this.#unique.length - 1;
    let hash = Math.imul(level, 0x9e3779b1) ^ Math.imul(high, 0x85ebca6b) ^ Math.imul(low, 0xc2b2ae35);
    hash ^= hash >>> 15;
    let slot = hash & mask;
    for (;;) {
      const found = this.#unique[slot]!;
      if (found === 0) break;
      if (this.low[found] === low && this.high[found] === high && this.level[found] === level) return found;
      slot = (slot + 1) & mask;
    }
    if (this.count >= this.limit) throw new BddFull();
    const made = this.count++;
    if (made >= this.level.length) this.#grow();
    this.level[made] = level;
    this.high[made] = high;
    this.low[made] = low;
    if (this.#cutOff > 0)
      this.#chance[made] = Math.max(this.#chanceOf(level) * this.#chance[high]!, this.#chance[low]!);
    if (made * 2 > this.#unique.length) this.#rehash(this.#unique.length * 2);
    else this.#unique[slot] = made;
    return made;
  }

  #grow(): void {
    const grow = (old: Int32Array): Int32Array => {
      const grown = new Int32Array(old.length * 2);
      grown.set(old);
      return grown;
    };
    this.level = grow(this.level);
    this.low = grow(this.low);
    this.high = grow(this.high);
    if (this.#cutOff > 0) {
      const chance = new Float64Array(this.level.length);
      chance.set(this.#chance);
      this.#chance = chance;
    }
    this.#enlargeCache(this.level.length * 2);
  }

  /** To `wanted` entries or a little more, 64 MiB at most; it starts afresh. */
  #enlargeCache(wanted: number): void {
    let size = this.#cacheMask + 1;
    while (size < Math.min(wanted, 1 << 22)) size *= 2;
    if (size === this.#cacheMask + 1) return;
    this.#cacheMask = size - 1;
    this.#cache = new Int32Array(4 * size).fill(-1);
  }

  #rehash(size: number): void {
    const unique = new Int32Array(size);
    const mask = size - 1;
    for (let node = 2; node < this.count; node++) {
      let hash =
        Math.imul(this.level[node]!, 0x9e3779b1) ^
        Math.imul(this.high[node]!, 0x85ebca6b) ^
        Math.imul(this.low[node]!, 0xc2b2ae35);
      hash ^= hash >>> 15;
      let slot = hash & mask;
      while (unique[slot] !== 0) slot = (slot + 1) & mask;
      unique[slot] = node;
    }
    this.#unique = unique;
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
          let hash = Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca6b);
          hash ^= hash >>> 15;
          const slot = (hash & this.#cacheMask) * 4;
          if (this.#cache[slot] === a && this.#cache[slot + 1] === b && this.#cache[slot + 3] === 0)
            result = this.#cache[slot + 2]!;
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
        let hash = Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca6b);
        hash ^= hash >>> 15;
        const slot = (hash & this.#cacheMask) * 4;
        this.#cache[slot] = a;
        this.#cache[slot + 1] = b;
        this.#cache[slot + 2] = result;
        this.#cache[slot + 3] = 0;
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
    this.#enlargeCache(((root >> 1) - from) * 4);
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
        let hash = Math.imul(edge, 0x9e3779b1) ^ Math.imul(left + 1, 0x27d4eb2f);
        hash ^= hash >>> 15;
        const slot = (hash & this.#cacheMask) * 4;
        if (this.#cache[slot] === edge && this.#cache[slot + 1] === left && this.#cache[slot + 3] === 1)
          result = this.#cache[slot + 2]!;
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
        let hash = Math.imul(edge, 0x9e3779b1) ^ Math.imul(left + 1, 0x27d4eb2f);
        hash ^= hash >>> 15;
        const slot = (hash & this.#cacheMask) * 4;
        this.#cache[slot] = edge;
        this.#cache[slot + 1] = left;
        this.#cache[slot + 2] = result;
        this.#cache[slot + 3] = 1;
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
