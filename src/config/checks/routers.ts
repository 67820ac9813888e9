import type { Family, IpAddress } from "../../base/addresses.ts";
import { ipFamily, isLinkLocal6 } from "../../base/addresses.ts";
import { type DurationMs, ms, seconds } from "../../base/time.ts";
import { formatDuration } from "../../base/units.ts";
import type { Site } from "../schema/site.ts";
import { allVirtualAddresses, interfaceOf, memberAddresses, unusable } from "./addresses.ts";
import type { Check, CheckContext } from "./context.ts";

type Router = Site["virtualRouters"][string];

const routersOf = (site: Site) => Object.entries(site.virtualRouters);
const nodesOf = (router: Router): string[] => Object.keys(router.priorities);

export const priorities: Check = (context) => {
  for (const [name, router] of routersOf(context.site)) {
    const path = ["virtualRouters", name, "priorities"];
    const nodes = nodesOf(router);
    if (nodes.length === 0) context.error(path, "no node has a priority", "priorities: { NODE: 1..255 }");
    if (nodes.length === 1)
      context.warning(path, `only ${nodes[0]} takes part in ${name}`, "nobody takes over when it fails");
    const owners = nodes.filter((node) => router.priorities[node] === 255);
    if (owners.length > 1)
      context.error(path, `${owners.join(" and ")} have priority 255`, "only one node can own the address");
    const seen = new Map<number, string>();
    for (const [node, priority] of Object.entries(router.priorities)) {
      const other = seen.get(priority);
      if (other !== undefined && priority !== 255)
        context.warning(
          [...path, node],
          `${other} and ${node} have the same priority ${priority}`,
          "the greater address then decides, and both wait equally long before they take over",
        );
      else seen.set(priority, node);
    }
  }
};

/** The address owner takes over when it starts (RFC 9568, 6.4.1), before it can have heard of any connection. */
export const owners: Check = ({ site, error, warning }) => {
  for (const [name, router] of routersOf(site)) {
    const replicated = Object.entries(site.services).flatMap(([service, { on, forward }]) =>
      on === name && site.flows !== undefined && forward?.flows === "replicated" ? [service] : [],
    );
    const found = nodesOf(router).filter((node) => router.priorities[node] === 255);
    // Two are another mistake.
    for (const node of found.length === 1 ? found : []) {
      const path = ["virtualRouters", name, "priorities", node];
      if (replicated.length > 0)
        error(
          path,
          `${node} takes over at every start (priority 255) and starts with an empty table: it ends the connections of ${replicated.join(", ")}`,
          "use 254, or flows: off for these services",
        );
      else
        warning(
          path,
          `${node} owns the addresses (priority 255): it takes over at every start, connections or not`,
          "use 254",
        );
    }
  }
};

/** A failure that lowers a priority by no more than its lead changes nothing: it must end below. */
export const loweredPriorities: Check = ({ site, warning }) => {
  for (const [name, router] of routersOf(site)) {
    const sorted = Object.values(router.priorities).sort((a, b) => b - a);
    const lead = (sorted[0] ?? 0) - (sorted[1] ?? 0);
    if (sorted.length < 2) continue;
    const total = router.track.reduce((sum, track) => sum + (track.lower ?? 255), 0);
    for (const [index, track] of router.track.entries()) {
      if (track.lower !== undefined && total <= lead)
        warning(
          ["virtualRouters", name, "track", index, "lower"],
          `lower: ${track.lower} never changes who is Active: the lead is ${lead}`,
          `lower by more than ${lead}`,
        );
    }
  }
};

/** What a redundancy process that died may need until it renews its addresses again, counted generously. */
const RESTART_TIME = ms(500);

/** ActiveDownInterval (RFC 9568, 6.1) of the slowest node, three intervals and the skew time, after a restart. */
function shortestLease(router: Router): DurationMs {
  const lowest = Math.min(255, ...Object.values(router.priorities));
  const takeover = router.interval * (3 + (256 - lowest) / 256);
  return seconds(Math.ceil((RESTART_TIME + takeover) / 1000));
}

