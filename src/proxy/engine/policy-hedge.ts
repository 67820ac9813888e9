/** How long the first backend may take before a second one is asked as well. */
export type HedgeSettings =
  { readonly after: number } | { readonly percentile: number; readonly atLeast: number };

/** The last so many latencies speak for the route. */
const WINDOW = 512;
/** Fewer say nothing of a percentile: nothing is hedged. */
const ENOUGH = 100;
/** Sorted anew after so many observations. */
const EVERY = 64;

/** The delay of a route: fixed, or a percentile of the times to a response's head that were seen last. */
export class HedgeDelay {
  readonly #settings: HedgeSettings;
  readonly #seen = new Float64Array(WINDOW);
  #count = 0;
  #delay: number | undefined;

  constructor(settings: HedgeSettings) {
    this.#settings = settings;
    if ("after" in settings) this.#delay = settings.after;
  }

  /** Milliseconds; undefined while too little is known. */
  get delay(): number | undefined {
    return this.#delay;
  }

  /** Time to a response's head, of whoever answered. */
  observe(took: number): void {
    const settings = this.#settings;
    if ("after" in settings) return;
    this.#seen[this.#count++ % WINDOW] = took;
    if (this.#count < ENOUGH || (this.#count > ENOUGH && this.#count % EVERY !== 0)) return;
    const sorted = this.#seen.slice(0, Math.min(this.#count, WINDOW)).sort();
    const at = Math.min(sorted.length - 1, Math.floor((settings.percentile / 100) * sorted.length));
    this.#delay = Math.max(settings.atLeast, sorted[at]!);
  }
}
