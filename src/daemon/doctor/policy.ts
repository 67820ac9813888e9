/** What on a host will break forwarding or failover, from facts about it. Pure; facts.ts looks. */
import { type Family, ipFamily } from "../../base/addresses.ts";
import type { Admission } from "../../linux/nftables/policy-input.ts";
import { HANDOVER_PORT } from "../../redundancy/handover/wire.ts";
import { VRRP_PROTOCOL } from "../../redundancy/vrrp/packet.ts";
import { MARK_MASK } from "../../forwarding/marks.ts";
import type { Site } from "../../contracts/site.ts";

export interface LinkFact {
  readonly name: string;
  readonly up: boolean;
  readonly running: boolean;
  /** net.ipv4.conf.NAME.rp_filter as it is in force: the stricter of the link's and all's. */
  readonly rpFilter: number;
}

/** Somebody else's advertisement, heard on one of our links. */
export interface HeardRouter {
  readonly interface: string;
  readonly vrid: number;
  readonly family: 4 | 6;
  readonly source: string;
  readonly addresses: readonly string[];
}

/** What could not be looked at is undefined, with its reason in `unknown`. */
export interface HostFacts {
  readonly nativeProblem: string | undefined;
  readonly missingCapabilities: readonly string[];
  readonly realtimeRefused: string | undefined;
  readonly links: readonly LinkFact[] | undefined;
  readonly ipForward: boolean | undefined;
  readonly ip6Forward: boolean | undefined;
  readonly tcpLiberal: boolean | undefined;
  /** Why nf_tables does not answer. */
  readonly nftProblem: string | undefined;
  readonly nftPersist: boolean | undefined;
  readonly dropping: readonly string[];
  /** Input chains that refuse what no rule of theirs accepts. */
  readonly closed: readonly {
    readonly at: string;
    readonly family: string;
    readonly admits: readonly Admission[];
  }[];
  readonly marking: readonly string[];
  /** iptables' old kernel interface is in use; nftables cannot show its rules. */
  readonly legacyTables: readonly string[];
  /** net.bridge.bridge-nf-call-iptables; undefined where br_netfilter is not loaded. */
  readonly bridgeNfCall: boolean | undefined;
  /** `priority 100: fwmark 0x1 table 100`. */
  readonly markRules: readonly string[];
  readonly conntrack: { readonly count: number; readonly max: number } | undefined;
  /** Names of running programs, as the kernel knows them (15 bytes). */
  readonly programs: ReadonlySet<string>;
  readonly openFiles: number | undefined;
  readonly heard: readonly HeardRouter[] | undefined;
  readonly unknown: readonly string[];
}

export interface Finding {
  /** `error`: it will not work. `warning`: it may fail when it is needed. */
  readonly severity: "error" | "warning";
  readonly name: string;
  readonly what: string;
  readonly why: string;
  readonly mend: string;
}

const MARKS = `0x${MARK_MASK.toString(16)}`;

/** Fewer entries than this are filled by one busy second of new connections. */
const CONNTRACK_LEAST = 65_536;
const OPEN_FILES_LEAST = 4096;

/** Programs that set the clock. */
const CLOCK_KEEPERS = ["chronyd", "ntpd", "systemd-timesyn", "ntpd-rs", "openntpd"];

/** What the other nodes send to this one. */
interface Message {
  readonly what: string;
  readonly protocol: number;
  readonly port?: number;
  readonly families: readonly Family[];
}

interface Needs {
  readonly links: ReadonlySet<string>;
  readonly forward4: boolean;
  readonly forward6: boolean;
  readonly routers: boolean;
  readonly messages: readonly Message[];
}

const [TCP, UDP] = [6, 17];

