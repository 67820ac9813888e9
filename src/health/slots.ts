/**
 * At most so many checks at once; the others wait in the order in which they came. Few hundred sockets and a
 * handful of processes are cheap; thousands at one instant would delay each other past their deadlines.
 */
export class Slots {
  readonly #limit: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }
  get running(): number {
    return this.#running;
  }
  get waiting(): number {
    return this.#waiting.length;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#limit) await new Promise<void>((go) => this.#waiting.push(go));
    else this.#running++;
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      // The place is handed on, so that nobody who comes now overtakes.
      if (next) next();
      else this.#running--;
    }
  }
}
