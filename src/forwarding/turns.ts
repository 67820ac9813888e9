import { type Clock, type Timer, addTime, ms } from "../base/time.ts";

/** Changes within this time are worked on together. */
const TICK = ms(5);
/** How often it is checked whether all is as it should be. */
const CHECK = ms(500);

export interface Turn {
  /** Something changed since the last turn. */
  readonly changed: boolean;
  /** It is time for a check. */
  readonly check: boolean;
}

/** One piece of work at a time: changes a tick after they came, checks at a pace that no change disturbs. */
export class Turns {
  readonly #clock: Clock;
  readonly #work: (turn: Turn) => Promise<void>;
  #changed = false;
  #tick: Timer | undefined;
  #check: Timer | undefined;
  #running: Promise<unknown> = Promise.resolve();
  #stopped = false;

  /** `work` never rejects. */
  constructor(clock: Clock, work: (turn: Turn) => Promise<void>) {
    this.#clock = clock;
    this.#work = work;
  }

  changed(): void {
    this.#changed = true;
    if (this.#tick || this.#stopped) return;
    this.#tick = this.#clock.setTimer(addTime(this.#clock.monotonic(), TICK), () => this.#take(false));
  }

  /** Settles when everything asked so far was worked on. */
  async settled(): Promise<void> {
    if (this.#tick) this.#take(false);
    for (let last; last !== this.#running;) {
      last = this.#running;
      await last;
    }
  }

  /**
   * Long work, a step per turn: what changes meanwhile comes in between. Ends early where it is not `wanted` any
   * more, and rejects as the work does.
   */
  async steps<T>(
    work: AsyncGenerator<T, void>,
    each: (value: T) => void | Promise<void>,
    wanted: () => boolean,
  ): Promise<void> {
    let done: boolean | undefined = false;
    while (done !== true) {
      const step = this.#running.then(async () => {
        if (this.#stopped || !wanted()) return true;
        const next = await work.next();
        if (next.done !== true) await each(next.value);
        return next.done;
      });
      this.#running = step.catch(() => undefined);
      done = await step;
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#tick?.cancel();
    this.#check?.cancel();
    await this.#running;
  }

  #take(check: boolean): void {
    if (!check) {
      this.#tick?.cancel();
      this.#tick = undefined;
    }
    this.#running = this.#running.then(async () => {
      const changed = this.#changed;
      this.#changed = false;
      if (this.#stopped || !(changed || check)) return;
      await this.#work({ changed, check });
      this.#plan();
    });
  }

  #plan(): void {
    if (this.#check || this.#stopped) return;
    this.#check = this.#clock.setTimer(addTime(this.#clock.monotonic(), CHECK), () => {
      this.#check = undefined;
      this.#take(true);
    });
  }
}
