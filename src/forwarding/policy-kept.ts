/**
 * Parts of the tables that are made again only when what they are made of changed. One backend's change then costs
 * one service, and the comparison with what the kernel has skips what is the same object.
 */
export class Kept {
  #parts = new Map<string, { readonly of: readonly unknown[]; readonly made: unknown }>();
  #used = new Set<string>();

  /** `of`: everything that `make` looks at, compared by identity. `make` may use what it made last time. */
  part<T>(name: string, of: readonly unknown[], make: (before?: T) => T): T {
    this.#used.add(name);
    const last = this.#parts.get(name);
    const before = last?.made as T | undefined;
    if (last && last.of.length === of.length && of.every((one, i) => one === last.of[i]))
      return last.made as T;
    const made = make(before);
    this.#parts.set(name, { of, made });
    return made;
  }

  /** Forgets the parts that nobody asked for since the last time. */
  sweep(): void {
    for (const name of this.#parts.keys()) if (!this.#used.has(name)) this.#parts.delete(name);
    this.#used = new Set();
  }
}
