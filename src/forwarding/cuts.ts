/** Pure: which connections have to go when backends do. */
import { type IpPort, formatIpPort, ipFamily } from "../base/addresses.ts";
import { type BackendDecision, backendKey } from "./machine.ts";
import { MARK_MASK, serviceMark } from "./marks.ts";
import { type TableInput, forwarded } from "./policy.ts";
import { keepsPort } from "./policy-service.ts";
import type { FlowSelector } from "./ports.ts";

/** All connections of a backend in all services that use its pool. */
export function cutsFor(
  input: TableInput,
  pool: string,
  backend: string,
  protocols: readonly ("tcp" | "udp")[],
): FlowSelector[] {
  const decision = input.pools.get(pool)?.backends.find((one) => one.name === backend);
  if (!decision) return [];
  const { address, port } = decision.backend.at;
  const family = ipFamily(address);
  return forwarded(input.site).flatMap(([name, service]) => {
    const id = input.serviceIds.get(name);
    if (service.forward.pool !== pool || id === undefined) return [];
    const listens = service.listen.filter((one) => ipFamily(one.address) === family);
    return protocols.flatMap((protocol): FlowSelector[] => {
      const own = listens.filter((one) => one.protocol === protocol);
      if (own.length === 0) return [];
      // Other ports of the address may be other backends.
      const kept = own.filter((one) => keepsPort(one, decision)).map((one) => one.ports[1]);
      const ports = [port, Math.max(port, ...kept)] as const;
      return [{ family, protocol, mark: serviceMark(id), mask: MARK_MASK, backend: address, ports }];
    });
  });
}

/** What is to be cut, by backend and address. */
export type Owed = ReadonlyMap<string, readonly FlowSelector[]>;

const owedKey = (pool: string, { name, backend }: BackendDecision): string =>
  `${backendKey(pool, name)} ${formatIpPort(backend.at)}`;

export const sameAt = (a: IpPort, b: IpPort): boolean =>
  a === b || (a.address === b.address && a.port === b.port);

/** Drained backends keep what they have; a dead one does not, unless it is used since there is no other. */
const isGone = (backend: BackendDecision): boolean => backend.down && backend.weight === 0;

/**
 * UDP connections of backends that died, left the site or have another address: nothing tells their clients, and
 * while the entry lives every packet renews it. At the first decision of a process these are those of all dead
 * backends. What was owed and is not done stays, unless the backend is back.
 */
export function owedAfter(owed: Owed, before: TableInput | undefined, after: TableInput): Owed {
  const next = new Map(owed);
  const owe = (input: TableInput, pool: string, backend: BackendDecision): void => {
    const cuts = cutsFor(input, pool, backend.name, ["udp"]);
    if (cuts.length > 0) next.set(owedKey(pool, backend), cuts);
  };
  for (const { pool, backends } of (before ?? after).pools.values()) {
    const now = after.pools.get(pool)?.backends ?? [];
    backends.forEach((one, i) => {
      if (before !== undefined && isGone(one)) return;
      const same = now[i]?.name === one.name ? now[i] : now.find(({ name }) => name === one.name);
      if (!same || isGone(same) || !sameAt(same.backend.at, one.backend.at)) owe(before ?? after, pool, one);
    });
  }
  if (next.size > 0)
    for (const { pool, backends } of after.pools.values())
      for (const one of backends) if (!isGone(one)) next.delete(owedKey(pool, one));
  return next;
}
