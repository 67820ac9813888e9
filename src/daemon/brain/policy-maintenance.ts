/** Whether this node can be taken out: who would serve its virtual routers. Pure. */
import type { FlowsReport } from "../../contracts/flows.ts";
import type { RouterStatus } from "../../contracts/redundancy.ts";
import type { Site } from "../../contracts/site.ts";

export interface Mover {
  readonly router: string;
  /** Who takes it; undefined where nobody can. */
  readonly to: string | undefined;
  /** Why nobody can, in a sentence. */
  readonly reason: string;
}

const replicated = (site: Site, router: string): boolean =>
  site.flows !== undefined &&
  Object.values(site.services).some(({ on, forward }) => on === router && forward?.flows === "replicated");

/** Why a node cannot take a router over; undefined where it can. */
function unfit(
  site: Site,
  { router, others }: RouterStatus,
  node: string,
  flows: FlowsReport | undefined,
): string | undefined {
  const heard = others?.find((each) => each.node === node);
  if (heard === undefined) return `${node} is not heard`;
  if (heard.state !== "backup") return `${node} is in state ${heard.state}`;
  const base = site.virtualRouters[router]?.priorities[node] ?? 1;
  if (heard.priority !== undefined && heard.priority <= 1 && base > 1)
    return `${node} is lowered to priority 1 of ${base}: it is in maintenance itself, or something fails there`;
  if (!replicated(site, router)) return undefined;
  const peer = flows?.peers.find((each) => each.node === node);
  if (peer === undefined) return `nothing is known of whether ${node} has the connections`;
  if (!peer.connected) return `${node} is not connected, so that connections would be lost`;
  return peer.sentAll
    ? undefined
    : `${node} does not have all connections yet (${peer.unacknowledged} not acknowledged)`;
}

/** Every router that is Active here, with the best node that can take it, or why there is none. */
export function movers(
  site: Site,
  node: string,
  routers: readonly RouterStatus[],
  flows: FlowsReport | undefined,
): Mover[] {
  return routers
    .filter(({ state }) => state === "active")
    .map((router) => {
      const priorities = site.virtualRouters[router.router]?.priorities ?? {};
      const others = Object.keys(priorities).filter((other) => other !== node);
      const judged = others.map((other) => ({ other, reason: unfit(site, router, other, flows) }));
      const [best] = judged
        .filter(({ reason }) => reason === undefined)
        .sort((a, b) => (priorities[b.other] ?? 0) - (priorities[a.other] ?? 0));
      const reasons = judged.flatMap(({ reason }) => reason ?? []);
      return {
        router: router.router,
        to: best?.other,
        reason: best === undefined ? reasons.join("; ") || "it has no other node" : "",
      };
    });
}
