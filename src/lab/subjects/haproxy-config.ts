/** haproxy.cfg for the proxy services of a site, and what watches over it. Pure. */
import type { Site } from "../../contracts/site.ts";

/** The first pool that a service names: HAProxy stands beside sites whose drills ask for one. */
function poolOf({ proxy }: Site["services"][string]): string | undefined {
  if (proxy?.pool !== undefined) return proxy.pool;
  return proxy?.routes?.map(({ pool }) => pool).find((one) => typeof one === "string");
}

/**
 * Checks and time limits as the site's, and what nines does unasked: two retries on another server, also where a
 * connection was closed before a response.
 */
export function haproxyConfig(site: Site): string {
  const parts = Object.entries(site.services).flatMap(([name, service]) => {
    const pool = poolOf(service);
    if (pool === undefined) return [];
    const { backends = {}, check } = site.pools[pool] ?? {};
    const checked =
      check === undefined ? "" : ` check inter ${check.interval}ms rise ${check.rise} fall ${check.fall}`;
    return [
      `frontend ${name}`,
      // A virtual address is not on this host while the node is Backup.
      ...service.listen.map(({ address, ports }) => `  bind ${address}:${ports[0]} transparent`),
      `  default_backend ${name}`,
      `backend ${name}`,
      "  balance roundrobin",
      "  option redispatch 1",
      "  retries 2",
      "  retry-on conn-failure empty-response",
      ...(check?.kind === "http" ? [`  option httpchk GET ${check.path}`] : []),
      ...Object.entries(backends).map(
        ([server, { at }]) => `  server ${server} ${at.address}:${at.port}${checked}`,
      ),
    ];
  });
  const times = "  timeout connect 2s\n  timeout client 75s\n  timeout server 60s";
  return `defaults\n  mode http\n${times}\n${parts.join("\n")}\n`;
}

/**
 * Starts HAProxy again 100 ms after it ended, as Debian's unit does, and keeps the file that keepalived tracks.
 * keepalived's own track_process needs the kernel's process events, which no namespace but the first gets; the file
 * is watched by inotify and so is as quick.
 */
export const superviseScript = (program: string, config: string, served: string): string => `#!/bin/sh
while :; do
  ${program} -db -f ${config} &
  echo 0 > ${served}
  wait $!
  echo 1 > ${served}
  sleep 0.1
done
`;
