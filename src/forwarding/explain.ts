/** Pure: why services forward as they do. */
import { formatIpPort, ipFamily } from "../base/addresses.ts";
import { formatDuration } from "../base/units.ts";
import type { ForwardedService } from "../contracts/forwarding.ts";
import { directNotes } from "./policy-direct.ts";
import { FAMILIES, type TableInput, directInputs, forwarded, serviceInputs } from "./policy.ts";
import { keepsPort, ofFamily, showListen, slotsOf } from "./policy-service.ts";

export function explainServices(input: TableInput): ForwardedService[] {
  const direct = FAMILIES.flatMap(({ family }) => directInputs(input, family));
  const perFamily = [
    ...FAMILIES.flatMap(({ family }) => serviceInputs(input, family)),
    ...direct.map((one) => one.input),
  ];
  return forwarded(input.site).map(([name, service]): ForwardedService => {
    const inputs = perFamily.filter((one) => one.name === name);
    const pool = input.pools.get(service.forward.pool);
    const notes: string[] = [];
    const shares = new Map<string, number>();
    for (const one of inputs) {
      const slots = slotsOf(one);
      for (const backend of slots) shares.set(backend, (shares.get(backend) ?? 0) + 1 / slots.length);
      if (ofFamily(one.pool, one.family).length === 0)
        notes.push(`IPv${one.family} connections are rejected: the pool has no IPv${one.family} backend`);
      for (const listen of one.listen) {
        if (listen.ports[0] === listen.ports[1]) continue;
        for (const backend of ofFamily(one.pool, one.family)) {
          if (keepsPort(listen, backend)) continue;
          notes.push(
            `${backend.name}: all ports of ${showListen(listen)} lead to its port ${backend.backend.at.port}; it would keep the ports if its own were ${listen.ports[0]}`,
          );
        }
      }
    }
    for (const { input: one, link } of direct)
      if (one.name === name) notes.push(...directNotes(one, link, input.prefixes));
    const { affinity } = service.forward;
    if (affinity !== undefined)
      notes.push(
        `a client stays with its backend for ${formatDuration(affinity.timeout)} after its last new connection, in drain as well`,
      );
    const rejecting = [...shares.values()].every((share) => share === 0);
    return {
      service: name,
      pool: service.forward.pool,
      listen: service.listen.map((one) => showListen(one)),
      scheduler: service.forward.scheduler,
      state: rejecting ? "rejecting" : "forwarding",
      reason: pool?.reason ?? "the pool is not known",
      notes,
      backends: (pool?.backends ?? []).map((one) => ({
        backend: one.name,
        at: formatIpPort(one.backend.at),
        share: shares.get(one.name) ?? 0,
        reason: inputs.some((each) => each.family === ipFamily(one.backend.at.address))
          ? one.reason
          : `the service has no IPv${ipFamily(one.backend.at.address)} address`,
      })),
    };
  });
}
