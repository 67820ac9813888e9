/**
 * Reordering (Rudell's sifting): one variable after the other is moved through all levels by exchanging
 * neighbours, and stays where the diagram is smallest. It works on a copy in which nodes know how often they
 * are used; what comes out is written back in the new order.
 */
import type { Bdd } from "./bdd.ts";

export interface Sifted {
  /** Old level per new level, both counted from the first. */
  readonly order: Int32Array;
  /** The same functions as edges of the rewritten diagram. */
  readonly roots: readonly number[];
}

/** A variable is not moved further where the diagram grows beyond this. */
const MAX_GROWTH = 1.2;
/** Nodes looked at in one sifting, all exchanges together. */
const MAX_WORK = 3_000_000;

/**
 * Reorders all nodes from `mark` on, whose levels are `firstLevel` and the `levels - 1` after it. Only what
 * `roots` use survives.
 */
export function sift(
  bdd: Bdd,
  mark: number,
  firstLevel: number,
  levels: number,
  roots: readonly number[],
): Sifted {
  const sifter = new Sifter(bdd, mark, firstLevel, levels, roots);
  sifter.run();
  return sifter.writeBack(bdd, mark, firstLevel);
}

/** Nodes of one variable, chained by hash. */
interface Variable {
  buckets: Int32Array;
  count: number;
}

class Sifter {
  #variable: Int32Array;
  #high: Int32Array;
  #low: Int32Array;
  #uses: Int32Array;
  #next: Int32Array;
  #made = 1;
  #free = 0;
  #live = 0;
  #work = 0;
  readonly #variables: Variable[];
  readonly #at: Int32Array;
  readonly #place: Int32Array;
  readonly #roots: number[];

