/**
 * How many streams a client may take back before their answer (CVE-2023-44487): a request costs the proxy and a
 * backend work, its reset costs the client nothing and makes room for the next one. A bucket per connection.
 */
export class ResetBudget {
  #left = BURST;
  #at = 0;

  /** False where this reset is one too many. */
  take(now: number): boolean {
    this.#left = Math.min(BURST, this.#left + ((now - this.#at) / 1000) * PER_S);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}

/** Enough for a page that is left while it loads, and for calls that are cancelled in bulk. */
const BURST = 200;
const PER_S = 20;
