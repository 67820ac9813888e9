import { availableParallelism } from "node:os";
import type { RedundancyPlan } from "../contracts/redundancy.ts";
import type { ProxyService, Site } from "../contracts/site.ts";
import { proxyServices } from "./proxy-services.ts";
import { PROXY_TRACK } from "./brain/policy.ts";
import type { ChildWish } from "./messages-parent.ts";

/** One worker per core, each with a socket of its own for every address and port. */
export function proxyWishes(
  site: Site,
  node: string,
  listenKeys: (service: ProxyService) => readonly string[],
): ChildWish[] {
  const services = Object.values(proxyServices(site, node));
  if (services.length === 0) return [{ name: "proxy", count: 0, listen: [] }];
  const listen = services.flatMap((service) =>
    listenKeys(service).map((name) => {
      const colon = name.lastIndexOf(":");
      return {
        name,
        address: name.slice(0, colon).replaceAll(/[[\]]/g, ""),
        port: Number(name.slice(colon + 1)),
        protocol: "tcp" as const,
        // A virtual address is not on this host while the node is Backup.
        freebind: service.on !== undefined,
      };
    }),
  );
  return [{ name: "proxy", count: Math.min(16, availableParallelism()), listen }];
}

/**
 * Routers that carry a proxy service lower their priority to 1 while no worker accepts: every node whose proxy
 * works takes over, also one that is not nines; and where none works, the address stays where it is, since
 * other services may be on it.
 */
export function withProxyTrack(plan: RedundancyPlan, site: Site, node: string): RedundancyPlan {
  const carrying = new Set(Object.values(proxyServices(site, node)).map(({ on }) => on));
  return {
    ...plan,
    routers: plan.routers.map((router) =>
      carrying.has(router.router)
        ? {
            ...router,
            tracks: [...router.tracks, { name: PROXY_TRACK, kind: "reported", lower: 254, atOnce: true }],
          }
        : router,
    ),
  };
}
