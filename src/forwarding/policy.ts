/**
 * The kernel's tables from a site: one per family, static rules with all data in maps.
 *
 *   prerouting, output   guard: address . protocol . port leads to a service's chain; others never meet a rule
 *   service-NAME         marks the connection, then slot -> address . port
 *   postrouting          masquerade, hairpin, local clients, answers of unknown connections
 *   count                packets and bytes per service, direction and backend
 *
 * No packet mark is read or written: the choice lives in registers within one rule, so that others' marks and
 * routing rules by mark are left alone.
 */
import { type Family, ipBytes, ipFamily } from "../base/addresses.ts";
import { hashName } from "../balancing/hash.ts";
import type { LocalPrefix } from "../contracts/forwarding.ts";
import type { ForwardService, Listen, Site } from "../contracts/site.ts";
import {
  concat,
  destinationAddress,
  elementMap,
  hostU32,
  immediate,
  isEqual,
  lookup,
  payload,
  u16Bytes,
} from "../linux/nftables/expressions.ts";
import type {
  Expression,
  NftChain,
  NftElement,
  NftFamily,
  NftRule,
  NftSet,
  NftTable,
  NftType,
} from "../linux/nftables/model.ts";
import type { Ids } from "./ids.ts";
import { type PoolDecision, backendKey } from "./machine.ts";
import { MARK_MASK, MARK_SIGNATURE, SIGNATURE_MASK, serviceMark } from "./marks.ts";
import { type FrameLink, directLink, directTable, reachable } from "./policy-direct.ts";
import { Kept } from "./policy-kept.ts";
import { natParts } from "./policy-nat.ts";
import {
  CLOSING_EVENTS,
  PROTOCOLS,
  type ServiceInput,
  type ServiceParts,
  addressType,
  addressWords,
  chainOf,
  keepsPort,
  ofFamily,
  serviceParts,
} from "./policy-service.ts";

export const TABLE = "nines";
export const FAMILIES: readonly { readonly family: Family; readonly table: NftFamily }[] = [
  { family: 4, table: "ip" },
  { family: 6, table: "ip6" },
];

export interface TableInput {
  readonly site: Site;
  readonly node: string;
  readonly pools: ReadonlyMap<string, PoolDecision>;
  readonly serviceIds: Ids;
  readonly prefixes: readonly LocalPrefix[];
  /** Needed where a service is direct. */
  readonly links?: readonly FrameLink[];
  /** Weights by service and backend that replace the pool's: least connections. */
  readonly weights?: ReadonlyMap<string, ReadonlyMap<string, number>>;
  /** The kernel has persistent tables with an owner. */
  readonly owned: boolean;
}

/** Families of tables, in the order in which they are read and written. */
export const TABLES: readonly NftFamily[] = ["ip", "ip6", "netdev"];

/** The seed of a site's hashes: nodes with the same site agree, and a reload does not change it. */
export const siteSeed = (site: string): number => hashName(`site/${site}`, 0x6e696e65);

/** The forwarded services of a site. */
export const forwarded = (site: Site): [string, ForwardService][] =>
  Object.entries(site.services).flatMap(([name, service]): [string, ForwardService][] =>
    service.forward === undefined ? [] : [[name, service]],
  );

export const isDirect = (service: ForwardService): boolean => service.forward.mode === "direct";

/** Services whose connections are translated. */
export const serviceInputs = (input: TableInput, family: Family): ServiceInput[] =>
  inputsOf(input, family).filter((one) => !isDirect(one.service));
/** Services whose packets are sent on as they are, with the link that leads to the backends. */
export const directInputs = (
  input: TableInput,
  family: Family,
): { readonly input: ServiceInput; readonly link: FrameLink | undefined }[] =>
  inputsOf(input, family)
    .filter((one) => isDirect(one.service))
    .map((one) => {
      const link = directLink(one, input.prefixes, input.links ?? []);
      return { input: reachable(one, link, input.prefixes), link };
    });

