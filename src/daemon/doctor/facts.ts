import { readFileSync, readdirSync } from "node:fs";
import { type Family, ipFamily } from "../../base/addresses.ts";
import { messageOf } from "../../base/errors.ts";
import { type Clock, type DurationMs, addTime } from "../../base/time.ts";
import type { RedundancyPlan } from "../../contracts/redundancy.ts";
import { missingCapabilities } from "../../linux/capabilities.ts";
import { Conntrack } from "../../linux/conntrack.ts";
import { nativeProblem } from "../../linux/native.ts";
import { NftablesService, probePersist } from "../../linux/nftables/service.ts";
import { RawSocket } from "../../linux/raw-socket.ts";
import { realtime } from "../../linux/realtime.ts";
import { Rtnetlink } from "../../linux/rtnetlink.ts";
import { readSysctl } from "../../linux/sysctl.ts";
import { VRRP_GROUPS, VRRP_PROTOCOL, decodeAdvertisement } from "../../redundancy/vrrp/packet.ts";
import type { HeardRouter, HostFacts, LinkFact } from "./policy.ts";

/** How the tables of nines itself are called. */
const OWN_TABLE = "nines";

export interface Look {
  readonly clock: Clock;
  /** The routers of this node, to know a foreign VRID; undefined without a site. */
  readonly plan: RedundancyPlan | undefined;
  /** How long to listen for other routers. */
  readonly listen: DurationMs;
}

/** Looks at this host and changes nothing. What cannot be looked at is told in `unknown`. */
export async function hostFacts(look: Look): Promise<HostFacts> {
  const unknown: string[] = [];
  const attempt = async <T>(what: string, body: () => Promise<T> | T): Promise<T | undefined> => {
    try {
      return await body();
    } catch (error) {
      unknown.push(`${what}: ${messageOf(error)}`);
      return undefined;
    }
  };
  const problem = nativeProblem();
  const native = problem === undefined;
  let realtimeRefused: string | undefined;
  if (native)
    realtime(
      1,
      () => undefined,
      (why) => (realtimeRefused = why.message),
    );
  const links = native ? await attempt("interfaces", () => linkFacts(look.clock)) : undefined;
  const rules = native ? await attempt("routing rules", () => markRules(look.clock)) : undefined;
  let nftProblem: string | undefined;
  const nft = native
    ? await nftFacts(look.clock).catch((error: unknown) => {
        nftProblem = messageOf(error);
        return undefined;
      })
    : undefined;
  return {
    nativeProblem: problem?.message,
    missingCapabilities: native
      ? missingCapabilities(["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE"])
      : [],
    realtimeRefused,
    links,
    ipForward: flag("net/ipv4/ip_forward"),
    ip6Forward: flag("net/ipv6/conf/all/forwarding"),
    tcpLiberal: flag("net/netfilter/nf_conntrack_tcp_be_liberal"),
    nftProblem,
    nftPersist: nft?.persist,
    dropping: nft?.dropping ?? [],
    closed: nft?.closed ?? [],
    marking: nft?.marking ?? [],
    legacyTables: legacyTables(),
    bridgeNfCall: flag("net/bridge/bridge-nf-call-iptables"),
    markRules: rules ?? [],
    conntrack: Conntrack.occupancy(),
    programs: programs(),
    openFiles: openFiles(),
    heard: native && look.plan ? await attempt("other routers", () => listenForOthers(look)) : undefined,
    unknown,
  };
}

function flag(name: string): boolean | undefined {
  const value = readSysctl(name);
  return value === undefined ? undefined : value !== "0";
}

async function linkFacts(clock: Clock): Promise<LinkFact[]> {
  const kernel = Rtnetlink.open(clock);
  try {
    const all = Number(readSysctl("net/ipv4/conf/all/rp_filter") ?? 0);
    return (await kernel.links()).map(({ name, up, running }) => ({
      name,
      up,
      running,
      rpFilter: Math.max(all, Number(readSysctl(`net/ipv4/conf/${name}/rp_filter`) ?? 0)),
    }));
  } finally {
    kernel.close();
  }
}

