/**
 * From a site to the hosts, cables and addresses of its lab. Pure: the same site gives the same plan.
 *
 * What the `lab:` section leaves out is derived: a node's interfaces from the members of its virtual
 * routers, their network from the virtual addresses, backends from the pools, free addresses by counting.
 */
import {
  type Family,
  type IpAddress,
  type IpPrefix,
  ipBytes,
  ipFamily,
  ipFromBytes,
  prefixContains,
} from "../base/addresses.ts";
import { type Result, fail, ok } from "../base/result.ts";
import type { Check, Site } from "../contracts/site.ts";
import { whyUnanswered } from "./stand-in.ts";

export interface LabInterface {
  readonly name: string;
  readonly network: string;
  /** The end of the cable on the network's side; at most 15 characters. */
  readonly port: string;
  readonly addresses: readonly { readonly address: IpAddress; readonly length: number }[];
}

export interface LabHost {
  readonly name: string;
  readonly kind: "node" | "client" | "backend";
  readonly interfaces: readonly LabInterface[];
  /** Default routes, at most one per family. */
  readonly gateways: readonly IpAddress[];
  readonly listens: readonly LabListen[];
}

/** What a backend serves, over TCP and UDP. */
export interface LabListen {
  readonly address: IpAddress;
  readonly port: number;
  /** Which it answers there. */
  readonly check: Check | undefined;
}

export interface LabNetwork {
  readonly name: string;
  readonly bridge: string;
  readonly prefixes: readonly IpPrefix[];
}

/** What the prober asks: one address and port of a service. */
export interface ProbeTarget {
  readonly service: string;
  readonly address: IpAddress;
  readonly port: number;
  readonly protocol: "tcp" | "udp";
  /** Behind a proxy: HTTP is all that it understands. */
  readonly http: boolean;
  /** The names of the backends that may answer. */
  readonly backends: readonly string[];
}

export interface LabPlan {
  readonly site: string;
  readonly networks: readonly LabNetwork[];
  readonly hosts: readonly LabHost[];
  readonly targets: readonly ProbeTarget[];
  /** Every virtual address, with its router. */
  readonly virtual: readonly { readonly address: IpAddress; readonly router: string }[];
  /** Nodes with a proxied service. */
  readonly proxies: readonly string[];
  /** A client with many cables, each with a neighbour table of its own; built by the drills that need it. */
  readonly crowd: LabHost;
}

const memberAddresses = (site: Site): { address: IpAddress; router: string }[] =>
  Object.entries(site.virtualRouters).flatMap(([router, { members }]) =>
    members.flatMap((member) =>
      member.addresses.map((one) => ({ address: typeof one === "string" ? one : one.address, router })),
    ),
  );

/** Every pool that a proxied service may ask. */
const poolsOf = (proxy: NonNullable<Site["services"][string]["proxy"]>): string[] => [
  ...(proxy.pool === undefined ? [] : [proxy.pool]),
  ...(proxy.routes ?? []).flatMap(({ pool }) =>
    typeof pool === "object" ? Object.keys(pool) : (pool ?? []),
  ),
];

/** Interfaces of the crowd: as many moments at which a client asks for the address. */
const CROWD = 8;

/** The prefix's base address plus `offset`. */
function addressAt(prefix: IpPrefix, offset: number): IpAddress | undefined {
  const bytes = Uint8Array.from(ipBytes(prefix.address));
  if (offset >= 2 ** Math.min(31, bytes.length * 8 - prefix.length)) return undefined;
  let carry = offset;
  for (let i = bytes.length - 1; i >= 0 && carry > 0; i--) {
    carry += bytes[i] ?? 0;
    bytes[i] = carry & 255;
    carry = Math.floor(carry / 256);
  }
  return ipFromBytes(bytes);
}

class Planner {
  readonly #site: Site;
  readonly #lab: NonNullable<Site["lab"]>;
  readonly #used = new Set<IpAddress>();
  readonly #ports = new Set<string>();
  readonly #virtual: readonly { address: IpAddress; router: string }[];
  readonly mistakes: string[] = [];

  constructor(site: Site, lab: NonNullable<Site["lab"]>) {
    this.#site = site;
    this.#lab = lab;
    this.#virtual = memberAddresses(site);
    for (const { address } of this.#virtual) this.#used.add(address);
    for (const node of Object.values(site.nodes)) this.#used.add(node.address);
    for (const pool of Object.values(site.pools))
      for (const backend of Object.values(pool.backends)) this.#used.add(backend.at.address);
    const given = [
      ...Object.values(lab.nodes).flatMap((one) => Object.values(one)),
      ...Object.values(lab.clients),
    ];
    for (const { addresses = [] } of given) for (const address of addresses) this.#used.add(address);
  }

  networkOf(address: IpAddress): string | undefined {
    return Object.entries(this.#lab.networks).find(([, prefixes]) =>
      prefixes.some((prefix) => prefixContains(prefix, address)),
    )?.[0];
  }

  #withLength(network: string, address: IpAddress, where: string): { address: IpAddress; length: number }[] {
    const prefix = this.#lab.networks[network]?.find((one) => prefixContains(one, address));
    if (prefix) return [{ address, length: prefix.length }];
    this.mistakes.push(`${where}: ${address} is in no prefix of lab.networks.${network}`);
    return [];
  }

