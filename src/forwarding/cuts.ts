/** Pure: which connections have to go when backends do. */
import { ipFamily } from "../base/addresses.ts";
import type { BackendDecision } from "./machine.ts";
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
      const selector = { family, protocol, mark: serviceMark(id), mask: MARK_MASK, backend: address };
      return [own.some((one) => keepsPort(one, decision)) ? selector : { ...selector, port }];
    });
  });
}

/** Drained backends keep what they have; a dead or removed one does not. */
const isDown = (backend: BackendDecision | undefined): boolean =>
  !backend || (backend.weight === 0 && backend.reason === "unhealthy");

/**
 * UDP connections of backends that died or left the site: nothing tells their clients, and while the entry
 * lives every packet renews it.
 */
export function cutsAfter(before: TableInput | undefined, after: TableInput): FlowSelector[] {
  if (!before) return [];
  return [...before.pools.values()].flatMap((pool) => {
    const now = new Map(after.pools.get(pool.pool)?.backends.map((one) => [one.name, one]));
    return pool.backends
      .filter((one) => !isDown(one) && isDown(now.get(one.name)))
      .flatMap((one) => cutsFor(before, pool.pool, one.name, ["udp"]));
  });
}
