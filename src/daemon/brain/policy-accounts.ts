/** Which services serve, as far as this node can judge: for the accounts. Pure. */
import type { MetricSample } from "../../contracts/metrics.ts";
import type { RouterStatus } from "../../contracts/redundancy.ts";
import type { Service, Site } from "../../contracts/site.ts";
import type { Facts } from "./policy.ts";

export interface Judgement {
  readonly service: string;
  /** Why it is down; undefined while it serves, or while another node answers for it. */
  readonly cause: string | undefined;
}

/** The pools without which a service is not whole: the same rule as the plan's. */
export function poolsOf(service: Service): string[] {
  if (service.forward !== undefined) return [service.forward.pool];
  const routes = service.proxy?.routes ?? [];
  return [
    ...new Set(routes.flatMap(({ pool }) => (typeof pool === "string" ? [pool] : Object.keys(pool ?? {})))),
  ];
}

/** Why a pool takes no connections. A backend that nothing is known of yet may well be good. */
function poolDown(facts: Facts, pool: string): string | undefined {
  const backends = facts.backends.filter((each) => each.pool === pool);
  if (backends.length === 0) return undefined;
  if (backends.some(({ health, admin }) => health !== "down" && admin === "enabled")) return undefined;
  const words = backends.map(
    ({ backend, health, admin, reason }) =>
      `${backend} ${health === "down" ? `(${reason})` : `(in ${admin})`}`,
  );
  return `no backend of ${pool} is healthy: ${words.join(", ")}`;
}

/**
 * A node that cannot serve says that nobody does only where it hears of all others that they do not: from one
 * that is cut off the others may be fine.
 */
function nobodyServes(router: RouterStatus, site: Site): string | undefined {
  const priorities = site.virtualRouters[router.router]?.priorities ?? {};
  const others = router.others ?? [];
  const known = others.length >= Object.keys(priorities).length - 1;
  if (!known || others.some(({ state }) => state !== "fault" && state !== "initialize")) return undefined;
  return `no node can serve ${router.router}; this one: ${router.reason}`;
}

/** Services of which nothing is known now are left out: what was known of them stands. */
export function judgements(facts: Facts): Judgement[] {
  return Object.entries(facts.site.services).flatMap(([service, each]): Judgement[] => {
    if (each.on !== undefined) {
      if (facts.site.virtualRouters[each.on]?.priorities[facts.node] === undefined) return [];
      const router = facts.routers?.find((one) => one.router === each.on);
      // While redundancy restarts, or before anybody is heard, nothing follows from its silence.
      if (router === undefined || router.state === "initialize") return [];
      if (router.state === "fault") return [{ service, cause: nobodyServes(router, facts.site) }];
      if (router.state === "backup") return router.active ? [{ service, cause: undefined }] : [];
    }
    const forwarding =
      each.forward && facts.forwardingProblem !== ""
        ? `not forwarded: ${facts.forwardingProblem}`
        : undefined;
    const pools = poolsOf(each).flatMap((pool) => poolDown(facts, pool) ?? []);
    return [{ service, cause: forwarding ?? pools[0] }];
  });
}

/** Answers so far: forwarded connections count as good, of a proxy's answers those that are no 5xx. */
export function answers(samples: readonly MetricSample[]): Map<string, { good: number; bad: number }> {
  const sums = new Map<string, { good: number; bad: number }>();
  for (const { name, labels, value } of samples) {
    const proxied = name === "nines_proxy_route_responses_total";
    if (!proxied && name !== "nines_forwarding_connections_total") continue;
    const service = labels["service"] ?? "";
    const sum = sums.get(service) ?? { good: 0, bad: 0 };
    const bad = proxied && labels["status"] === "5xx";
    sums.set(service, bad ? { ...sum, bad: sum.bad + value } : { ...sum, good: sum.good + value });
  }
  return sums;
}
