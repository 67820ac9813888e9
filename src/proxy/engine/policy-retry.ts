/**
 * Retries as a share of requests over ten to twenty seconds, and always a few a second: a pool that fails
 * as a whole must not get twice its load on top.
 */
export class RetryBudget {
  readonly #share: number;
  #windowStart = 0;
  #requests = [0, 0];
  #retries = [0, 0];

  constructor(share: number) {
    this.#share = share;
  }

  request(now: number): void {
    this.#turn(now);
    this.#requests[1]!++;
  }

  /** Whether one retry may be made; it is then counted. */
  take(now: number): boolean {
    this.#turn(now);
    const requests = this.#requests[0]! + this.#requests[1]!;
    const retries = this.#retries[0]! + this.#retries[1]!;
    if (retries >= Math.max(WINDOW_S * ALWAYS_PER_S, requests * this.#share)) return false;
    this.#retries[1]!++;
    return true;
  }

  #turn(now: number): void {
    const passed = now - this.#windowStart;
    if (passed < WINDOW_S * 1000) return;
    const old = passed >= WINDOW_S * 2000;
    this.#requests = [old ? 0 : this.#requests[1]!, 0];
    this.#retries = [old ? 0 : this.#retries[1]!, 0];
    this.#windowStart = now;
  }
}

const WINDOW_S = 10;
const ALWAYS_PER_S = 3;
