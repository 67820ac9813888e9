/** Something with a deadline that may be late by one sweep. */
export interface Swept {
  /** Milliseconds on the engine's clock; infinite for none. */
  deadline: number;
  sweepIndex: number;
  onDeadline(): void;
}

/**
 * Deadlines without timers: setting one is writing a number. A sweep compares all of them a few times a
 * second; 50,000 connections cost it about a millisecond.
 */
export class Sweep {
  readonly #all: Swept[] = [];

  get size(): number {
    return this.#all.length;
  }

  add(one: Swept): void {
    one.sweepIndex = this.#all.length;
    this.#all.push(one);
  }

  remove(one: Swept): void {
    const at = one.sweepIndex;
    if (at < 0) return;
    one.sweepIndex = -1;
    const last = this.#all.pop()!;
    if (last === one) return;
    this.#all[at] = last;
    last.sweepIndex = at;
  }

  run(now: number): void {
    // Backwards: a removal moves only entries that were looked at already.
    for (let i = this.#all.length - 1; i >= 0; i--) {
      const one = this.#all[i];
      if (one !== undefined && one.deadline <= now) one.onDeadline();
    }
  }
}
