/** What one node runs of a site's virtual routers: computed by the brain, carried out by the redundancy process. */
import { type Family, type IpAddress, ipFamily, ipFromBytes, isLinkLocal6 } from "../base/addresses.ts";
import { CONSISTENT } from "../balancing/consistent.ts";
import { OperationalError } from "../base/errors.ts";
import { type DurationMs, ms, seconds } from "../base/time.ts";
import type { InstancePlan, RedundancyPlan, RouterPlan, TrackPlan } from "../contracts/redundancy.ts";
import type { Member, Service, Site, Track, VirtualRouter } from "../contracts/site.ts";
import { activeDownInterval } from "./vrrp/machine.ts";
import { virtualMacBytes } from "./vrrp/packet.ts";

/** Under this name the brain reports a tracked thing, and status and logs show it. */
export function trackName(track: Track): string {
  if ("interface" in track) return `interface ${track.interface}`;
  if ("gateway" in track) return `gateway ${track.gateway.join(" ")}`;
  if ("pool" in track) return `pool ${track.pool} at least ${track.atLeast}`;
  if ("process" in track) return `process ${track.process}`;
  return `script ${track.script.join(" ")}`;
}

function planTrack(track: Track): TrackPlan {
  const base = { name: trackName(track), ...(track.lower === undefined ? {} : { lower: track.lower }) };
  if ("interface" in track) return { ...base, kind: "interface", interface: track.interface };
  if ("gateway" in track) {
    const { gateway: targets, interval, timeout, fall, rise } = track;
    return { ...base, kind: "gateway", targets, interval, timeout, fall, rise };
  }
  if ("process" in track) return { ...base, kind: "process", process: track.process };
  return { ...base, kind: "reported" };
}

/** fe80:: and the EUI-64 of the virtual MAC: the same on every node of the router, unique per VRID on a link. */
export function virtualLinkLocal(vrid: number): IpAddress {
  const mac = virtualMacBytes(6, vrid);
  const bytes = new Uint8Array(16);
  bytes.set([0xfe, 0x80]);
  bytes.set([(mac[0] ?? 0) ^ 0x02, mac[1] ?? 0, mac[2] ?? 0, 0xff, 0xfe], 8);
  bytes.set(mac.subarray(3), 13);
  return ipFromBytes(bytes);
}

type PlannedAddress = InstancePlan["addresses"][number];

/** RFC 9568, 5.2.9: over IPv6 the first address of an advertisement is link-local. */
function linkLocalFirst(addresses: readonly PlannedAddress[], vrid: number, link: string): PlannedAddress[] {
  const usable = (a: PlannedAddress): boolean =>
    a.advertise && a.interface === link && isLinkLocal6(a.address);
  const first = addresses.find(usable) ?? {
    address: virtualLinkLocal(vrid),
    interface: link,
    advertise: true,
  };
  return [first, ...addresses.filter((a) => a !== first)];
}

function planMember(
  site: Site,
  name: string,
  router: VirtualRouter,
  member: Member,
  node: string,
): InstancePlan[] {
  const link = typeof member.interface === "string" ? member.interface : member.interface[node];
  if (link === undefined)
    throw new OperationalError("NOT_FOUND", `virtual router ${name}: no interface named for node ${node}`);
  const all = member.addresses.map((entry): PlannedAddress =>
    typeof entry === "string"
      ? { address: entry, interface: link, advertise: true }
      : { address: entry.address, interface: entry.interface ?? link, advertise: entry.advertise },
  );
  const others = Object.keys(router.priorities).filter((other) => other !== node);
  return ([4, 6] as const).flatMap((family: Family): InstancePlan[] => {
    const own = all.filter(({ address }) => ipFamily(address) === family);
    if (own.length === 0) return [];
    const unicast = router.transport === "unicast";
    // The others accept what comes from the addresses that they know this node by, and nothing else.
    const known = member.peers?.[node] ?? [site.nodes[node]?.address].filter((a) => a !== undefined);
    const source = unicast ? known.find((a) => ipFamily(a) === family) : undefined;
    const peers = !unicast
      ? []
      : others.flatMap((other) => {
          const base = site.nodes[other]?.address;
          const addresses = member.peers?.[other] ?? (base === undefined ? [] : [base]);
          return addresses
            .filter((address) => ipFamily(address) === family)
            .map((address) => ({ node: other, address }));
        });
    const addresses = family === 6 ? linkLocalFirst(own, member.vrid, link) : own;
    return [
      {
        interface: link,
        vrid: member.vrid,
        family,
        unicast,
        source,
        addresses,
        peers,
      },
    ];
  });
}