  /** The given addresses, and the next free one of every prefix that has none, counting from `from`. */
  #addresses(network: string, given: readonly IpAddress[], from: number, where: string) {
    const addresses = given.flatMap((address) => this.#withLength(network, address, where));
    for (const prefix of this.#lab.networks[network] ?? []) {
      if (given.some((address) => prefixContains(prefix, address))) continue;
      let offset = from;
      let address = addressAt(prefix, offset);
      while (address !== undefined && this.#used.has(address)) address = addressAt(prefix, ++offset);
      if (address === undefined) {
        this.mistakes.push(`${where}: no free address is left in ${prefix.address}/${prefix.length}`);
        continue;
      }
      this.#used.add(address);
      addresses.push({ address, length: prefix.length });
    }
    return addresses;
  }

  #plug(
    host: string,
    name: string,
    network: string,
    given: readonly IpAddress[],
    from: number,
  ): LabInterface {
    if (this.#lab.networks[network] === undefined)
      this.mistakes.push(`${host}.${name}: lab.networks has no "${network}"`);
    const long = `${host}-${name}`;
    const port = long.length <= 15 && !this.#ports.has(long) ? long : `port${this.#ports.size}`;
    this.#ports.add(port);
    return { name, network, port, addresses: this.#addresses(network, given, from, `${host}.${name}`) };
  }

  /** The first virtual address of each family on one of these networks. */
  #gateways(networks: readonly string[]): IpAddress[] {
    const families: Family[] = [4, 6];
    return families.flatMap((family) => {
      const found = this.#virtual.find(
        ({ address }) => ipFamily(address) === family && networks.includes(this.networkOf(address) ?? ""),
      );
      return found ? [found.address] : [];
    });
  }

