import { unreachable } from "../../base/result.ts";
import type { Random } from "../../base/random.ts";
import { boundedLoad } from "../../balancing/bounded-load.ts";
import { hashName } from "../../balancing/hash.ts";
import { leastRequests } from "../../balancing/least-requests.ts";
import { MAGLEV_SLOTS, maglev } from "../../balancing/maglev.ts";
import { powerOfTwo } from "../../balancing/p2c.ts";
import { rendezvousIndex, rendezvousOrder } from "../../balancing/rendezvous.ts";
import type { RouteSettings } from "../../contracts/site.ts";
import type { BackendState } from "./backend.ts";

/** The same on every node, so that all of them send a key to the same backend. */
export const HASH_SEED = 0;
/** Steps of a slow start: each makes a new Maglev table, so they are few. */
const SLOW_START_STEPS = 20;

export type SchedulerName = RouteSettings["balance"]["scheduler"];

export interface PickOptions {
  readonly scheduler: SchedulerName;
  /** Below this share of usable backends, health is not believed. */
  readonly panic: number;
  readonly slowStart: number;
  /** Most requests in flight to one backend. */
  readonly requests: number;
  /** Most connections to one backend. */
  readonly connections: number;
}

/** Whether one more request may go to a backend: on a kept connection, or on a new one. */
export const hasRoom = (backend: BackendState, options: PickOptions): boolean =>
  backend.inflight < options.requests &&
  (backend.connections < options.connections || backend.idle.length > 0 || backend.sessions.length > 0);

/** Someone who waits for a place at any backend of a pool. */
export interface Waiter {
  /** Waiters of one group want the same: where one is not served, none is. Undefined for one that wants its own. */
  readonly group: object | undefined;
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
  /** Neither down nor ejected, whether at their limit or not. */
  readonly #healthy: BackendState[] = [];
  readonly #table = new HashTable();

  constructor(name: string, random: Random) {
    this.name = name;
    this.#random = random;
  }

  /** Backends that are neither down nor ejected, with their weights of this moment. */
  #usable(now: number, options: PickOptions, tried: ReadonlySet<BackendState> | undefined): BackendState[] {
    const out = this.#candidates;
    const all = this.#healthy;
    out.length = 0;
    all.length = 0;
    let backups = false;
    for (const backend of this.backends) {
      if (!backend.serving || backend.outlier.ejected(now)) continue;
      if (backend.backup) {
        backups = true;
        continue;
      }
      all.push(backend);
      backend.weight = this.#weight(backend, now, options.slowStart);
      if (tried?.has(backend)) continue;
      if (hasRoom(backend, options)) out.push(backend);
    }
    if (backups && all.length === 0) return this.#useBackups(now, options, tried);
    const healthy = all.length;
    if (healthy > 0 && (options.panic === 0 || healthy >= options.panic * this.#primaries)) {
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

  /** No other is healthy. */
  #useBackups(
    now: number,
    options: PickOptions,
    tried: ReadonlySet<BackendState> | undefined,
  ): BackendState[] {
    for (const backend of this.backends) {
      if (!backend.backup || !backend.serving || backend.outlier.ejected(now)) continue;
      this.#healthy.push(backend);
      backend.weight = this.#weight(backend, now, options.slowStart);
      if (tried?.has(backend) !== true && hasRoom(backend, options)) this.#candidates.push(backend);
    }
    return this.#candidates;
  }
  get #primaries(): number {
    let count = 0;
    for (const { backup } of this.backends) if (!backup) count++;
    return count;
  }

  #addAnyway(
    backend: BackendState,
    tried: ReadonlySet<BackendState> | undefined,
    options: PickOptions,
    test: (backend: BackendState) => boolean,
  ): void {
    if (!test(backend) || tried?.has(backend) || !hasRoom(backend, options)) return;
    backend.weight = Math.max(1, backend.configuredWeight);
    this.#candidates.push(backend);
  }

  #weight(backend: BackendState, now: number, slowStart: number): number {
    const weight = backend.reported ?? backend.configuredWeight;
    if (slowStart <= 0 || backend.upSince === 0) return weight;
    const age = now - backend.upSince;
    return age >= slowStart
      ? weight
      : weight * (Math.max(1, Math.ceil((age / slowStart) * SLOW_START_STEPS)) / SLOW_START_STEPS);
  }

  /** Whether one more may be ejected where at most this share of the pool may be. */
  mayEject(now: number, atMost: number): boolean {
    const ejected = this.backends.filter(({ outlier }) => outlier.ejected(now)).length;
    return (ejected + 1) / Math.max(1, this.backends.length) <= atMost;
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

  /**
   * The backend that rendezvous hashing gives a key. By the weights of the site alone: a slow start, which each worker
   * counts for itself, must not make two of them disagree.
   */
  place(
    now: number,
    options: PickOptions,
    key: string,
    tried: ReadonlySet<BackendState> | undefined,
  ): BackendState | undefined {
    const usable = this.#usable(now, options, tried);
    return usable[rendezvousIndex(key, usable, HASH_SEED, siteWeight)] ?? usable[0];
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
        return this.#table.pick(this.#healthy, usable, key);
      case "bounded":
        return boundedLoad(order(usable, key), usable);
      case "round-robin":
        return smooth(usable);
      default:
        return unreachable(scheduler);
    }
  }
}

const siteWeight = ({ configuredWeight }: BackendState): number => configuredWeight;

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

/** Indexes of all backends in the order in which this key prefers them. */
const order = (backends: readonly BackendState[], key: string): number[] =>
  rendezvousOrder(key, backends, HASH_SEED).map((name) => backends.findIndex((one) => one.name === name));

/** The Maglev table of a pool, made anew when a backend comes, goes or changes its weight. */
class HashTable {
  #backends: BackendState[] = [];
  #weights: number[] = [];
  #slots: BackendState[] = [];

  /** An index into `usable`; where the table's backend is not among those, the key's order of preference decides. */
  pick(healthy: readonly BackendState[], usable: readonly BackendState[], key: string): number {
    if (!this.#fresh(healthy)) this.#make(healthy);
    const { length } = this.#slots;
    const at = length === 0 ? -1 : usable.indexOf(this.#slots[hashName(key, HASH_SEED) % length]!);
    return at >= 0 ? at : (order(usable, key)[0] ?? -1);
  }

  #fresh(backends: readonly BackendState[]): boolean {
    if (backends.length !== this.#backends.length) return false;
    for (let i = 0; i < backends.length; i++) {
      if (backends[i] !== this.#backends[i] || backends[i]!.weight !== this.#weights[i]) return false;
    }
    return true;
  }

  #make(backends: readonly BackendState[]): void {
    this.#backends = [...backends];
    this.#weights = backends.map((one) => one.weight);
    const byName = new Map(backends.map((one) => [one.name, one]));
    this.#slots = maglev(backends, MAGLEV_SLOTS, HASH_SEED).map((name) => byName.get(name)!);
  }
}
