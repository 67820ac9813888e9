/** What follows from the facts: for the redundancy process, for the operator. Pure; brain.ts feeds and carries out. */
import type { Alarm, NodeAdminStatus, PoolStatus, ServiceStatus } from "../../contracts/api.ts";
import type { BackendStatus } from "../../contracts/forwarding.ts";
import type { RouterStatus } from "../../contracts/redundancy.ts";
import type { Listen, Site } from "../../contracts/site.ts";
import { trackName } from "../../redundancy/plan.ts";
import { proxyServices } from "../proxy-services.ts";

export interface Facts {
  readonly site: Site;
  readonly node: string;
  readonly backends: readonly BackendStatus[];
  /** Results of tracked scripts, by the track's name. */
  readonly scripts: ReadonlyMap<string, Verdict>;
  /** Undefined while the redundancy process has not said anything. */
  readonly routers: readonly RouterStatus[] | undefined;
  /** For how long it has not said anything: it is restarted within a moment, and that is no alarm. */
  readonly redundancySilence: number;
  /** Why the kernel does not forward as it should; empty where it does. */
  readonly forwardingProblem: string;
  /** Nodes that run another site file than this one. */
  readonly differing: readonly { readonly node: string; readonly digest: string }[];
  /** Addresses of this node that somebody else answers for. */
  readonly duplicates?: readonly { readonly address: string; readonly reason: string }[] | undefined;
  /** Why the site file on disk is not the one that runs; empty where it is. */
  readonly siteProblem: string;
  /** Why no proxy worker accepts connections; empty where one does, undefined where the site wants none here. */
  readonly proxyProblem?: string | undefined;
  /** That fewer proxy workers accept connections than the site asks for. */
  readonly proxyShort?: string | undefined;
  /** Why proxy workers go on with another site than was accepted. */
  readonly proxyStale?: string | undefined;
  /** Milliseconds since the brain's start: workers that have not started yet are no alarm. */
  readonly age: number;
  /** Why this node is probably cut off from all backends. */
  readonly isolated?: string | undefined;
  /** Why what was measured cannot be kept; empty where it can. */
  readonly accountsProblem?: string | undefined;
  /** Why the accepted site is not on the disk; empty where it is. */
  readonly stateProblem?: string | undefined;
  /** Why the control API does not listen on TCP although the site asks for it. */
  readonly controlProblem?: string | undefined;
  /** Certificates that this node should have ordered and has not. */
  readonly certificates?: readonly {
    readonly service: string;
    readonly reason: string;
    readonly critical: boolean;
  }[];
  /** What an operator asked of this node. */
  readonly admin?: NodeAdminStatus | undefined;
  /** Why certificates are not shared with the other nodes although the site asks for it. */
  readonly sharingProblem?: string | undefined;
}

export interface Verdict {
  readonly good: boolean;
  readonly reason: string;
}

/** What an alarm is called and what it means; docs/guide/operations.md shows this table, a test holds the two together. */
export const ALARMS = {
  redundancy_silent:
    "the redundancy process does not answer: addresses stay as they are, nothing is known of them",
  router_fault: "a virtual router is out of the election on this node",
  no_active: "nobody is Active for a virtual router, as far as this node hears",
  pool_down: "no backend of a pool is healthy",
  pool_degraded: "a backend of a pool is down",
  proxy_down: "no proxy worker of this node accepts connections; its priority is lowered meanwhile",
  proxy_degraded: "fewer proxy workers accept connections than the site asks for",
  proxy_stale: "proxy workers go on with the site of before: they cannot have the one that was accepted",
  node_out: "an operator has taken this node out; it serves only while no healthier node is heard",
  node_isolated: "every check of every pool fails at once: perhaps it is this node that is cut off",
  forwarding_broken: "the kernel's forwarding tables are not as they should be",
  duplicate_address: "another host answers for a virtual address that this node holds",
  site_differs: "another node runs another site file",
  state_unwritable: "the state directory cannot be written: a restart may go on with an older site",
  control_closed: "the control API cannot listen on TCP: certificate, token or address",
  certificate_failing: "a certificate could not be ordered or renewed, and is missing or ends within 14 days",
  certificates_apart:
    "certificates cannot be shared with the other nodes: keys, address, or they refuse each other; this node goes on alone",
  accounts_failing: "what is measured cannot be written to disk: `nines slo` will not know of it",
  site_rejected: "the site file on disk is wrong, or could not be read; the last good one runs",
} as const;

/** A router that carries a proxy service tracks the workers under this name, without being asked to. */
export const PROXY_TRACK = "proxy";

/** Milliseconds; a restart takes a few hundred. */
const SILENCE = 3000;
/** Milliseconds that proxy workers have to start in, all at once on a small machine. */
const WARM_UP = 10_000;

const healthyOf = (backends: readonly BackendStatus[], pool: string): number =>
  backends.filter((each) => each.pool === pool && each.health === "up" && each.admin === "enabled").length;

/** Who is Active by name, where its address is one that the site file gives to a node. */
export function named(router: RouterStatus, site: Site): RouterStatus {
  const { active } = router;
  if (active === undefined || active.node !== undefined) return router;
  const members = site.virtualRouters[router.router]?.members ?? [];
  const found = Object.entries(site.nodes).find(
    ([node, { address }]) =>
      address === active.address || members.some(({ peers }) => peers?.[node]?.includes(active.address)),
  );
  return found === undefined ? router : { ...router, active: { ...active, node: found[0] } };
}

