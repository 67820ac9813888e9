/**
 * A binary decision diagram on typed arrays. An edge is `node * 2 + complement`; node 0 is the terminal, so
 * edge 0 is true and edge 1 false. The high edge of a node is never complemented, which makes the form
 * canonical. Inputs of a node have smaller numbers than the node: a loop over numbers is a bottom-up pass.
 * Nothing recurses: depth equals the number of variables, which may be hundreds of thousands.
 */
export const BDD_TRUE = 0;
export const BDD_FALSE = 1;
const TERMINAL_LEVEL = 0x7fffffff;

/** Thrown by operations when the node limit is reached; callers turn it into bounds. */
export class BddFull extends Error {}

export class Bdd {
  level: Int32Array;
  low: Int32Array;
  high: Int32Array;
  count = 1;
  /** No more nodes than this. */
  limit: number;
  #unique: Int32Array;
  #cache: Int32Array;
  #cacheMask: number;
  #stack: Int32Array = new Int32Array(4 * 1024);

  constructor(limit: number, capacity = 1 << 12) {
    this.limit = limit;
    this.level = new Int32Array(capacity);
    this.low = new Int32Array(capacity);
    this.high = new Int32Array(capacity);
    this.level[0] = TERMINAL_LEVEL;
    this.#unique = new Int32Array(capacity * 2);
    this.#cacheMask = capacity * 2 - 1;
    this.#cache = new Int32Array(4 * (this.#cacheMask + 1)).fill(-1);
  }

  /** The function that is `high` where the variable at `level` is true, else `low`. */
  node(level: number, high: number, low: number): number {
    if (high === low) return high;
    const flip = high & 1;
    return this.#find(level, high ^ flip, low ^ flip) * 2 + flip;
  }

  #find(level: number, high: number, low: number): number {
    const mask = this.#unique.length - 1;
    let hash = Math.imul(level, 0x9e3779b1) ^ Math.imul(high, 0x85ebca6b) ^ Math.imul(low, 0xc2b2ae35);
    hash ^= hash >>> 15;
    let slot = hash & mask;
    const unique = this.#unique;
    for (;;) {
      const found = unique[slot]!;
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
    if (made * 2 > this.#unique.length) this.#rehash(this.#unique.length * 2);
    else unique[slot] = made;
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
    // The computed cache grows with the diagram, up to 64 MiB, and starts afresh.
    if (this.#cacheMask + 1 < Math.min(this.level.length * 2, 1 << 22)) {
      this.#cacheMask = this.#cacheMask * 2 + 1;
      this.#cache = new Int32Array(4 * (this.#cacheMask + 1)).fill(-1);
    }
  }

  #rehash(size: number): void {
    const unique = new Int32Array(size);
    const mask = size - 1;
    for (let node = 1; node < this.count; node++) {
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

  /** Forgets all nodes made since `count` was `mark`. */
  release(mark: number): void {
    if (mark === this.count) return;
    this.count = mark;
    this.#rehash(this.#unique.length);
    this.#cache.fill(-1);
  }

  and(f: number, g: number): number {
    let sp = 0;
    let stack = this.#stack;
    let result = 0;
    for (;;) {
      // Call: the conjunction of f and g.
      let known = true;
      if (f === g) result = f;
      else if ((f ^ g) === 1 || f === BDD_FALSE || g === BDD_FALSE) result = BDD_FALSE;
      else if (f === BDD_TRUE) result = g;
      else if (g === BDD_TRUE) result = f;
      else {
        if (f > g) {
          const swap = f;
          f = g;
          g = swap;
        }
        let hash = Math.imul(f, 0x9e3779b1) ^ Math.imul(g, 0x85ebca6b);
        hash ^= hash >>> 15;
        const slot = (hash & this.#cacheMask) * 4;
        if (this.#cache[slot] === f && this.#cache[slot + 1] === g) result = this.#cache[slot + 2]!;
        else {
          known = false;
          if (sp + 4 > stack.length) {
            const grown = new Int32Array(stack.length * 2);
            grown.set(stack);
            this.#stack = stack = grown;
          }
          stack[sp] = f;
          stack[sp + 1] = g;
          stack[sp + 2] = -1;
          sp += 4;
          const nf = f >> 1;
          const ng = g >> 1;
          const lf = this.level[nf]!;
          const lg = this.level[ng]!;
          if (lf <= lg) f = this.high[nf]! ^ (f & 1);
          if (lg <= lf) g = this.high[ng]! ^ (g & 1);
        }
      }
      if (!known) continue;
      // Return: hand the result to the frames above until one has work left.
      let resumed = false;
      while (sp > 0) {
        f = stack[sp - 4]!;
        g = stack[sp - 3]!;
        const nf = f >> 1;
        const ng = g >> 1;
        const lf = this.level[nf]!;
        const lg = this.level[ng]!;
        if (stack[sp - 2] === -1) {
          stack[sp - 2] = result;
          if (lf <= lg) f = this.low[nf]! ^ (f & 1);
          if (lg <= lf) g = this.low[ng]! ^ (g & 1);
          resumed = true;
          break;
        }
        result = this.node(lf < lg ? lf : lg, stack[sp - 2]!, result);
        let hash = Math.imul(f, 0x9e3779b1) ^ Math.imul(g, 0x85ebca6b);
        hash ^= hash >>> 15;
        const slot = (hash & this.#cacheMask) * 4;
        this.#cache[slot] = f;
        this.#cache[slot + 1] = g;
        this.#cache[slot + 2] = result;
        sp -= 4;
      }
      if (!resumed) return result;
    }
  }

  or(f: number, g: number): number {
    return this.and(f ^ 1, g ^ 1) ^ 1;
  }
  xor(f: number, g: number): number {
    return this.or(this.and(f, g ^ 1), this.and(f ^ 1, g));
  }
}
