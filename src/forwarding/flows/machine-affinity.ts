/**
 * What peers know about clients and their backends, and what they are told: pure. The kernel's maps are looked at as a
 * whole now and then; a peer is told what it does not know yet, so much at a time. Who is Active does not matter: each
 * tells what it has, and of two that disagree about a client the one whose entry lives longer met it last.
 */
import { type DurationMs, type MonotonicMs, addTime, ms, timeSince } from "../../base/time.ts";
import type { AffinityEntry } from "../../contracts/affinity.ts";

/** What travels beside the flows: clients and their backends. */
export interface AffinityEvents {
  connected(peer: string): void;
  disconnected(peer: string): void;
  received(peer: string, entries: readonly AffinityEntry[]): void;
}

interface Known {
  readonly entry: AffinityEntry;
  readonly until: MonotonicMs;
}

/**
 * A peer's copy may end by this part of the timeout earlier than ours before it is told again; and what ends within as
 * much is not told, or two nodes would hand each other what is about to be forgotten.
 */
const STALE = 1 / 8;

const keyOf = ({ service, source }: AffinityEntry): string => `${service} ${source}`;
const sameBackend = (a: AffinityEntry, b: AffinityEntry): boolean =>
  a.backend === b.backend && a.port === b.port;

/** Timeouts by service: those without one are not spoken of. */
export type Timeouts = ReadonlyMap<string, DurationMs>;

export class AffinityStore {
  readonly #peers = new Map<string, Map<string, Known>>();
  /** Of peers that are away: for a kernel that lost its maps meanwhile. */
  readonly #away = new Map<string, Map<string, Known>>();
  /** Most clients that are kept per peer. */
  #most: number;
  /** Clients that were not kept since there were too many. */
  dropped = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Most clients that are kept per peer, from now on. */
  limit(most: number): void {
    this.#most = most;
  }

  /** A connection to this peer stands: what it knew before is not counted on. */
  connected(peer: string): void {
    this.disconnected(peer);
    this.#peers.set(peer, new Map());
  }
  disconnected(peer: string): void {
    const known = this.#peers.get(peer);
    if (known !== undefined) this.#away.set(peer, known);
    this.#peers.delete(peer);
  }

  /** What a peer told, it knows. */
  received(peer: string, entries: readonly AffinityEntry[], now: MonotonicMs): void {
    const known = this.#peers.get(peer);
    if (known === undefined) return;
    for (const entry of entries) this.#learn(known, entry, now);
  }

  /**
   * What this peer is to be told of what our kernel has, `most` at a time; it counts as known from now on. The rest
   * comes with the next look.
   */
  news(
    peer: string,
    held: readonly AffinityEntry[],
    timeouts: Timeouts,
    now: MonotonicMs,
    most: number,
  ): AffinityEntry[] {
    const known = this.#peers.get(peer);
    if (known === undefined) return [];
    for (const [key, { until }] of known) if (until <= now) known.delete(key);
    const found: AffinityEntry[] = [];
    for (const entry of held) {
      if (found.length >= most) break;
      const timeout = timeouts.get(entry.service);
      if (timeout === undefined || entry.expires <= timeout * STALE) continue;
      const theirs = known.get(keyOf(entry));
      if (theirs !== undefined) {
        const left = timeSince(theirs.until, now);
        if (entry.expires <= left + (sameBackend(entry, theirs.entry) ? timeout * STALE : 0)) continue;
      }
      if (this.#learn(known, entry, now)) found.push(entry);
    }
    return found;
  }

  /** Everything that peers told or were told: what a kernel that lost its maps is given back. */
  all(now: MonotonicMs): AffinityEntry[] {
    const latest = new Map<string, Known>();
    for (const known of [...this.#away.values(), ...this.#peers.values()])
      for (const [key, one] of known) {
        const other = latest.get(key);
        if (one.until > now && (other === undefined || one.until > other.until)) latest.set(key, one);
      }
    return [...latest.values()].map(({ entry, until }) => ({ ...entry, expires: timeSince(until, now) }));
  }

  #learn(known: Map<string, Known>, entry: AffinityEntry, now: MonotonicMs): boolean {
    const key = keyOf(entry);
    if (known.size >= this.#most && !known.has(key)) {
      this.dropped++;
      return false;
    }
    known.set(key, { entry, until: addTime(now, ms(entry.expires)) });
    return true;
  }
}