function inputsOf(input: TableInput, family: Family): ServiceInput[] {
  const seed = siteSeed(input.site.site);
  return forwarded(input.site).flatMap(([name, service]): ServiceInput[] => {
    const listen = service.listen.filter((one) => ipFamily(one.address) === family);
    const pool = input.pools.get(service.forward.pool);
    const id = input.serviceIds.get(name);
    if (listen.length === 0 || !pool || id === undefined) return [];
    return [{ name, service, family, listen, pool, id, seed, weights: input.weights?.get(name) }];
  });
}

/** Only families that have a service get a table. What did not change is the same object as in `kept`. */
export function buildTables(input: TableInput, kept: Kept = new Kept()): NftTable[] {
  const tables = FAMILIES.flatMap(({ family, table }) => {
    const services = serviceInputs(input, family);
    return services.length === 0 ? [] : [buildTable(input, family, table, services, kept)];
  });
  const direct = buildDirect(input, kept);
  if (direct !== undefined) tables.push(direct);
  kept.sweep();
  return tables;
}

/** Interfaces on which frames to the addresses of direct services come in, virtual MAC addresses included. */
export function directDevices({ site, node, links = [] }: TableInput): string[] {
  const found = new Set<string>();
  for (const [, service] of forwarded(site)) {
    if (!isDirect(service)) continue;
    for (const member of site.virtualRouters[service.on]?.members ?? []) {
      const name = typeof member.interface === "string" ? member.interface : member.interface[node];
      const parent = links.find((one) => one.name === name);
      if (parent === undefined) continue;
      found.add(parent.name);
      for (const one of links)
        if (one.parent === parent.index && /^v[46]-\d+-\d+$/.test(one.name)) found.add(one.name);
    }
  }
  return [...found].sort();
}

function buildDirect(input: TableInput, kept: Kept): NftTable | undefined {
  const all = FAMILIES.flatMap(({ family }) => directInputs(input, family));
  if (all.length === 0) return undefined;
  const weights = all.flatMap(({ input: { pool } }) => pool.backends.map((one) => one.weight));
  const of = [input.site, input.serviceIds, input.prefixes, input.links, ...weights];
  return kept.part("direct", of, () => {
    const services = all.flatMap(({ input: one, link }) =>
      link === undefined ? [] : [{ input: one, link }],
    );
    return directTable({ services, devices: directDevices(input), owned: input.owned }, TABLE);
  });
}

function buildTable(
  input: TableInput,
  family: Family,
  table: NftFamily,
  services: readonly ServiceInput[],
  kept: Kept,
): NftTable {
  const { site, node, prefixes, serviceIds } = input;
  const parts = services.map((one) => {
    // Names and addresses are the site's; what changes beside them are weights.
    const weights = one.pool.backends.map((backend) => backend.weight);
    const of = [site, one.id, one.weights, ...weights];
    return kept.part(`${family} service ${one.name}`, of, (before?: ServiceParts) =>
      serviceParts(one, before),
    );
  });
  const nat = kept.part(`${family} nat`, [site, node, serviceIds, prefixes], () =>
    natParts({ site, node, family, services, prefixes }),
  );
  const guard = kept.part(`${family} guard`, [site, serviceIds], () => guardParts(family, services));
  const count = kept.part(`${family} count`, [site, serviceIds], () => countParts(family, services));
  const base = (
    name: string,
    type: "nat" | "filter",
    hook: "prerouting" | "output" | "postrouting" | "forward",
    priority: number,
    rules: readonly NftRule[],
  ): NftChain => ({ name, hook: { type, hook, priority, policy: "accept" }, rules });
  return {
    family: table,
    name: TABLE,
    ...(input.owned ? { owner: true, persist: true } : {}),
    sets: [...guard.sets, ...count.sets, ...nat.sets, ...parts.flatMap((one) => one.sets)],
    chains: [
      ...parts.flatMap((one) => one.chains),
      base("prerouting", "nat", "prerouting", -100, guard.rules),
      base("output", "nat", "output", -100, [
        { comment: "only while the address is here", ...onlyLocal },
        ...guard.rules,
      ]),
      // Before others' source NAT, which would end the search for a rule.
      base("postrouting", "nat", "postrouting", 99, [
        ...count.connections,
        ...parts.flatMap((one) => one.remember),
        ...nat.rules,
      ]),
      base("count", "filter", "forward", 0, [...parts.flatMap((one) => one.forward), ...count.rules]),
      ...(family === 4 ? [base("redirects", "filter", "output", 0, [noRedirects])] : []),
    ],
  };
}

