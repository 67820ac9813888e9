import { unreachable } from "../../base/result.ts";
import type { Random } from "../../base/random.ts";
import { boundedLoad } from "../../balancing/bounded-load.ts";
import { leastRequests } from "../../balancing/least-requests.ts";
import { powerOfTwo } from "../../balancing/p2c.ts";
import type { RouteSettings } from "../../contracts/site.ts";
import type { BackendState } from "./backend.ts";

export type SchedulerName = RouteSettings["balance"]["scheduler"];

export interface PickOptions {
  readonly scheduler: SchedulerName;
  /** Below this share of usable backends, health is not believed. */
  readonly panic: number;
  readonly slowStart: number;
  /** Most requests in flight and connections to one backend. */
  readonly requests: number;
}

/** Someone who waits for a place at any backend of a pool. */
export interface Waiter {
  /** Tries again; true where it was served (or no longer needs to be). */
  retry(): boolean;
}

/** The backends of one pool, and who waits for them. */
export class PoolState {
  readonly name: string;
  backends: BackendState[] = [];
  readonly queue: Waiter[] = [];
  allDown: "all" | "none" | "last" = "none";
  readonly #random: Random;
  #turn = 0;
  #lastGood: BackendState[] = [];
  readonly #candidates: BackendState[] = [];

  constructor(name: string, random: Random) {
    this.name = name;
    this.#random = random;
  }

  /** Backends that are neither down nor ejected, with their weights of this moment. */
  #usable(now: number, options: PickOptions, tried: ReadonlySet<BackendState> | undefined): BackendState[] {
    const out = this.#candidates;
    out.length = 0;
    let healthy = 0;
    for (const backend of this.backends) {
      if (!backend.serving || backend.outlier.ejected(now)) continue;
      healthy++;
      if (tried?.has(backend)) continue;
      backend.weight = this.#weight(backend, now, options.slowStart);
      if (backend.inflight < options.requests) out.push(backend);
    }
    if (healthy > 0 && healthy >= options.panic * this.backends.length) {
      if (this.#lastGood.length !== healthy) this.#lastGood = [...out];
      return out;
    }
    if (options.panic === 0 && healthy === 0 && this.allDown === "none") {
      // Ejections are a guess: where they and nothing else leave no backend, they are not believed.
      for (const backend of this.backends) this.#addAnyway(backend, tried, options, (b) => b.serving);
      return out;
    }
    const last = this.allDown === "last" ? this.#lastGood : this.backends;
    out.length = 0;
    for (const backend of last) this.#addAnyway(backend, tried, options, (b) => b.admin === "enabled");
    return out;
  }

  #addAnyway(
    backend: BackendState,
    tried: ReadonlySet<BackendState> | undefined,
    options: PickOptions,
    test: (backend: BackendState) => boolean,
  ): void {
    if (!test(backend) || tried?.has(backend) || backend.inflight >= options.requests) return;
    backend.weight = Math.max(1, backend.configuredWeight);
    this.#candidates.push(backend);
  }

  #weight(backend: BackendState, now: number, slowStart: number): number {
    const weight = backend.reported ?? backend.configuredWeight;
    if (slowStart <= 0 || backend.upSince === 0) return weight;
    const age = now - backend.upSince;
    return age >= slowStart ? weight : Math.max(weight * 0.05, (weight * age) / slowStart);
  }

  /** Whether some backend would serve, were it not for its limit. */
  full(now: number): boolean {
    return this.backends.some((backend) => backend.serving && !backend.outlier.ejected(now));
  }

  pick(
    now: number,
    options: PickOptions,
    key: string,
    tried: ReadonlySet<BackendState> | undefined,
  ): BackendState | undefined {
    const usable = this.#usable(now, options, tried);
    if (usable.length <= 1) return usable[0];
    return usable[this.#index(usable, options.scheduler, key, now)];
  }

  #index(usable: BackendState[], scheduler: SchedulerName, key: string, now: number): number {
    switch (scheduler) {
      case "least-requests":
        return leastRequests(usable, this.#turn++);
      case "p2c":
        return powerOfTwo(usable, (b) => b.inflight / b.weight, this.#random);
      case "peak-ewma":
        return powerOfTwo(
          usable,
          (b) => (b.latency.value(now as never) * (b.inflight + 1)) / b.weight,
          this.#random,
        );
      case "maglev":
        return preference(usable, key)[0] ?? -1;
      case "bounded":
        return boundedLoad(preference(usable, key), usable);
      case "round-robin":
        return smooth(usable);
      default:
        return unreachable(scheduler);
    }
  }
}

/** Smooth weighted round robin over backends that come and go: the credit lives on the backend. */
function smooth(backends: readonly BackendState[]): number {
  let total = 0;
  let best = 0;
  for (let i = 0; i < backends.length; i++) {
    const backend = backends[i]!;
    total += backend.weight;
    backend.credit += backend.weight;
    if (backend.credit > backends[best]!.credit) best = i;
  }
  backends[best]!.credit -= total;
  return best;
}

/** Weighted rendezvous hashing: all backends in the order in which this key prefers them. */
export function preference(backends: readonly BackendState[], key: string): number[] {
  const scores = backends.map((backend) => {
    const uniform = (hashText(`${key}\0${backend.id}`) + 0.5) / 4294967296;
    return backend.weight / -Math.log(uniform);
  });
  return scores.map((_, i) => i).sort((a, b) => scores[b]! - scores[a]!);
}

/** FNV-1a with murmur3's finish: even over short keys. */
function hashText(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
