import type { EstablishedOutcome } from "../contracts/drills.ts";
import type { Observation } from "./policy.ts";
import type { StreamSpec } from "./probe/stream.ts";
import { Prober } from "./prober.ts";

/** One prober process per client that asks, kept over many drills. */
export class Probers {
  readonly #probers = new Map<string, Prober>();
  readonly #home: string;
  readonly #realTime: boolean;
  #asking: readonly Prober[] = [];

  constructor(home: string, realTime: boolean) {
    this.#home = home;
    this.#realTime = realTime;
  }

  async begin(streams: readonly StreamSpec[]): Promise<void> {
    const hosts = [...new Set(streams.map(({ host }) => host ?? this.#home))];
    for (const host of hosts)
      if (!this.#probers.has(host)) {
        const prober = new Prober(host, this.#realTime);
        this.#probers.set(host, prober);
        await prober.ready();
      }
    this.#asking = hosts.flatMap((host) => this.#probers.get(host) ?? []);
    await Promise.all(
      this.#asking.map((prober, i) =>
        prober.begin(streams.filter((one) => (one.host ?? this.#home) === hosts[i])),
      ),
    );
  }

  get observations(): ReadonlyMap<string, readonly Observation[]> {
    return new Map(this.#asking.flatMap((one) => [...one.observations]));
  }

  get specs(): readonly StreamSpec[] {
    return this.#asking.flatMap((one) => one.specs);
  }

  goodSince(since: number, fresh: boolean): boolean {
    return this.#asking.every((one) => one.goodSince(since, fresh));
  }

  async end(): Promise<{ lag: number; kept: Map<string, EstablishedOutcome> }> {
    const ended = await Promise.all(this.#asking.map((one) => one.end()));
    return {
      lag: Math.max(0, ...ended.map(({ lag }) => lag)),
      kept: new Map(ended.flatMap(({ kept }) => Object.entries(kept))),
    };
  }

  stop(): void {
    for (const prober of this.#probers.values()) prober.stop();
  }
}