/** Time for this process to be started again and to hear that nobody else has become Active. */
const RESTART = seconds(1);

/**
 * The lease outlives a restart of the process and the ActiveDownInterval after it, so that a restart costs
 * nothing; the kernel counts whole seconds.
 */
function defaultLease(router: VirtualRouter, priority: number): DurationMs {
  const down = activeDownInterval(router.version, priority, router.interval);
  return ms(Math.ceil((down + RESTART) / 1000) * 1000);
}

function planRouter(site: Site, name: string, router: VirtualRouter, node: string): RouterPlan | undefined {
  const priority = router.priorities[node];
  if (priority === undefined) return undefined;
  const { preempt, hooks } = router;
  return {
    router: name,
    version: router.version,
    priority,
    interval: router.interval,
    preempt: preempt !== false,
    preemptDelay: typeof preempt === "object" ? preempt.delay : ms(0),
    startDelay: router.startDelay,
    checksum: router.checksum,
    minHopLimit: router.minHopLimit,
    password: router.password,
    virtualMac: router.virtualMac,
    lease: router.lease ?? defaultLease(router, priority),
    fence: router.fence,
    announce: router.announce,
    tracks: router.track.map(planTrack),
    hooks: { active: hooks.active, backup: hooks.backup, fault: hooks.fault, timeout: hooks.timeout },
    instances: router.members.flatMap((member) => planMember(site, name, router, member, node)),
    ...planFlows(site, name),
    nodes: Object.entries(router.priorities).flatMap(([other, theirs]) => {
      const address = site.nodes[other]?.address;
      return address === undefined ? [] : [{ node: other, address, priority: theirs }];
    }),
  };
}

/** What the router waits for, where connections of one of its services are replicated. */
function planFlows(site: Site, router: string): Pick<RouterPlan, "flows"> {
  const { flows } = site;
  const replicated = Object.values(site.services).filter(
    ({ on, forward }) => on === router && forward?.flows === "replicated",
  );
  if (flows === undefined || replicated.length === 0) return {};
  const { handover, takeover } = flows;
  const settle = [...new Set(replicated.flatMap(settling))];
  return { flows: { handover, takeover: takeover.wait, otherwise: takeover.otherwise, settle } };
}

/** Where clients' and backends' packets come to, unless another node would take the connection up by itself. */
function settling({ forward, listen }: Service): IpAddress[] {
  if (forward === undefined || forward.mode === "direct") return [];
  const { masquerade, scheduler, affinity } = forward;
  if (masquerade === false && affinity === undefined && CONSISTENT.has(scheduler)) return [];
  return [...listen.map(({ address }) => address), ...(masquerade === false ? [] : [masquerade])];
}

/** Every address that moves with these routers. */
export const virtualAddresses = (plans: readonly RouterPlan[]): IpAddress[] =>
  plans.flatMap(({ instances }) => instances.flatMap((i) => i.addresses.map(({ address }) => address)));

/** Throws OperationalError NOT_FOUND where the site has no such node. */
export function planFor(site: Site, node: string, digest: string): RedundancyPlan {
  if (site.nodes[node] === undefined) {
    throw new OperationalError(
      "NOT_FOUND",
      `the site ${site.site} has no node ${node}; it has ${Object.keys(site.nodes).join(", ")}`,
    );
  }
  return {
    site: site.site,
    node,
    digest,
    routers: Object.entries(site.virtualRouters).flatMap(
      ([name, router]) => planRouter(site, name, router, node) ?? [],
    ),
  };
}