/** The facts that only the brain knows, under the names of the routers' tracks. */
export function reportedTracks(facts: Facts): { name: string; good: boolean; reason: string }[] {
  const reports = new Map<string, Verdict>();
  for (const router of Object.values(facts.site.virtualRouters)) {
    if (router.priorities[facts.node] === undefined) continue;
    for (const track of router.track) {
      const name = trackName(track);
      if ("pool" in track) {
        const healthy = healthyOf(facts.backends, track.pool);
        // Unknown is not bad: at start nothing has been checked, and a restarted brain must not move an address.
        const unknown = facts.backends.filter(
          (each) => each.pool === track.pool && each.health === "unknown",
        ).length;
        const good = healthy + unknown >= track.atLeast;
        reports.set(name, { good, reason: `${healthy} healthy, ${track.atLeast} needed` });
      } else if ("script" in track) {
        reports.set(name, facts.scripts.get(name) ?? { good: true, reason: "not run yet" });
      }
    }
  }
  const { proxyProblem } = facts;
  if (proxyProblem !== undefined)
    reports.set(PROXY_TRACK, {
      good: proxyProblem === "",
      reason: proxyProblem || "a worker accepts connections",
    });
  return [...reports].map(([name, verdict]) => ({ name, ...verdict }));
}

export function poolStatuses(facts: Facts): PoolStatus[] {
  return Object.keys(facts.site.pools).map((pool) => {
    const backends = facts.backends.filter((each) => each.pool === pool);
    return { pool, healthy: healthyOf(backends, pool), total: backends.length, backends };
  });
}

const listenText = ({ address, ports, protocol }: Listen): string => {
  const host = address.includes(":") ? `[${address}]` : address;
  const range = ports[0] === ports[1] ? `${ports[0]}` : `${ports[0]}-${ports[1]}`;
  return `${host}:${range}/${protocol}`;
};

export function serviceStatuses(facts: Facts): ServiceStatus[] {
  return Object.entries(facts.site.services).map(([service, each]) => {
    const router = each.on ?? "";
    const state = facts.routers?.find((one) => one.router === router)?.state;
    return {
      service,
      router,
      listen: each.listen.map(listenText),
      kind: each.forward === undefined ? "proxy" : "forward",
      pool: each.forward?.pool,
      here: router === "" ? proxyServices(facts.site, facts.node)[service] !== undefined : state === "active",
    };
  });
}

function outMessage({ node, routers }: Facts, { state, since, phase, left }: NodeAdminStatus): string {
  const what = `${node} is ${state === "drain" ? "drained" : "in maintenance"} since ${since ?? "?"}`;
  const here = (routers ?? []).flatMap((each) => (each.state === "active" ? [each.router] : []));
  const still = here.length === 0 ? "" : `, and still serves ${here.join(", ")}`;
  const how = phase === "done" ? left.join("; ") : phase;
  return `${what}${still}${how === "" ? "" : `: ${how}`}`;
}

export function alarms(facts: Facts): Alarm[] {
  const found: Alarm[] = [];
  const raise = (
    name: keyof typeof ALARMS,
    severity: Alarm["severity"],
    about: string,
    message: string,
  ): void => {
    found.push({ name, severity, about, message });
  };
  const expected = Object.entries(facts.site.virtualRouters).some(
    ([, each]) => each.priorities[facts.node] !== undefined,
  );
  if (facts.routers === undefined && expected && facts.redundancySilence >= SILENCE)
    raise("redundancy_silent", "critical", "", "the redundancy process does not answer");
  for (const router of facts.routers ?? []) {
    if (router.state === "fault") raise("router_fault", "critical", router.router, router.reason);
    else if (router.state === "backup" && router.active === undefined && router.since >= SILENCE)
      raise("no_active", "warning", router.router, "no advertisement is heard");
  }
  for (const { pool, healthy, total, backends } of poolStatuses(facts)) {
    const down = backends.filter((each) => each.health === "down");
    const names = down.map((each) => `${each.backend} (${each.reason})`).join(", ");
    if (total > 0 && healthy === 0 && down.length > 0)
      raise("pool_down", "critical", pool, `no backend is healthy: ${names}`);
    else if (down.length > 0)
      raise("pool_degraded", "warning", pool, `${down.length} of ${total} down: ${names}`);
  }
  if (facts.proxyProblem && facts.age >= WARM_UP) raise("proxy_down", "critical", "", facts.proxyProblem);
  else if (facts.proxyShort && facts.age >= WARM_UP) raise("proxy_degraded", "warning", "", facts.proxyShort);
  // One that ends now cannot start again.
  if (facts.proxyStale) raise("proxy_stale", "critical", "", facts.proxyStale);
  if (facts.admin !== undefined && facts.admin.state !== "enabled")
    raise("node_out", "warning", "", outMessage(facts, facts.admin));
  if (facts.isolated !== undefined) raise("node_isolated", "critical", "", facts.isolated);
  if (facts.forwardingProblem !== "") raise("forwarding_broken", "critical", "", facts.forwardingProblem);
  for (const { node, digest } of facts.differing)
    raise(
      "site_differs",
      "warning",
      node,
      `${node} runs another site file (${digest.slice(0, 12)}) than this node`,
    );
  for (const { address, reason } of facts.duplicates ?? [])
    raise("duplicate_address", "critical", address, reason);
  if (facts.stateProblem) raise("state_unwritable", "warning", "", facts.stateProblem);
  if (facts.controlProblem) raise("control_closed", "warning", "", facts.controlProblem);
  for (const { service, reason, critical } of facts.certificates ?? [])
    raise("certificate_failing", critical ? "critical" : "warning", service, reason);
  if (facts.sharingProblem) raise("certificates_apart", "warning", "", facts.sharingProblem);
  if (facts.accountsProblem) raise("accounts_failing", "warning", "", facts.accountsProblem);
  if (facts.siteProblem !== "") raise("site_rejected", "warning", "", facts.siteProblem);
  return found;
}