/** RTN_LOCAL = 2: elsewhere, a client on this node reaches the address over the network like any other. */
const onlyLocal: NftRule = {
  expressions: [
    { kind: "fib", of: "daddr", register: 0 },
    { kind: "cmp", register: 0, op: "neq", value: hostU32(2) },
    { kind: "verdict", verdict: { code: "return" } },
  ],
};

/** FIN or RST in one of our connections: the flows room hears of its end at once, not when TIME_WAIT is over. */
const closing: NftRule = {
  comment: "connections that close",
  expressions: [
    { kind: "meta", key: "l4proto", register: 0 },
    isEqual(0, Uint8Array.of(PROTOCOLS.tcp)),
    payload("transport", 13, 1, 0),
    { kind: "bitwise", from: 0, to: 0, mask: Uint8Array.of(0x05), xor: Uint8Array.of(0) },
    { kind: "cmp", register: 0, op: "neq", value: Uint8Array.of(0) },
    { kind: "ct", key: "mark", register: 0 },
    { kind: "bitwise", from: 0, to: 0, mask: hostU32(SIGNATURE_MASK), xor: hostU32(0) },
    isEqual(0, hostU32(MARK_SIGNATURE)),
    immediate(0, hostU32(CLOSING_EVENTS)),
    { kind: "ct-set", key: "eventmask", register: 0 },
  ],
};

/**
 * Where a client shares the backend's link, the kernel would tell it by ICMP redirect to reach the virtual
 * address at the backend directly. (IPv6 redirects name the backend's address and do no harm.)
 */
const noRedirects: NftRule = {
  comment: "no redirects for service connections",
  expressions: [
    { kind: "meta", key: "l4proto", register: 0 },
    isEqual(0, Uint8Array.of(1)),
    payload("transport", 0, 1, 0),
    isEqual(0, Uint8Array.of(5)),
    { kind: "ct", key: "mark", register: 0 },
    { kind: "bitwise", from: 0, to: 0, mask: hostU32(SIGNATURE_MASK), xor: hostU32(0) },
    isEqual(0, hostU32(MARK_SIGNATURE)),
    { kind: "verdict", verdict: { code: "drop" } },
  ],
};

function guardParts(family: Family, services: readonly ServiceInput[]): { sets: NftSet[]; rules: NftRule[] } {
  const single: NftElement[] = [];
  const ranges: NftElement[] = [];
  for (const { name, listen: listens } of services) {
    for (const listen of listens) {
      const key = (port: number) => guardKey(listen, port);
      const [first, last] = listen.ports;
      const data = { code: "goto", chain: chainOf(name, listen) } as const;
      if (first === last) single.push({ key: key(first), data, comment: name });
      else ranges.push({ key: key(first), keyEnd: key(last), data, comment: name });
    }
  }
  const type = addressType(family);
  const key: NftType[] = [type, "proto", "port"];
  const words = addressWords(family);
  const load: Expression[] = [
    destinationAddress(family, 0),
    { kind: "meta", key: "l4proto", register: words },
    payload("transport", 2, 2, words + 1),
  ];
  const set = (name: string, elements: NftElement[], interval: boolean): NftSet => ({
    name,
    key,
    data: "verdict",
    ...(interval ? { interval } : {}),
    counter: true,
    elements: elementMap(elements),
  });
  const rule = (name: string): NftRule => ({ expressions: [...load, lookup(name, 0, "verdict")] });
  return ranges.length === 0
    ? { sets: [set("services", single, false)], rules: [rule("services")] }
    : {
        sets: [set("services", single, false), set("ranges", ranges, true)],
        rules: [rule("services"), rule("ranges")],
      };
}

