/** Links between simulated nodes: each direction loses, delays, duplicates and is cut on its own. */
import { type Random, chance } from "../../base/random.ts";
import type { EventQueue } from "../../base/event-queue.ts";

export interface Weather {
  readonly loss: number;
  readonly duplicate: number;
  /** Milliseconds. */
  readonly minDelay: number;
  readonly maxDelay: number;
}
export const CALM: Weather = { loss: 0, duplicate: 0, minDelay: 0.05, maxDelay: 0.5 };

export class Network {
  weather: Weather = CALM;
  /** The node whose announcement the clients of the segment heard last: they send to it, whoever is Active. */
  believed: number | undefined;
  readonly #queue: EventQueue;
  readonly #random: Random;
  readonly #cut = new Set<string>();

  constructor(queue: EventQueue, random: Random) {
    this.#queue = queue;
    this.#random = random;
  }
  /** One direction of one link; the management link, which carries the nodes' own messages, is -1. */
  cut(link: number, from: number, to: number): void {
    this.#cut.add(`${link} ${from} ${to}`);
  }
  heal(): void {
    this.#cut.clear();
    this.weather = CALM;
  }
  send(link: number, from: number, to: number, deliver: () => void): void {
    if (this.#cut.has(`${link} ${from} ${to}`) || chance(this.#random, this.weather.loss)) return;
    const copies = chance(this.#random, this.weather.duplicate) ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const { minDelay, maxDelay } = this.weather;
      this.#queue.add(this.#queue.now + minDelay + this.#random.next() * (maxDelay - minDelay), deliver);
    }
  }
}