/** What comes in from the other nodes of the site, for the node's own address and those of its routers. */
function messagesTo(site: Site, node: string): Message[] {
  const shared = Object.values(site.virtualRouters).filter(
    ({ priorities }) => priorities[node] !== undefined && Object.keys(priorities).length > 1,
  );
  const own = site.nodes[node]?.address;
  const families = own === undefined ? [] : [ipFamily(own)];
  const virtual = shared.flatMap(({ members }) =>
    members.flatMap(({ addresses }) =>
      addresses.map((one) => ipFamily(typeof one === "string" ? one : one.address)),
    ),
  );
  const tcp = (what: string, port: number): Message => ({
    what: `${what} (TCP ${port})`,
    protocol: TCP,
    port,
    families,
  });
  const others = Object.keys(site.nodes).length > 1;
  return [
    ...(shared.length > 0
      ? [
          { what: `VRRP (IP protocol ${VRRP_PROTOCOL})`, protocol: VRRP_PROTOCOL, families: virtual },
          { what: `hand-over (UDP ${HANDOVER_PORT})`, protocol: UDP, port: HANDOVER_PORT, families },
        ]
      : []),
    ...(others && site.flows ? [tcp("connections", site.flows.port)] : []),
    ...(others && site.certificates ? [tcp("certificates", site.certificates.port)] : []),
    ...(site.control ? [tcp("control", site.control.port)] : []),
  ];
}

/** What this node of the site asks of its host; without a site, everything. */
export function needsOf(site: Site | undefined, node: string | undefined): Needs {
  if (site === undefined || node === undefined)
    return { links: new Set(), forward4: true, forward6: false, routers: true, messages: [] };
  const mine = Object.entries(site.virtualRouters).filter(
    ([, router]) => router.priorities[node] !== undefined,
  );
  const links = new Set<string>();
  for (const [, router] of mine) {
    for (const { interface: link } of router.members) {
      const name = typeof link === "string" ? link : link[node];
      if (name !== undefined) links.add(name);
    }
    for (const track of router.track) if ("interface" in track) links.add(track.interface);
  }
  const names = new Set(mine.map(([name]) => name));
  // What is sent on directly is not routed, and no connection of it is tracked.
  const listens = Object.values(site.services).flatMap((service) =>
    service.forward !== undefined && service.forward.mode !== "direct" && names.has(service.on)
      ? service.listen
      : [],
  );
  return {
    links,
    forward4: listens.some(({ address }) => !address.includes(":")),
    forward6: listens.some(({ address }) => address.includes(":")),
    routers: mine.length > 0,
    messages: messagesTo(site, node),
  };
}

export function findings(facts: HostFacts, needs: Needs): Finding[] {
  return [
    ...programFindings(facts, needs),
    ...linkFindings(facts, needs),
    ...inputFindings(facts, needs),
    ...forwardingFindings(facts, needs),
    ...neighbourFindings(facts),
  ];
}

function programFindings(facts: HostFacts, needs: Needs): Finding[] {
  const found: Finding[] = [];
  if (facts.nativeProblem !== undefined)
    found.push({
      severity: "error",
      name: "native_missing",
      what: facts.nativeProblem,
      why: "without it nines cannot speak to the kernel at all",
      mend: "install a C compiler and run: npm run build --workspace native",
    });
  if (facts.missingCapabilities.length > 0)
    found.push({
      severity: "error",
      name: "capability_missing",
      what: `this user lacks ${facts.missingCapabilities.join(", ")}`,
      why: "addresses, VRRP and nftables need them",
      mend: "run as root, or with the unit packaging/nines@.service, which gives exactly these",
    });
  if (needs.routers && facts.realtimeRefused !== undefined)
    found.push({
      severity: "warning",
      name: "not_realtime",
      what: `real-time priority is refused: ${facts.realtimeRefused}`,
      why: "on a busy host advertisements come late, and the peer takes over although nothing has failed",
      mend: "grant CAP_SYS_NICE, or LimitRTPRIO=50 in the unit; otherwise use an interval of 1s",
    });
  if (facts.openFiles !== undefined && facts.openFiles < OPEN_FILES_LEAST)
    found.push({
      severity: "warning",
      name: "few_files",
      what: `a process may open ${facts.openFiles} files`,
      why: "a proxy needs two for each connection, checks one each",
      mend: "LimitNOFILE=1048576 in the unit, or ulimit -n 65536",
    });
  if (!CLOCK_KEEPERS.some((name) => facts.programs.has(name)))
    found.push({
      severity: "warning",
      name: "clock_unkept",
      what: "no program that keeps the clock right was found",
      why: "failover does not depend on the clock, but certificates and the comparison of logs do",
      mend: "run chrony or systemd-timesyncd, unless the hypervisor keeps this clock",
    });
  return found;
}

