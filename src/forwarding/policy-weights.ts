/** Weights that change by themselves: slow start and least connections. */
import { type IpPort, ipBytes, ipFamily } from "../base/addresses.ts";
import { type DurationMs, NEVER, ms } from "../base/time.ts";
import { type Loaded, leastConnections, slowStart } from "../balancing/weights.ts";
import type { BackendStatus } from "../contracts/forwarding.ts";
import type { Site } from "../contracts/site.ts";
import { type BackendFacts, backendKey } from "./machine.ts";
import { FAMILIES, type TableInput, forwarded } from "./policy.ts";
import { keepsPort, ofFamily } from "./policy-service.ts";
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
  for (const { pool, backend, health, admin, back } of statuses) {
    const span = site.pools[pool]?.slowStart ?? ms(0);
    const weight = site.pools[pool]?.backends[backend]?.weight ?? 0;
    const up = ms((back ?? NEVER) + age);
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

/** Sixteenths of a fair share, however many backends there are: small changes of counts move nothing. */
const FINE = 16;

/**
 * For each service with least connections: weights by backend for the connections to come, on the site file's scale:
 * together they are what the backends' own weights are, so that one without a count goes on with its own.
 */
export function leastWeights(
  input: TableInput,
  counts: readonly FlowCount[],
): ReadonlyMap<string, ReadonlyMap<string, number>> {
  const result = new Map<string, ReadonlyMap<string, number>>();
  const flows = flowsByAddress(counts);
  for (const [name, service] of forwarded(input.site)) {
    const pool = input.pools.get(service.forward.pool);
    const id = input.serviceIds.get(name);
    if (service.forward.scheduler !== LEAST || !pool || id === undefined) continue;
    const sockets = new Set(pool.backends.map(({ backend: { at } }) => socketKey(at)));
    const weights = new Map<string, number>();
    for (const { family } of FAMILIES) {
      const loaded = ofFamily(pool, family).map((one) => {
        const ports = flows.get(flowKey(id, ipBytes(one.backend.at.address)));
        const keeps = service.listen.some(
          (listen) => ipFamily(listen.address) === family && keepsPort(listen, one),
        );
        return {
          name: one.name,
          weight: one.weight,
          active: activeOf(one.backend.at, ports, keeps ? sockets : undefined),
        };
      });
      for (const [backend, weight] of familyWeights(loaded)) weights.set(backend, weight);
    }
    result.set(name, weights);
  }
  return result;
}

function familyWeights(loaded: readonly Loaded[]): [string, number][] {
  const takers = loaded.filter((one) => one.weight > 0);
  const total = takers.reduce((sum, one) => sum + one.active, 0);
  const sum = takers.reduce((all, one) => all + one.weight, 0);
  // A quarter of what is there is a guess at what comes before the weights are looked at again.
  const arrivals = Math.max(FINE * takers.length, total / 4);
  return leastConnections(takers, arrivals).map(({ name, weight }, i): [string, number] => {
    const own = takers[i]?.weight ?? 0;
    const steps = Math.max(1, Math.round(((weight * sum) / (arrivals * own)) * FINE));
    return [name, (own * steps) / FINE];
  });
}

type FlowsByPort = ReadonlyMap<number, number>;
const flowKey = (service: number, address: Uint8Array): string => `${service} ${address.join(".")}`;
const socketKey = ({ address, port }: IpPort): string => `${address} ${port}`;

function flowsByAddress(counts: readonly FlowCount[]): ReadonlyMap<string, FlowsByPort> {
  const found = new Map<string, Map<number, number>>();
  for (const { service, backend, port, flows } of counts) {
    const key = flowKey(service, backend);
    const ports = found.get(key) ?? new Map<number, number>();
    found.set(key, ports.set(port, (ports.get(port) ?? 0) + flows));
  }
  return found;
}

/** `sockets` where a range keeps its ports on the backend: then it has all ports that are no other backend's. */
function activeOf(
  at: IpPort,
  ports: FlowsByPort | undefined,
  sockets: ReadonlySet<string> | undefined,
): number {
  if (ports === undefined || sockets === undefined) return ports?.get(at.port) ?? 0;
  let sum = 0;
  for (const [port, flows] of ports)
    if (port === at.port || !sockets.has(socketKey({ address: at.address, port }))) sum += flows;
  return sum;
}

type Weights = ReadonlyMap<string, ReadonlyMap<string, number>>;
export const sameWeights = (a: Weights, b: Weights): boolean => flat(a) === flat(b);
const flat = (weights: Weights): string =>
  JSON.stringify([...weights].map(([name, own]) => [name, [...own]]));
