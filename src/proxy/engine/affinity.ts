import { rendezvousIndex } from "../../balancing/rendezvous.ts";
import type { Random } from "../../base/random.ts";
import { Field } from "../http1/wire-names.ts";
import type { RoutePlan } from "../plan.ts";
import type { KeyKind } from "../routing/policy-key.ts";
import { cookieValue } from "../routing/policy-match.ts";
import { type Sticky, type StickyCookie, newClient } from "../sticky.ts";
import type { BackendState } from "./backend.ts";
import { HASH_SEED, type PoolState } from "./pool.ts";

/** A request, as far as it says where it belongs. */
export interface AffinityHost {
  readonly head: { all(field: number): string | undefined };
  keyOf(key: KeyKind): string;
}

type Pools = RoutePlan["pools"];

/**
 * Where a client of a sticky route belongs: at its cookie's backend; where that is gone, or there is no cookie, at the
 * one that rendezvous hashing gives its key. Nothing is remembered, so that every worker and node says the same.
 */
export class Affinity {
  readonly cookie: StickyCookie | undefined;
  /** What it is placed by: the client in its cookie, or what the route says; empty for neither. */
  readonly key: string;
  readonly #sticky: Sticky;
  readonly #pools: Pools;

  constructor(sticky: Sticky, pools: Pools, host: AffinityHost) {
    this.#sticky = sticky;
    this.#pools = pools;
    const value = cookieValue(host.head.all(Field.cookie), sticky.cookie);
    this.cookie = value === undefined ? undefined : sticky.read(value);
    const client = this.cookie?.client ?? "";
    this.key = client === "" && sticky.by !== undefined ? host.keyOf(sticky.by) : client;
  }

  /** The cookie's backend, where it is there and keeps its clients: a draining one does. */
  home(now: number): { readonly backend: BackendState; readonly pool: PoolState } | undefined {
    const { cookie } = this;
    if (cookie === undefined) return undefined;
    for (const { pool } of this.#pools) {
      const backend = pool.backends.find(({ id }) => id === cookie.backend);
      if (backend?.keepsSessions === true && !backend.outlier.ejected(now)) return { backend, pool };
    }
    return undefined;
  }

  /** Of several pools: the cookie's, so that clients of a canary stay with it; else by the key, where there is one. */
  pool(now: number): PoolState | undefined {
    const alive = this.#pools.filter(({ pool, weight }) => weight > 0 && pool.full(now));
    const own = this.cookie?.backend.split("/", 1)[0];
    const kept = alive.find(({ pool }) => pool.name === own);
    if (kept !== undefined || this.key === "") return kept?.pool;
    const named = alive.map(({ pool, weight }) => ({ name: pool.name, pool, weight }));
    return named[rendezvousIndex(this.key, named, HASH_SEED, ({ weight }) => weight)]?.pool;
  }

  /** The Set-Cookie line, with its CRLF, for an answer of this backend; empty where the client's cookie may stay. */
  line(backend: BackendState, https: boolean, random: Random): string {
    const { cookie } = this;
    if (cookie?.backend === backend.id) return "";
    if (cookie !== undefined && this.#sticky.comeBack && this.#known(cookie.backend)) return "";
    const client = (cookie?.client ?? "") === "" ? newClient(random) : cookie!.client;
    return `${this.#sticky.line(backend.id, client, https)}\r\n`;
  }

  /** Whether the site still has it, in whatever state. */
  #known(backend: string): boolean {
    return this.#pools.some(({ pool }) => pool.backends.some(({ id }) => id === backend));
  }
}