async function markRules(clock: Clock): Promise<string[]> {
  const kernel = Rtnetlink.open(clock);
  try {
    const both = [...(await kernel.rules(4)), ...(await kernel.rules(6))];
    return both.flatMap(({ priority, mark, table }) =>
      mark === undefined ? [] : [`priority ${priority}: fwmark 0x${mark.value.toString(16)} table ${table}`],
    );
  } finally {
    kernel.close();
  }
}

async function nftFacts(clock: Clock) {
  const nftables = NftablesService.open(clock);
  try {
    const { dropping, closed, marking } = await nftables.survey(OWN_TABLE);
    const persist = await probePersist(nftables);
    const show = (at: { family: string; table: string; chain: string }): string =>
      `${at.family} ${at.table} ${at.chain}`;
    return {
      persist,
      dropping: dropping.map(show),
      closed: closed.map((each) => ({ at: show(each), family: each.family, admits: each.admits })),
      marking: marking.map((each) => `${show(each)} (${each.what})`),
    };
  } finally {
    nftables.close();
  }
}

function legacyTables(): string[] {
  return ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"].flatMap((file) => {
    try {
      return readFileSync(file, "utf8")
        .split("\n")
        .filter((name) => name !== "");
    } catch {
      return [];
    }
  });
}

function programs(): ReadonlySet<string> {
  const names = readdirSync("/proc").filter((entry) => /^\d+$/.test(entry));
  return new Set(
    names.flatMap((pid) => {
      try {
        return [readFileSync(`/proc/${pid}/comm`, "utf8").trim()];
      } catch {
        return [];
      }
    }),
  );
}

function openFiles(): number | undefined {
  const limit = /^Max open files\s+\d+\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"));
  return limit?.[1] === undefined ? undefined : Number(limit[1]);
}

/** Advertisements with one of our VRIDs, for addresses of which none is ours. */
async function listenForOthers({ clock, plan, listen }: Look): Promise<HeardRouter[]> {
  const kernel = Rtnetlink.open(clock);
  const links = await kernel.links().finally(() => kernel.close());
  const heard = new Map<string, HeardRouter>();
  const sockets: RawSocket[] = [];
  try {
    for (const { router, instance } of (plan?.routers ?? []).flatMap((router) =>
      router.instances.map((instance) => ({ router, instance })),
    )) {
      const link = links.find(({ name }) => name === instance.interface);
      if (link === undefined || !link.running) continue;
      const own = new Set<string>(instance.addresses.map(({ address }) => address));
      const family: Family = instance.family;
      sockets.push(
        RawSocket.open({
          family,
          protocol: VRRP_PROTOCOL,
          ifindex: link.index,
          group: VRRP_GROUPS[family],
          ttl: 255,
          onPacket: ({ source, destination, ttl, payload }) => {
            if (ipFamily(source) !== family) return;
            const options = { source, destination, hopLimit: ttl, checksum: "auto" as const };
            // Either version: the other one's routers would be ignored, and both be Active.
            const decode = (version: 2 | 3) => decodeAdvertisement(payload, { ...options, version });
            const first = decode(router.version);
            const decoded = first.ok ? first : decode(router.version === 3 ? 2 : 3);
            if (!decoded.ok) return;
            const { vrid, addresses } = decoded.value.advertisement;
            if (vrid !== instance.vrid || addresses.some((address) => own.has(address))) return;
            heard.set(`${instance.interface} ${vrid} ${source}`, {
              interface: instance.interface,
              vrid,
              family,
              source,
              addresses,
            });
          },
        }),
      );
    }
    await new Promise<void>((resolve) => clock.setTimer(addTime(clock.monotonic(), listen), resolve));
  } finally {
    for (const socket of sockets) socket.close();
  }
  return [...heard.values()];
}
