import type { ProxyService, Site } from "../contracts/site.ts";

const EVERYWHERE = new Set(["0.0.0.0", "::", "127.0.0.1", "::1"]);

/** Proxy services of one node: on a virtual router it takes part in, on its own address, or on every address. */
export function proxyServices(site: Site, node: string): Record<string, ProxyService> {
  const own = site.nodes[node]?.address;
  const others = new Set(Object.values(site.nodes).map(({ address }) => address));
  const found: Record<string, ProxyService> = {};
  for (const [name, service] of Object.entries(site.services)) {
    if (service.proxy === undefined) continue;
    if (service.on !== undefined) {
      if (site.virtualRouters[service.on]?.priorities[node] !== undefined) found[name] = service;
      continue;
    }
    const listen = service.listen.filter(
      ({ address }) => EVERYWHERE.has(address) || address === own || !others.has(address),
    );
    if (listen.length > 0) found[name] = { ...service, listen };
  }
  return found;
}