function linkFindings(facts: HostFacts, needs: Needs): Finding[] {
  const found: Finding[] = [];
  for (const name of needs.links) {
    const link = facts.links?.find((each) => each.name === name);
    if (facts.links !== undefined && link === undefined)
      found.push({
        severity: "error",
        name: "interface_missing",
        what: `there is no interface ${name}`,
        why: "its virtual router waits for it and takes no part in the election",
        mend: `this host has ${facts.links.map((each) => each.name).join(", ")}; correct the site file, or make the interface`,
      });
    if (link !== undefined && !link.running)
      found.push({
        severity: "error",
        name: "interface_down",
        what: `${name} is ${link.up ? "up without a carrier" : "down"}`,
        why: "its virtual router takes no part in the election",
        mend: link.up ? "check the cable, or the switch's port" : `ip link set ${name} up`,
      });
    if (link !== undefined && link.rpFilter === 1 && (needs.forward4 || needs.links.size > 1))
      found.push({
        severity: "warning",
        name: "rp_filter_strict",
        what: `reverse-path filtering on ${name} is strict (rp_filter=1)`,
        why: "packets that come in on another link than the way back are dropped silently",
        mend: `sysctl -w net.ipv4.conf.${name}.rp_filter=2, and net.ipv4.conf.all.rp_filter to 0 or 2`,
      });
  }
  const managers = [
    [
      "systemd-network",
      "systemd-networkd",
      "it removes addresses that it does not know when it restarts or reconfigures a link: set KeepConfiguration=yes in the link's .network file, and ManageForeignRoutes=no and ManageForeignRoutingPolicyRules=no in networkd.conf",
    ],
    [
      "NetworkManager",
      "NetworkManager",
      "it removes addresses that it does not know when it reapplies a connection: exempt the link with unmanaged-devices=interface-name:..., or do not reapply while Active",
    ],
  ] as const;
  for (const [program, name, mend] of managers) {
    if (needs.routers && facts.programs.has(program))
      found.push({
        severity: "warning",
        name: "address_manager",
        what: `${name} runs on this host`,
        why: "it may delete virtual addresses; nines puts them back, but not before somebody has noticed",
        mend,
      });
  }
  return found;
}

function inputFindings(facts: HostFacts, needs: Needs): Finding[] {
  return facts.closed.flatMap(({ at, family, admits }) => {
    const passes = ({ protocol, port, families }: Message): boolean =>
      (family === "ip" && !families.includes(4)) ||
      (family === "ip6" && !families.includes(6)) ||
      admits.some(
        (one) =>
          (one.protocols?.includes(protocol) ?? true) &&
          (port === undefined || (one.ports?.includes(port) ?? true)),
      );
    const missing = needs.messages.filter((message) => !passes(message)).map(({ what }) => what);
    if (missing.length === 0) return [];
    return [
      {
        severity: "error" as const,
        name: "input_drop",
        what: `the chain ${at} refuses what it does not accept, and no rule of it accepts ${missing.join(", ")}`,
        why: "without VRRP both nodes become Active; without the others, planned moves leave a gap and connections are lost at a failover",
        mend: "accept them from the other nodes (docs/guide/operations.md, Firewall)",
      },
    ];
  });
}

