/** Weights that change by themselves: slow start and least connections. */
import { ipBytes } from "../base/addresses.ts";
import { bytesEqual } from "../base/bytes.ts";
import { type DurationMs, ms } from "../base/time.ts";
import { leastConnections, slowStart } from "../balancing/weights.ts";
import type { BackendStatus } from "../contracts/forwarding.ts";
import type { Site } from "../contracts/site.ts";
import { type BackendFacts, backendKey } from "./machine.ts";
import { type TableInput, forwarded } from "./policy.ts";
import type { FlowCount } from "./ports.ts";

/** Tenths of a weight: finer steps would move slots for nothing. */
const STEPS = 10;

/**
 * What the decision needs of the statuses, `age` after they were told. `growing` while a backend is in its
 * slow start, so that its weight has to be looked at again.
 */
export function factsOf(
  site: Site,
  statuses: readonly BackendStatus[],
  age: DurationMs,
): { readonly facts: ReadonlyMap<string, BackendFacts>; readonly growing: boolean } {
  let growing = false;
  const facts = new Map<string, BackendFacts>();
  for (const { pool, backend, health, admin, since } of statuses) {
    const span = site.pools[pool]?.slowStart ?? ms(0);
    const weight = site.pools[pool]?.backends[backend]?.weight ?? 0;
    const up = ms(since + age);
    const starts = health === "up" && up < span && weight > 0;
    growing ||= starts;
    const share = Math.max(1, Math.floor(slowStart(STEPS, up, span))) / STEPS;
    facts.set(backendKey(pool, backend), { health, admin, ...(starts ? { weight: weight * share } : {}) });
  }
  return { facts, growing };
}

const LEAST = "least-connections";
export const needsCounts = (input: TableInput): boolean =>
  forwarded(input.site).some(([, service]) => service.forward.scheduler === LEAST);

/** Whole numbers of this sum: small changes of counts move nothing. */
const RESOLUTION = 32;

/** For each service with least connections: weights by backend for the connections to come. */
export function leastWeights(
  input: TableInput,
  counts: readonly FlowCount[],
): ReadonlyMap<string, ReadonlyMap<string, number>> {
  const result = new Map<string, ReadonlyMap<string, number>>();
  for (const [name, service] of forwarded(input.site)) {
    const pool = input.pools.get(service.forward.pool);
    if (service.forward.scheduler !== LEAST || !pool) continue;
    const own = counts.filter((one) => one.service === input.serviceIds.get(name));
    const loaded = pool.backends.map((one) => {
      const { address, port } = one.backend.at;
      const at = ipBytes(address);
      const flows = own.filter((count) => count.port === port && bytesEqual(count.backend, at));
      return {
        name: one.name,
        weight: one.weight,
        active: flows.reduce((sum, count) => sum + count.flows, 0),
      };
    });
    const total = loaded.reduce((sum, one) => sum + one.active, 0);
    // A quarter of what is there is a guess at what comes before the weights are looked at again.
    const weights = leastConnections(loaded, Math.max(RESOLUTION, total / 4));
    const sum = weights.reduce((all, one) => all + one.weight, 0);
    result.set(
      name,
      new Map(weights.map((one) => [one.name, Math.max(1, Math.round((one.weight / sum) * RESOLUTION))])),
    );
  }
  return result;
}

type Weights = ReadonlyMap<string, ReadonlyMap<string, number>>;
export const sameWeights = (a: Weights, b: Weights): boolean => flat(a) === flat(b);
const flat = (weights: Weights): string =>
  JSON.stringify([...weights].map(([name, own]) => [name, [...own]]));