/** A lease that ends before another node takes over leaves the address with nobody. */
export const leases: Check = ({ site, error }) => {
  for (const [name, router] of routersOf(site)) {
    if (router.lease === undefined) continue;
    const path = ["virtualRouters", name, "lease"];
    const needed = shortestLease(router);
    const text = formatDuration(router.lease);
    if (router.lease % 1000 !== 0) error(path, `the kernel cannot count a lease of ${text}`, "whole seconds");
    if (router.lease < needed)
      error(
        path,
        `a lease of ${text} runs out before another node takes over at an interval of ${formatDuration(router.interval)}`,
        `at least ${formatDuration(needed)}: a restart (${formatDuration(RESTART_TIME)}), three intervals and the skew time`,
      );
  }
};

function checkInterfaceName(context: CheckContext, text: string, path: (string | number)[]): void {
  // IFNAMSIZ is 16 with its final zero; the kernel refuses / and white space in a name.
  if (text.length > 15 || /[/\s:]/.test(text) || text === "." || text === "..")
    context.error(
      path,
      `"${text}" cannot be an interface's name`,
      "15 characters at most, without / : or spaces",
    );
}

export const interfaces: Check = (context) => {
  for (const [name, router] of routersOf(context.site)) {
    for (const [index, member] of router.members.entries()) {
      const path = ["virtualRouters", name, "members", index, "interface"];
      if (typeof member.interface === "string") {
        checkInterfaceName(context, member.interface, path);
        continue;
      }
      for (const [node, text] of Object.entries(member.interface)) {
        checkInterfaceName(context, text, [...path, node]);
      }
      const without = nodesOf(router).filter((node) => interfaceOf(member, node) === undefined);
      if (without.length > 0)
        context.error(
          path,
          `no interface is given for ${without.join(", ")}`,
          "one per node with a priority",
        );
    }
  }
};

/** One VRID on one link and family is one virtual router; a second one would fight with it. */
export const vrids: Check = ({ site, error }) => {
  const seen = new Map<string, string>();
  for (const [name, router] of routersOf(site)) {
    for (const [index, member] of router.members.entries()) {
      const path = ["virtualRouters", name, "members", index, "vrid"];
      const families = new Set(memberAddresses(member, name, index).map((a) => ipFamily(a.address)));
      const told = new Set<string>();
      for (const node of nodesOf(router)) {
        for (const family of families) {
          const link = interfaceOf(member, node);
          if (link === undefined) continue;
          const key = `${node} ${link} ${member.vrid} ${family}`;
          const here = `virtualRouters.${name}.members[${index}]`;
          const other = seen.get(key);
          if (other === undefined) seen.set(key, here);
          else if (!told.has(other)) {
            told.add(other);
            error(
              path,
              `VRID ${member.vrid} is used twice for IPv${family} on ${link} of ${node}, also by ${other}`,
            );
          }
        }
      }
    }
  }
};

export const virtualAddresses: Check = ({ site, error }) => {
  const seen = new Map<string, string>();
  for (const entry of allVirtualAddresses(site)) {
    const reason = unusable(entry.address);
    if (reason !== undefined)
      error(entry.path, `${entry.address} is ${reason}`, "it cannot be a virtual address");
    // A link-local address is only unique on its link (RFC 4291, 2.5.6).
    const links = isLinkLocal6(entry.address)
      ? nodesOf(site.virtualRouters[entry.router] as Router).map(
          (node) => `${node} ${entry.interfaceOf(node)}`,
        )
      : [""];
    const where = `${entry.router}.members[${entry.member}]`;
    const other = links
      .map((link) => seen.get(`${entry.address} ${link}`))
      .find((found) => found !== undefined);
    if (other !== undefined) error(entry.path, `${entry.address} is already a virtual address of ${other}`);
    for (const link of links) seen.set(`${entry.address} ${link}`, where);
  }
};

/** An IPv6 virtual router without a link-local address is given one (RFC 9568, 5.2.9); IPv4 has no such. */
export const fourIsAdvertised: Check = ({ site, error }) => {
  for (const [name, router] of routersOf(site)) {
    for (const [index, member] of router.members.entries()) {
      const four = memberAddresses(member, name, index).filter((a) => ipFamily(a.address) === 4);
      const [first] = four;
      if (first && !four.some((a) => a.advertise))
        error(
          first.path,
          "no IPv4 address of this member is advertised",
          "an advertisement carries at least one",
        );
    }
  }
};

