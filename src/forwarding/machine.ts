/**
 * Which backends take new connections: health and admin state in, weights out. Pure; the only memory is what
 * survives in the kernel's tables too.
 */
import { ipFamily } from "../base/addresses.ts";
import type { AdminState, HealthState } from "../contracts/forwarding.ts";
import type { Backend, Pool, Site } from "../contracts/site.ts";

/** `pool/backend`: how a backend is called in state, comments and logs. */
export const backendKey = (pool: string, backend: string): string => `${pool}/${backend}`;

export interface BackendFacts {
  readonly health: HealthState;
  readonly admin: AdminState;
  /** Replaces the site file's weight: slow start, least connections. */
  readonly weight?: number;
}

export interface Memory {
  /** Backends that counted as up at the last decision, by `backendKey`. */
  readonly up: ReadonlySet<string>;
  /** Those that were healthy when any of their pool last was, for `allDown: last`. */
  readonly lastHealthy: ReadonlySet<string>;
}
export const NO_MEMORY: Memory = { up: new Set(), lastHealthy: new Set() };

export interface BackendDecision {
  readonly name: string;
  readonly backend: Backend;
  /** Share of new connections relative to the others; 0 takes none. */
  readonly weight: number;
  /** Clients with affinity to it may go on with it: also in drain and with weight 0, not when down or in maintenance. */
  readonly keepsClients: boolean;
  /** Its checks call it dead, whatever else keeps it from taking connections, or has it take them. */
  readonly down: boolean;
  readonly reason: string;
}

export interface PoolDecision {
  readonly pool: string;
  readonly backends: readonly BackendDecision[];
  /** No backend takes connections: they are rejected at once. */
  readonly rejecting: boolean;
  readonly reason: string;
}

/**
 * `facts` by `backendKey`; what is missing counts as unknown and enabled. A backend of unknown health goes on
 * as before: one that was up stays up over a restart, one that was out stays out until its
 * checks say otherwise. One that is new is given a chance.
 */
export function decide(
  pools: Site["pools"],
  facts: ReadonlyMap<string, BackendFacts>,
  memory: Memory,
  known: ReadonlySet<string>,
): { readonly pools: readonly PoolDecision[]; readonly memory: Memory } {
  const up = new Set<string>();
  const lastHealthy = new Set<string>();
  const decisions = Object.entries(pools).map(([name, pool]) => {
    const decision = decidePool(name, pool, facts, memory, known);
    for (const key of decision.up) up.add(key);
    for (const key of decision.lastHealthy) lastHealthy.add(key);
    return decision;
  });
  return { pools: decisions, memory: { up, lastHealthy } };
}

function decidePool(
  name: string,
  pool: Pool,
  facts: ReadonlyMap<string, BackendFacts>,
  memory: Memory,
  known: ReadonlySet<string>,
): PoolDecision & { /** Keys. */ readonly lastHealthy: readonly string[]; readonly up: readonly string[] } {
  const all = Object.entries(pool.backends).map(([backendName, backend]) => {
    const key = backendKey(name, backendName);
    const fact = facts.get(key) ?? { health: "unknown", admin: "enabled" };
    const weight = backend.weight === 0 ? 0 : (fact.weight ?? backend.weight);
    const admin = backend.maintenance ? "maintenance" : fact.admin;
    const wasUp = memory.up.has(key);
    const up = fact.health === "up" || (fact.health === "unknown" && (wasUp || !known.has(key)));
    return { name: backendName, backend, key, weight, admin, up, health: fact.health, wasUp };
  });
  // A client reaches backends of its own family alone: each has its own backups and its own `allDown`.
  const choices = ([4, 6] as const).flatMap((family) => {
    const own = all.filter((one) => ipFamily(one.backend.at.address) === family);
    return own.length === 0 ? [] : [{ family, ...choose(own, pool.allDown, memory) }];
  });
  const takers = new Set(choices.flatMap((one) => one.chosen));
  const reasons = choices.map(({ family, reason }) =>
    choices.length === 1 ? reason : `IPv${family}: ${reason}`,
  );
  return {
    pool: name,
    rejecting: takers.size === 0,
    reason: reasons.join("; "),
    lastHealthy: choices.flatMap((one) => one.lastHealthy),
    up: all.filter((one) => one.up).map((one) => one.key),
    backends: all.map((one) => {
      const takes = takers.has(one.name);
      const why =
        one.admin !== "enabled"
          ? `${one.admin}: established connections stay, new ones go elsewhere`
          : one.weight === 0
            ? "weight 0: established connections stay, new ones go elsewhere"
            : one.up
              ? !takes
                ? "backup: healthy, waits until no other backend is"
                : one.health === "up"
                  ? "healthy"
                  : one.wasUp
                    ? "health unknown, was up before"
                    : "health unknown, given a chance"
              : takes
                ? `${one.health}, used since no backend is healthy`
                : one.health === "unknown"
                  ? "health unknown, was out before"
                  : "unhealthy";
      return {
        name: one.name,
        backend: one.backend,
        weight: takes ? one.weight : 0,
        keepsClients: takes || (one.up && one.admin !== "maintenance"),
        down: one.health === "down",
        reason: why,
      };
    }),
  };
}

interface Candidate {
  readonly name: string;
  readonly key: string;
  readonly backend: Backend;
  readonly weight: number;
  readonly admin: AdminState;
  readonly up: boolean;
}

/** `chosen` by name, `lastHealthy` by key. */
function choose(
  all: readonly Candidate[],
  allDown: Pool["allDown"],
  memory: Memory,
): { readonly chosen: readonly string[]; readonly lastHealthy: readonly string[]; readonly reason: string } {
  const allowed = all.filter((one) => one.admin === "enabled" && one.weight > 0);
  const well = allowed.filter((one) => one.up);
  const primary = well.filter((one) => !one.backend.backup);
  const healthy = primary.length > 0 ? primary : well;
  if (healthy.length > 0)
    return {
      chosen: healthy.map((one) => one.name),
      lastHealthy: healthy.map((one) => one.key),
      reason: `${healthy.length} of ${all.length} backends take connections`,
    };
  const last = all.filter((one) => memory.lastHealthy.has(one.key)).map((one) => one.key);
  const chosen =
    allDown === "all"
      ? allowed
      : allDown === "last"
        ? allowed.filter((one) => memory.lastHealthy.has(one.key))
        : [];
  const policy = `allDown is "${allDown}"`;
  return {
    chosen: chosen.map((one) => one.name),
    lastHealthy: last,
    reason:
      chosen.length > 0
        ? `no backend is healthy; ${policy}: ${chosen.length} take connections all the same`
        : allowed.length === 0
          ? "no backend is enabled with a weight above 0"
          : `no backend is healthy; ${policy}: connections are rejected`,
  };
}
