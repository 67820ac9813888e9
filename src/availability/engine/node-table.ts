/**
 * The nodes of a decision diagram on typed arrays: level, low and high branch, each triple once. Inputs of a
 * node have smaller numbers than the node, so that a loop over numbers is a bottom-up pass. With it the
 * computed cache of its operations. What a branch means is the diagram's business.
 */

/** The level of terminals: below every variable. */
const TERMINAL_LEVEL = 0x7fffffff;
/** Entries of the computed cache at most: 64 MiB. */
const CACHE_ENTRIES = 1 << 22;

/** Thrown when the node limit is reached; callers turn it into bounds. */
export class DiagramFull extends Error {}

const mix = (hash: number): number => hash ^ (hash >>> 15);
const grow = (old: Int32Array): Int32Array => {
  const grown = new Int32Array(old.length * 2);
  grown.set(old);
  return grown;
};

export class NodeTable {
  level: Int32Array;
  low: Int32Array;
  high: Int32Array;
  count: number;
  /** No more nodes than this. */
  limit: number;
  /** Four numbers an entry: two operands, the result, and whatever the operation needs to know its own. */
  protected cache: Int32Array;
  protected cacheMask: number;
  readonly #terminals: number;
  #unique: Int32Array;

  constructor(limit: number, terminals: number, capacity: number) {
    this.limit = limit;
    this.count = this.#terminals = terminals;
    this.level = new Int32Array(capacity).fill(TERMINAL_LEVEL, 0, terminals);
    this.low = new Int32Array(capacity);
    this.high = new Int32Array(capacity);
    this.#unique = new Int32Array(capacity * 2);
    this.cacheMask = capacity * 2 - 1;
    this.cache = new Int32Array(4 * (this.cacheMask + 1)).fill(-1);
  }

  /** The one node of this triple, made where it is new. */
  protected find(level: number, high: number, low: number): number {
    const unique = this.#unique;
    const mask = unique.length - 1;
    let slot =
      mix(Math.imul(level, 0x9e3779b1) ^ Math.imul(high, 0x85ebca6b) ^ Math.imul(low, 0xc2b2ae35)) & mask;
    for (;;) {
      const found = unique[slot]!;
      if (found === 0) break;
      if (this.low[found] === low && this.high[found] === high && this.level[found] === level) return found;
      slot = (slot + 1) & mask;
    }
    if (this.count >= this.limit) throw new DiagramFull();
    const made = this.count++;
    if (made >= this.level.length) {
      this.level = grow(this.level);
      this.low = grow(this.low);
      this.high = grow(this.high);
      this.grown(this.level.length);
    }
    this.level[made] = level;
    this.high[made] = high;
    this.low[made] = low;
    if (made * 2 > unique.length) this.#rehash(unique.length * 2);
    else unique[slot] = made;
    return made;
  }

  /** There is now room for so many nodes. */
  protected grown(capacity: number): void {
    this.enlargeCache(capacity * 2);
  }

  /** To `wanted` entries or a little more, within its bound; it then starts afresh. */
  protected enlargeCache(wanted: number): void {
    let size = this.cacheMask + 1;
    while (size < Math.min(wanted, CACHE_ENTRIES)) size *= 2;
    if (size === this.cacheMask + 1) return;
    this.cacheMask = size - 1;
    this.cache = new Int32Array(4 * size).fill(-1);
  }

  /** Where the cache keeps what was computed of these two. */
  protected slotOf(one: number, other: number): number {
    return (mix(Math.imul(one, 0x9e3779b1) ^ Math.imul(other, 0x85ebca6b)) & this.cacheMask) * 4;
  }

  #rehash(size: number): void {
    const unique = new Int32Array(size);
    const mask = size - 1;
    const { level, high, low } = this;
    for (let node = this.#terminals; node < this.count; node++) {
      let slot =
        mix(
          Math.imul(level[node]!, 0x9e3779b1) ^
            Math.imul(high[node]!, 0x85ebca6b) ^
            Math.imul(low[node]!, 0xc2b2ae35),
        ) & mask;
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
    this.cache.fill(-1);
  }
}