const familiesOf = (router: Router): ReadonlySet<Family> =>
  new Set(
    router.members.flatMap((m) => m.addresses.map((a) => ipFamily(typeof a === "string" ? a : a.address))),
  );

function unicastPeers(context: CheckContext, name: string, router: Router): void {
  const nodes = nodesOf(router);
  const path = ["virtualRouters", name];
  if (nodes.length < 2)
    context.error(
      [...path, "transport"],
      "unicast needs another node to send to",
      "a second node in priorities",
    );
  for (const [index, member] of router.members.entries()) {
    const at = [...path, "members", index, "peers"];
    const owners = new Map<IpAddress, string>();
    const families = new Set(memberAddresses(member, name, index).map((a) => ipFamily(a.address)));
    for (const node of nodes) {
      const own = context.site.nodes[node]?.address;
      const peers = member.peers?.[node] ?? (own === undefined ? [] : [own]);
      for (const family of families) {
        if (own !== undefined && !peers.some((peer) => ipFamily(peer) === family))
          context.error(
            at,
            `node ${node} has no IPv${family} address for unicast on this link`,
            `peers: { ${node}: [...] }`,
          );
      }
      for (const peer of peers) {
        const other = owners.get(peer);
        if (other !== undefined && other !== node)
          context.error(at, `${peer} is a peer address of both ${other} and ${node}`);
        owners.set(peer, node);
      }
    }
  }
}

export const peers: Check = (context) => {
  for (const [name, router] of routersOf(context.site)) {
    if (router.transport === "unicast") unicastPeers(context, name, router);
    for (const [index, member] of router.members.entries()) {
      const path = ["virtualRouters", name, "members", index, "peers"];
      if (member.peers && router.transport === "multicast")
        context.warning(path, "peers have no effect with transport: multicast", "transport: unicast", "key");
    }
  }
};

/** Asked more often, a gateway or a program costs more than it tells. */
const FASTEST_TRACK = ms(10);

export const tracks: Check = (context) => {
  for (const [name, router] of routersOf(context.site)) {
    for (const [index, track] of router.track.entries()) {
      const path = ["virtualRouters", name, "track", index];
      if ("interface" in track) checkInterfaceName(context, track.interface, [...path, "interface"]);
      if ("pool" in track) {
        const count = Object.keys(context.site.pools[track.pool]?.backends ?? {}).length;
        if (track.pool in context.site.pools && track.atLeast > count)
          context.error(
            [...path, "atLeast"],
            `pool ${track.pool} has only ${count} backends`,
            `at most ${count}`,
          );
      }
      if ("gateway" in track) {
        const families = familiesOf(router);
        for (const [at, gateway] of track.gateway.entries()) {
          if (!families.has(ipFamily(gateway)))
            context.error(
              [...path, "gateway", at],
              `${name} has no IPv${ipFamily(gateway)} address, so this gateway cannot be probed from its links`,
            );
        }
      }
      if ("timeout" in track && (track.interval < FASTEST_TRACK || track.timeout <= 0))
        context.error(
          [...path, track.timeout <= 0 ? "timeout" : "interval"],
          `an interval of ${formatDuration(track.interval)} with a timeout of ${formatDuration(track.timeout)} leaves no time to check`,
          `an interval of ${formatDuration(FASTEST_TRACK)} at least, and a timeout above 0s`,
        );
      if ("timeout" in track && track.timeout > track.interval)
        context.warning(
          [...path, "timeout"],
          `a timeout of ${formatDuration(track.timeout)} is longer than the interval of ${formatDuration(track.interval)}`,
          "checks then come less often than the interval says",
        );
    }
  }
};

/** Two nodes in one zone fail together. Only told where zones are given at all. */
export const zones: Check = ({ site, warning }) => {
  for (const [name, router] of routersOf(site)) {
    const found = nodesOf(router).map((node) => site.nodes[node]?.zone);
    const [first] = found;
    if (found.length > 1 && first !== undefined && found.every((zone) => zone === first))
      warning(
        ["virtualRouters", name, "priorities"],
        `all nodes of ${name} are in zone ${first}`,
        "they fail together",
      );
  }
};