  constructor(bdd: Bdd, mark: number, firstLevel: number, levels: number, roots: readonly number[]) {
    const used = new Uint8Array(bdd.count - mark);
    const use = (edge: number): void => {
      if (edge >> 1 !== 0) used[(edge >> 1) - mark] = 1;
    };
    roots.forEach(use);
    let count = 1;
    for (let node = bdd.count - 1; node >= mark; node--) {
      if (used[node - mark] === 0) continue;
      count++;
      use(bdd.low[node]!);
      use(bdd.high[node]!);
    }
    const capacity = Math.max(64, count * 2);
    this.#variable = new Int32Array(capacity);
    this.#high = new Int32Array(capacity);
    this.#low = new Int32Array(capacity);
    this.#uses = new Int32Array(capacity);
    this.#next = new Int32Array(capacity);
    this.#variable[0] = -1;
    this.#variables = Array.from({ length: levels }, () => ({ buckets: new Int32Array(4), count: 0 }));
    this.#at = Int32Array.from({ length: levels }, (_, i) => i);
    this.#place = this.#at.slice();
    const renumbered = new Int32Array(bdd.count - mark);
    const moved = (edge: number): number =>
      edge >> 1 === 0 ? edge : renumbered[(edge >> 1) - mark]! * 2 + (edge & 1);
    for (let node = mark; node < bdd.count; node++)
      if (used[node - mark] === 1)
        renumbered[node - mark] =
          this.#node(bdd.level[node]! - firstLevel, moved(bdd.high[node]!), moved(bdd.low[node]!)) >> 1;
    this.#roots = roots.map(moved);
    for (const root of this.#roots) this.#uses[root >> 1]!++;
  }

  /** The variables with most nodes first: they have most to win. */
  run(): void {
    const byCount = this.#variables
      .map(({ count }, variable) => ({ variable, count }))
      .filter(({ count }) => count > 1)
      .sort((a, b) => b.count - a.count);
    for (const { variable } of byCount) {
      if (this.#work > MAX_WORK) return;
      this.#sift(variable);
    }
  }

  /** To the nearer end, to the other, and back to the best place. */
  #sift(variable: number): void {
    const last = this.#at.length - 1;
    let best = this.#live;
    let bestPlace = this.#place[variable]!;
    const downFirst = bestPlace > last / 2;
    for (const down of downFirst ? [true, false] : [false, true]) {
      while (this.#work <= MAX_WORK) {
        const place = this.#place[variable]!;
        if (down ? place === last : place === 0) break;
        this.#exchange(down ? place : place - 1);
        if (this.#live < best) {
          best = this.#live;
          bestPlace = this.#place[variable]!;
        } else if (this.#live > best * MAX_GROWTH + 16) break;
      }
    }
    while (this.#place[variable]! < bestPlace) this.#exchange(this.#place[variable]!);
    while (this.#place[variable]! > bestPlace) this.#exchange(this.#place[variable]! - 1);
  }

  /** The variables at this place and the next change places; nodes keep their numbers and their meaning. */
  #exchange(place: number): void {
    const x = this.#at[place]!;
    const y = this.#at[place + 1]!;
    this.#at[place] = y;
    this.#at[place + 1] = x;
    this.#place[x] = place + 1;
    this.#place[y] = place;
    this.#work += this.#variables[x]!.count + 1;
    if (this.#variables[x]!.count === 0 || this.#variables[y]!.count === 0) return;
    const affected = this.#takeUsersOf(x, y);
    for (const node of affected) {
      const high = this.#high[node]!;
      const low = this.#low[node]!;
      const flip = low & 1;
      const highHasY = this.#variable[high >> 1] === y;
      const lowHasY = this.#variable[low >> 1] === y;
      const newHigh = this.#node(
        x,
        highHasY ? this.#high[high >> 1]! : high,
        lowHasY ? this.#high[low >> 1]! ^ flip : low,
      );
      this.#uses[newHigh >> 1]!++;
      const newLow = this.#node(
        x,
        highHasY ? this.#low[high >> 1]! : high,
        lowHasY ? this.#low[low >> 1]! ^ flip : low,
      );
      this.#uses[newLow >> 1]!++;
      this.#variable[node] = y;
      this.#high[node] = newHigh;
      this.#low[node] = newLow;
      this.#insert(node);
      this.#drop(high >> 1);
      this.#drop(low >> 1);
    }
  }

  /** The nodes of `x` that have a branch to `y`, taken out of the table of `x`. */
  #takeUsersOf(x: number, y: number): number[] {
    const { buckets } = this.#variables[x]!;
    const taken: number[] = [];
    for (let i = 0; i < buckets.length; i++) {
      let before = 0;
      for (let node = buckets[i]!; node !== 0;) {
        const next = this.#next[node]!;
        if (this.#variable[this.#high[node]! >> 1] === y || this.#variable[this.#low[node]! >> 1] === y) {
          if (before === 0) buckets[i] = next;
          else this.#next[before] = next;
          taken.push(node);
        } else before = node;
        node = next;
      }
    }
    this.#variables[x]!.count -= taken.length;
    return taken;
  }

  /** An edge; its use is not counted yet. */
  #node(variable: number, high: number, low: number): number {
    if (high === low) return high;
    const flip = high & 1;
    const h = high ^ flip;
    const l = low ^ flip;
    const { buckets } = this.#variables[variable]!;
    for (let node = buckets[this.#slot(h, l, buckets.length)]!; node !== 0; node = this.#next[node]!)
      if (this.#high[node] === h && this.#low[node] === l) return node * 2 + flip;
    let node = this.#free;
    if (node === 0) {
      node = this.#made++;
      if (node >= this.#high.length) this.#grow();
    } else this.#free = this.#next[node]!;
    this.#variable[node] = variable;
    this.#high[node] = h;
    this.#low[node] = l;
    this.#uses[node] = 0;
    this.#uses[h >> 1]!++;
    this.#uses[l >> 1]!++;
    this.#insert(node);
    this.#live++;
    return node * 2 + flip;
  }

  #slot(high: number, low: number, size: number): number {
    const hash = Math.imul(high, 0x85ebca6b) ^ Math.imul(low, 0xc2b2ae35);
    return (hash ^ (hash >>> 15)) & (size - 1);
  }

  #insert(node: number): void {
    const variable = this.#variables[this.#variable[node]!]!;
    if (++variable.count > variable.buckets.length) this.#widen(variable);
    const { buckets } = variable;
    const slot = this.#slot(this.#high[node]!, this.#low[node]!, buckets.length);
    this.#next[node] = buckets[slot]!;
    buckets[slot] = node;
  }

  #widen(variable: Variable): void {
    const old = variable.buckets;
    const buckets = new Int32Array(old.length * 2);
    for (const first of old)
      for (let node = first; node !== 0;) {
        const next = this.#next[node]!;
        const slot = this.#slot(this.#high[node]!, this.#low[node]!, buckets.length);
        this.#next[node] = buckets[slot]!;
        buckets[slot] = node;
        node = next;
      }
    variable.buckets = buckets;
  }

  /** One use less; what nobody uses any more goes, and with it its uses. */
  #drop(dropped: number): void {
    const work = [dropped];
    for (let node = work.pop(); node !== undefined; node = work.pop()) {
      if (node === 0 || --this.#uses[node]! > 0) continue;
      const variable = this.#variables[this.#variable[node]!]!;
      const { buckets } = variable;
      const slot = this.#slot(this.#high[node]!, this.#low[node]!, buckets.length);
      if (buckets[slot] === node) buckets[slot] = this.#next[node]!;
      else {
        let before = buckets[slot]!;
        while (this.#next[before] !== node) before = this.#next[before]!;
        this.#next[before] = this.#next[node]!;
      }
      variable.count--;
      this.#live--;
      work.push(this.#high[node]! >> 1, this.#low[node]! >> 1);
      this.#variable[node] = -1;
      this.#next[node] = this.#free;
      this.#free = node;
    }
  }

  #grow(): void {
    const grow = (old: Int32Array): Int32Array => {
      const grown = new Int32Array(old.length * 2);
      grown.set(old);
      return grown;
    };
    this.#variable = grow(this.#variable);
    this.#high = grow(this.#high);
    this.#low = grow(this.#low);
    this.#uses = grow(this.#uses);
    this.#next = grow(this.#next);
  }

  /** From the bottom to the top, so that branches are there before the nodes that have them. */
  writeBack(bdd: Bdd, mark: number, firstLevel: number): Sifted {
    bdd.release(mark);
    const written = new Int32Array(this.#made);
    const moved = (edge: number): number => written[edge >> 1]! * 2 + (edge & 1);
    for (let place = this.#at.length - 1; place >= 0; place--)
      for (const first of this.#variables[this.#at[place]!]!.buckets)
        for (let node = first; node !== 0; node = this.#next[node]!)
          written[node] =
            bdd.node(firstLevel + place, moved(this.#high[node]!), moved(this.#low[node]!)) >> 1;
    return { order: this.#at, roots: this.#roots.map(moved) };
  }
}
