/** What happens next, in order of time; events of one instant in the order in which they were added. */
interface Entry {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

/** A binary heap: a run has some thousand events, and ten thousand runs are wanted. */
export class EventQueue {
  readonly #heap: Entry[] = [];
  #order = 0;
  now = 0;

  add(at: number, run: () => void): void {
    const heap = this.#heap;
    heap.push({ at: Math.max(at, this.now), order: this.#order++, run });
    let i = heap.length - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!this.#before(i, parent)) break;
      this.#swap(i, parent);
      i = parent;
    }
  }
  /** Runs everything up to `until`; throws where an instant never ends. */
  runTo(until: number): void {
    let spins = 0;
    for (let next = this.#heap[0]; next && next.at <= until; next = this.#heap[0]) {
      spins = next.at === this.now ? spins + 1 : 0;
      if (spins > 100_000) throw new Error(`time does not advance beyond ${this.now} ms`);
      this.#pop();
      this.now = next.at;
      next.run();
    }
    this.now = until;
  }
  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (!last || heap.length === 0) return;
    heap[0] = last;
    for (let i = 0; ;) {
      const left = 2 * i + 1;
      const least = this.#before(left + 1, left) ? left + 1 : left;
      if (!this.#before(least, i)) return;
      this.#swap(i, least);
      i = least;
    }
  }
  #before(a: number, b: number): boolean {
    const x = this.#heap[a];
    const y = this.#heap[b];
    if (!x || !y) return false;
    return x.at < y.at || (x.at === y.at && x.order < y.order);
  }
  #swap(a: number, b: number): void {
    const x = this.#heap[a];
    const y = this.#heap[b];
    if (x && y) [this.#heap[a], this.#heap[b]] = [y, x];
  }
}
