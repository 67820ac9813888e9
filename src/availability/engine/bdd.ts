/**
 * A binary decision diagram. An edge is `node * 2 + complement`; node 0 is the terminal, so edge 0 is true and
 * edge 1 false. The high edge of a node is never complemented, which makes the form canonical. Nothing
 * recurses: depth equals the number of variables, which may be hundreds of thousands.
 */
import { NodeTable } from "./node-table.ts";

export const BDD_TRUE = 0;
export const BDD_FALSE = 1;

export class Bdd extends NodeTable {
  #stack: Int32Array = new Int32Array(4 * 1024);

  constructor(limit: number, capacity = 1 << 12) {
    super(limit, 1, capacity);
  }

  /** The function that is `high` where the variable at `level` is true, else `low`. */
  node(level: number, high: number, low: number): number {
    if (high === low) return high;
    const flip = high & 1;
    return this.find(level, high ^ flip, low ^ flip) * 2 + flip;
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
        const slot = this.slotOf(f, g);
        if (this.cache[slot] === f && this.cache[slot + 1] === g) result = this.cache[slot + 2]!;
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
        const slot = this.slotOf(f, g);
        this.cache[slot] = f;
        this.cache[slot + 1] = g;
        this.cache[slot + 2] = result;
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
