import { type Family, ipFamily } from "../base/addresses.ts";
import type { StreamSpec } from "./probe/stream.ts";
import type { LabPlan, ProbeTarget } from "./topology.ts";

/** ms after which a probe has failed; below Linux's first SYN retransmission (1 s). */
const DEADLINE = 200;

/** What is asked during a drill: the first TCP and UDP listener of each router and family. */
export function usualStreams(plan: LabPlan, interval = 10): StreamSpec[] {
  const routerOf = (target: ProbeTarget): string =>
    plan.virtual.find(({ address }) => address === target.address)?.router ?? "";
  const first = (protocol: "tcp" | "udp", family: Family, router: string): ProbeTarget | undefined =>
    plan.targets.find(
      (one) => one.protocol === protocol && ipFamily(one.address) === family && routerOf(one) === router,
    );
  const families: Family[] = [4, 6];
  const routers = [...new Set(plan.targets.map(routerOf))];
  const both = families.flatMap((family) => routers.map((router) => ({ family, router })));
  return both.flatMap(({ family, router }) => {
    const tcp = first("tcp", family, router);
    const udp = first("udp", family, router);
    const suffix = family === 6 ? " v6" : "";
    const common = (one: ProbeTarget) => ({
      address: one.address,
      port: one.port,
      deadline: DEADLINE,
      backends: one.backends,
    });
    const streams: StreamSpec[] = [];
    if (tcp) {
      const base = common(tcp);
      const server = tcp.service + suffix;
      // A proxy ends every connection at itself: none of them can outlive it, and it speaks HTTP only.
      if (tcp.http)
        return [
          { ...base, stream: `connect ${server}`, kind: "connect", http: true, interval, connections: 1 },
          { ...base, stream: `http ${server}`, kind: "http", interval: 2 * interval, connections: 4 },
        ];
      streams.push(
        { ...base, stream: `connect ${server}`, kind: "connect", interval, connections: 1 },
        {
          ...base,
          stream: `client-first ${server}`,
          kind: "established-client-first",
          interval,
          connections: 20,
        },
        {
          ...base,
          stream: `server-first ${server}`,
          kind: "established-server-first",
          interval,
          connections: 20,
        },
        { ...base, stream: `http ${server}`, kind: "http", interval: 2 * interval, connections: 4 },
      );
    }
    if (udp)
      streams.push({
        ...common(udp),
        stream: `udp ${udp.service}${suffix}`,
        kind: "udp",
        interval: 2 * interval,
        connections: 8,
      });
    return streams;
  });
}
