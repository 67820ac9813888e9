/** Pure: what a site says about replication. */
import type { IpAddress } from "../../base/addresses.ts";
import type { Site } from "../../contracts/site.ts";
import { type Ids } from "../ids.ts";
import { serviceMark } from "../marks.ts";
import { portShare } from "../policy-nat.ts";
import type { ReplicatedService } from "./machine-services.ts";

/** Routers that services with replicated connections are on, with the nodes that may become Active for them. */
function routersWithFlows(site: Site): Map<string, readonly string[]> {
  const found = new Map<string, readonly string[]>();
  for (const { on, forward } of Object.values(site.services)) {
    const router = on === undefined || forward?.flows !== "replicated" ? undefined : site.virtualRouters[on];
    if (on !== undefined && router !== undefined) found.set(on, Object.keys(router.priorities));
  }
  return found;
}

/** Whether this node has connections to replicate. */
export const takesPart = (site: Site, node: string): boolean =>
  site.flows !== undefined && peersOf(site, node).length > 0;

/** The nodes that share a router with this one. */
export function peersOf(
  site: Site,
  node: string,
): { readonly node: string; readonly address: IpAddress; readonly port: number }[] {
  const names = new Set<string>();
  for (const members of routersWithFlows(site).values())
    if (members.includes(node)) for (const name of members) names.add(name);
  names.delete(node);
  return [...names].sort().flatMap((name) => {
    const address = site.nodes[name]?.address;
    return address === undefined ? [] : [{ node: name, address, port: site.flows?.port ?? 0 }];
  });
}

/** Services with replicated connections, with the marks that their connections have on this node. */
export const replicatedServices = (site: Site, ids: Ids): ReplicatedService[] =>
  Object.entries(site.services).flatMap(([name, { on, forward }]): ReplicatedService[] => {
    const id = ids.get(name);
    if (on === undefined || forward?.flows !== "replicated" || id === undefined) return [];
    const service = { name, router: on, mark: serviceMark(id) };
    if (forward.masquerade === false) return [service];
    const nodes = Object.keys(site.virtualRouters[on]?.priorities ?? {});
    return [{ ...service, shares: nodes.map((node) => ({ node, ports: portShare(nodes, node) })) }];
  });