const guardKey = (listen: Listen, port: number): Uint8Array =>
  concat(ipBytes(listen.address), Uint8Array.of(PROTOCOLS[listen.protocol]), u16Bytes(port));

/** Directions of a connection as conntrack numbers them: 0 is the client's. */
export const trafficKey = (mark: number, direction: 0 | 1, address: Uint8Array, port?: number): Uint8Array =>
  concat(hostU32(mark), Uint8Array.of(direction), address, ...(port === undefined ? [] : [u16Bytes(port)]));

interface CountParts {
  readonly sets: NftSet[];
  /** For all packets. */
  readonly rules: NftRule[];
  /** For the first packet of a connection. */
  readonly connections: NftRule[];
}

function countParts(family: Family, services: readonly ServiceInput[]): CountParts {
  const exact: NftElement[] = [];
  const kept: NftElement[] = [];
  const made: NftElement[] = [];
  for (const { id, listen, pool } of services) {
    for (const backend of ofFamily(pool, family)) {
      const comment = backendKey(pool.pool, backend.name);
      const { address, port } = backend.backend.at;
      made.push({ key: concat(hostU32(serviceMark(id)), ipBytes(address), u16Bytes(port)), comment });
      if (listen.some((one) => keepsPort(one, backend)))
        made.push({ key: concat(hostU32(serviceMark(id)), ipBytes(address), u16Bytes(0)), comment });
      for (const direction of [0, 1] as const) {
        const at = ipBytes(address);
        exact.push({ key: trafficKey(serviceMark(id), direction, at, port), comment });
        if (listen.some((one) => keepsPort(one, backend)))
          kept.push({ key: trafficKey(serviceMark(id), direction, at), comment });
      }
    }
  }
  const type = addressType(family);
  const words = addressWords(family);
  const load: Expression[] = [
    { kind: "ct", key: "mark", register: 0 },
    { kind: "bitwise", from: 0, to: 0, mask: hostU32(MARK_MASK), xor: hostU32(0) },
    { kind: "ct", key: "direction", register: 1 },
    { kind: "ct", key: family === 4 ? "src-ip" : "src-ip6", register: 2, direction: "reply" },
  ];
  const withPort: Expression[] = [
    ...load,
    { kind: "ct", key: "proto-src", register: 2 + words, direction: "reply" },
    lookup("traffic", 0),
    { kind: "verdict", verdict: { code: "accept" } },
  ];
  // A connection to a port of a range is looked for under port 0.
  const first = (port: Expression): Expression[] => [
    { kind: "ct", key: "mark", register: 0 },
    { kind: "bitwise", from: 0, to: 0, mask: hostU32(MARK_MASK), xor: hostU32(0) },
    { kind: "ct", key: family === 4 ? "src-ip" : "src-ip6", register: 1, direction: "reply" },
    port,
    lookup("connections", 0),
  ];
  const sets: NftSet[] = [
    { name: "traffic", key: ["mark", "direction", type, "port"], counter: true, elements: elementMap(exact) },
    { name: "connections", key: ["mark", type, "port"], counter: true, elements: elementMap(made) },
  ];
  const rules: NftRule[] = [closing, { comment: "per backend", expressions: withPort }];
  const connections: NftRule[] = [
    {
      comment: "new connections",
      expressions: first({ kind: "ct", key: "proto-src", register: 1 + words, direction: "reply" }),
    },
  ];
  if (kept.length > 0) {
    sets.push({
      name: "traffic-ranges",
      key: ["mark", "direction", type],
      counter: true,
      elements: elementMap(kept),
    });
    rules.push({ comment: "per backend, any port", expressions: [...load, lookup("traffic-ranges", 0)] });
    connections.push({
      comment: "new connections, any port",
      expressions: first(immediate(1 + words, u16Bytes(0))),
    });
  }
  return { sets, rules, connections };
}
