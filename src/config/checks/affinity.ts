/** Affinity of clients: what a table of clients can and cannot stand for. */
import { formatListen } from "./services.ts";
import type { Check } from "./context.ts";

export const affinity: Check = ({ site, error, warning }) => {
  for (const [name, { forward, listen }] of Object.entries(site.services)) {
    if (forward?.affinity === undefined) continue;
    const path = ["services", name, "forward"];
    if (forward.flows === "hashed")
      error(
        [...path, "flows"],
        "hashed is not possible here: with affinity a client's backend is remembered, and other nodes have to be told of it",
        "replicated, or the scheduler source without affinity",
      );
    if (forward.flows === "off" && site.flows !== undefined)
      warning(
        [...path, "affinity"],
        "with flows: off another node does not know which backend a client had",
        "flows: replicated",
        "key",
      );
    // A backend is remembered as an address and port, or, where its ports are those of the service, as an address.
    const backends = Object.entries(site.pools[forward.pool]?.backends ?? {});
    const ranges = listen.filter(({ ports: [low, high] }) => low !== high);
    for (const range of ranges) {
      const other = backends.find(([, { at }]) => at.port !== range.ports[0]);
      if (other === undefined) continue;
      error(
        [...path, "affinity"],
        `backend ${other[0]} does not keep the ports of ${formatListen(range)}, and a client's backend is remembered by its address alone`,
        `port ${range.ports[0]} for all backends, or a service for each port`,
      );
      break;
    }
    const single = listen.find(({ ports: [low, high] }) => low === high);
    if (
      ranges.length > 0 &&
      single !== undefined &&
      backends.some(([, { at }]) => at.port !== single.ports[0])
    )
      error(
        [...path, "affinity"],
        `${formatListen(single)} leads to another port of the backends, and a client's backend is remembered by its address alone`,
        "a service of its own for it",
      );
  }
};