function forwardingFindings(facts: HostFacts, needs: Needs): Finding[] {
  if (!needs.forward4 && !needs.forward6) return [];
  const found: Finding[] = [];
  const add = (
    severity: Finding["severity"],
    name: string,
    what: string,
    why: string,
    mend: string,
  ): void => {
    found.push({ severity, name, what, why, mend });
  };
  if (facts.nftProblem !== undefined)
    add(
      "error",
      "nftables_missing",
      `nf_tables does not answer: ${facts.nftProblem}`,
      "forwarding and the fence are made of it",
      "load the module (modprobe nf_tables), or use a kernel that has CONFIG_NF_TABLES",
    );
  if (facts.nftPersist === false)
    add(
      "warning",
      "nftables_not_persistent",
      "this kernel has no persistent nftables tables (they came with 6.9)",
      "a flush of the ruleset by others resets connections until the tables are repaired",
      "see that nothing runs `nft flush ruleset` (Debian's nftables.service does), or use a newer kernel",
    );
  for (const chain of facts.dropping)
    add(
      "error",
      "forward_drop",
      `the chain ${chain} drops what is forwarded`,
      "its policy is drop (Docker and ufw do that), so that clients get no answer",
      'accept the services\' traffic there: iptables -I DOCKER-USER -j ACCEPT for Docker, DEFAULT_FORWARD_POLICY="ACCEPT" in /etc/default/ufw for ufw',
    );
  if (facts.legacyTables.length > 0)
    add(
      "warning",
      "iptables_legacy",
      `iptables' legacy tables are loaded: ${facts.legacyTables.join(", ")}`,
      "their rules apply as well and are invisible to nftables; a FORWARD policy of drop there stops forwarding",
      "look with iptables-legacy -S; better, move to iptables-nft",
    );
  if (facts.bridgeNfCall === true)
    add(
      "warning",
      "bridge_nf_call",
      "net.bridge.bridge-nf-call-iptables is 1 (the module br_netfilter, which Docker and Kubernetes load)",
      "what a bridge of this host only passes on goes through the forwarding rules as well: translated or dropped where it should be neither, and counted twice",
      "sysctl -w net.bridge.bridge-nf-call-iptables=0 where no container needs it, or keep the services' links off bridges",
    );
  if (facts.marking.length > 0)
    add(
      "warning",
      "foreign_marks",
      `others set marks: ${facts.marking.join("; ")}`,
      `nines uses the bits ${MARKS} of the connection mark and gives the packet mark back; who sets whole marks overwrites them`,
      `let the other rules set marks under a mask that leaves ${MARKS} alone`,
    );
  if (facts.markRules.length > 0)
    add(
      "warning",
      "mark_rules",
      `routing rules look at marks: ${facts.markRules.join("; ")}`,
      "a packet with such a mark takes another way than the one to its backend",
      "see that these marks are not set on the services' packets",
    );
  const { conntrack } = facts;
  if (conntrack !== undefined && conntrack.max < CONNTRACK_LEAST)
    add(
      "warning",
      "conntrack_small",
      `the connection table holds ${conntrack.max} entries`,
      "when it is full, new connections are dropped",
      `sysctl -w net.netfilter.nf_conntrack_max=${4 * CONNTRACK_LEAST}`,
    );
  if (conntrack !== undefined && conntrack.count > conntrack.max * 0.8)
    add(
      "error",
      "conntrack_full",
      `${conntrack.count} of ${conntrack.max} entries of the connection table are in use`,
      "when it is full, new connections are dropped",
      `sysctl -w net.netfilter.nf_conntrack_max=${2 * conntrack.max}`,
    );
  if (needs.forward4 && facts.ipForward === false)
    add(
      "warning",
      "forwarding_off",
      "net.ipv4.ip_forward is 0",
      "nothing is forwarded; nines sets it at its start, something else may set it back",
      "net.ipv4.ip_forward=1 in /etc/sysctl.d",
    );
  if (needs.forward6 && facts.ip6Forward === false)
    add(
      "warning",
      "forwarding6_off",
      "net.ipv6.conf.all.forwarding is 0",
      "nothing is forwarded; nines sets it at its start, something else may set it back",
      "net.ipv6.conf.all.forwarding=1 in /etc/sysctl.d, and accept_ra=2 where addresses come from router advertisements",
    );
  if (facts.tcpLiberal === false)
    add(
      "warning",
      "tcp_strict",
      "net.netfilter.nf_conntrack_tcp_be_liberal is 0",
      "after a takeover the kernel doubts packets of connections whose beginning it has not seen; nines sets it at its start",
      "net.netfilter.nf_conntrack_tcp_be_liberal=1 in /etc/sysctl.d",
    );
  return found;
}

function neighbourFindings(facts: HostFacts): Finding[] {
  return (facts.heard ?? []).map(({ interface: link, vrid, source, addresses }) => ({
    severity: "error",
    name: "vrid_in_use",
    what: `${source} advertises VRID ${vrid} on ${link} for ${addresses.join(", ")}, which are not this router's addresses`,
    why: "two virtual routers with one VRID on a link take part in one election, and the wrong one wins",
    mend: "give this router a vrid that nobody else on the link uses",
  }));
}