  nodes(): LabHost[] {
    return Object.entries(this.#site.nodes).map(([name, node], index) => {
      const wanted = new Map<string, { network: string; addresses: IpAddress[] }>();
      for (const [iface, { network, addresses }] of Object.entries(this.#lab.nodes[name] ?? {}))
        wanted.set(iface, { network, addresses });
      for (const [router, { priorities, members }] of Object.entries(this.#site.virtualRouters)) {
        if (priorities[name] === undefined) continue;
        for (const member of members) {
          const iface = typeof member.interface === "string" ? member.interface : member.interface[name];
          const first = member.addresses[0];
          const address = typeof first === "string" ? first : first?.address;
          if (iface === undefined || address === undefined) continue;
          const network = this.networkOf(address);
          if (network === undefined)
            this.mistakes.push(`virtualRouters.${router}: ${address} is in no prefix of lab.networks`);
          else if (!wanted.has(iface))
            wanted.set(iface, { network, addresses: [...(member.peers?.[name] ?? [])] });
        }
      }
      const home = this.networkOf(node.address);
      const onHome = [...wanted.values()].find(({ network }) => network === home);
      if (home === undefined)
        this.mistakes.push(`nodes.${name}: ${node.address} is in no prefix of lab.networks`);
      else if (onHome === undefined)
        wanted.set(`eth${wanted.size}`, { network: home, addresses: [node.address] });
      else if (!onHome.addresses.includes(node.address))
        onHome.addresses = [node.address, ...onHome.addresses];
      const interfaces = [...wanted].map(([iface, { network, addresses }]) =>
        this.#plug(name, iface, network, addresses, 2 + index),
      );
      // One without a virtual address answers clients as a backend does: through whoever holds one.
      const apart = Object.values(this.#site.virtualRouters).every(
        ({ priorities }) => priorities[name] === undefined,
      );
      const gateways = apart ? this.#gateways(interfaces.map(({ network }) => network)) : [];
      return { name, kind: "node", interfaces, gateways, listens: [] };
    });
  }

  /** A pool may name nodes of the site, which proxy for others. */
  #nodeAt(address: IpAddress): boolean {
    return Object.values(this.#site.nodes).some((node) => node.address === address);
  }

  backends(): LabHost[] {
    const byName = new Map<string, LabListen[]>();
    for (const [poolName, { backends, check }] of Object.entries(this.#site.pools)) {
      const unanswered = check === undefined ? undefined : whyUnanswered(check);
      let stands = false;
      for (const [name, { at }] of Object.entries(backends)) {
        if (this.#nodeAt(at.address)) continue;
        stands = true;
        const listens = byName.get(name) ?? [];
        const checked = check?.port ?? at.port;
        for (const port of new Set([at.port, checked])) {
          const there = listens.findIndex((one) => one.address === at.address && one.port === port);
          const wanted = { address: at.address, port, check: port === checked ? check : undefined };
          if (there < 0) listens.push(wanted);
          else if (listens[there]?.check === undefined) listens[there] = wanted;
        }
        byName.set(name, listens);
      }
      if (stands && unanswered !== undefined) this.mistakes.push(`pools.${poolName}.check: ${unanswered}`);
    }
    return [...byName].map(([name, listens]) => {
      const networks = [...new Set(listens.map(({ address }) => this.networkOf(address)))];
      const interfaces = networks.flatMap((network, index) => {
        const mine = listens.map(({ address }) => address).filter((one) => this.networkOf(one) === network);
        if (network !== undefined) return [this.#plug(name, `eth${index}`, network, [...new Set(mine)], 11)];
        this.mistakes.push(`backend ${name}: ${mine[0]} is in no prefix of lab.networks`);
        return [];
      });
      const gateways = this.#gateways(interfaces.map(({ network }) => network));
      return { name, kind: "backend", interfaces, gateways, listens };
    });
  }

  clients(): LabHost[] {
    const first = Object.values(this.#site.services)[0]?.listen[0]?.address ?? this.#virtual[0]?.address;
    const fallback = (first && this.networkOf(first)) ?? Object.keys(this.#lab.networks)[0] ?? "";
    return Object.entries(this.#lab.clients).map(([name, { network = fallback, addresses = [] }]) => {
      const interfaces = [this.#plug(name, "eth0", network, addresses, 100)];
      return { name, kind: "client", interfaces, gateways: this.#gateways([network]), listens: [] };
    });
  }

  /** Beside the first client. */
  crowd(client: LabHost | undefined): LabHost {
    const network = client?.interfaces[0]?.network ?? "";
    const interfaces = Array.from({ length: CROWD }, (_, i) =>
      this.#plug("crowd", `eth${i}`, network, [], 200),
    );
    return { name: "crowd", kind: "client", interfaces, gateways: [], listens: [] };
  }

  targets(): ProbeTarget[] {
    return Object.entries(this.#site.services).flatMap(([service, { listen, forward, proxy }]) =>
      listen.flatMap(({ address, ports, protocol }) => {
        // Addresses that do not move are none of the drills' business, nor is what takes a handshake of its own.
        if (!this.#virtual.some((one) => one.address === address) || proxy?.tls !== undefined) return [];
        const pools = proxy === undefined ? [forward?.pool] : poolsOf(proxy);
        const answering = pools.map((pool) => this.#answering(pool ?? ""));
        const backends = [...new Set(answering.flatMap(({ names }) => names))];
        const http = proxy !== undefined || answering.some(({ proxied }) => proxied);
        return backends.length === 0 ? [] : [{ service, address, port: ports[0], protocol, http, backends }];
      }),
    );
  }

  /** On a virtual router, or at its own address. */
  proxies(): string[] {
    const proxied = Object.values(this.#site.services).filter(({ proxy }) => proxy !== undefined);
    return Object.entries(this.#site.nodes).flatMap(([name, node]) =>
      proxied.some(({ on, listen }) =>
        on === undefined
          ? listen.some(({ address }) => address === node.address)
          : this.#site.virtualRouters[on]?.priorities[name] !== undefined,
      )
        ? [name]
        : [],
    );
  }

  /** Who answers in the end: behind a backend that is a node, the backends of what it proxies there. */
  #answering(pool: string): { readonly names: readonly string[]; readonly proxied: boolean } {
    const backends = Object.entries(this.#site.pools[pool]?.backends ?? {});
    const nodes = backends.filter(([, { at }]) => this.#nodeAt(at.address));
    const behind = nodes.flatMap(([, { at }]) =>
      Object.values(this.#site.services).flatMap(({ listen, proxy }) =>
        proxy !== undefined &&
        listen.some(({ address, ports }) => address === at.address && ports[0] === at.port)
          ? poolsOf(proxy)
          : [],
      ),
    );
    const own = backends.filter((one) => !nodes.includes(one)).map(([name]) => name);
    const theirs = behind.flatMap((one) => Object.keys(this.#site.pools[one]?.backends ?? {}));
    return { names: [...own, ...theirs], proxied: nodes.length > 0 };
  }

  plan(): LabPlan {
    const clients = this.clients();
    const hosts = [...this.nodes(), ...this.backends(), ...clients];
    const crowd = this.crowd(clients[0]);
    const seen = new Set<string>([crowd.name]);
    for (const { name } of hosts) {
      if (seen.has(name)) this.mistakes.push(`two hosts of the lab are called "${name}"`);
      seen.add(name);
    }
    const networks = Object.entries(this.#lab.networks).map(([name, prefixes], index) => ({
      name,
      bridge: name.length <= 12 ? `br-${name}` : `br${index}`,
      prefixes,
    }));
    return {
      site: this.#site.site,
      networks,
      hosts,
      targets: this.targets(),
      virtual: this.#virtual,
      proxies: this.proxies(),
      crowd,
    };
  }
}

/** The plan, or every reason why there is none. */
export function planLab(site: Site): Result<LabPlan, readonly string[]> {
  if (site.lab === undefined)
    return fail([
      "the site file has no `lab:` section; add one, such as `lab: { networks: { front: 10.0.0.0/24 } }`",
    ]);
  const planner = new Planner(site, site.lab);
  const plan = planner.plan();
  return planner.mistakes.length > 0 ? fail([...new Set(planner.mistakes)]) : ok(plan);
}
