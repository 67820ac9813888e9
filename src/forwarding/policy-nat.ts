/** Source addresses: masquerade, hairpin, local clients, and packets of flows that nobody knows any more. */
import {
  type Family,
  type IpAddress,
  type IpPrefix,
  ipBytes,
  ipFamily,
  prefixContains,
} from "../base/addresses.ts";
import type { Listen, Site } from "../contracts/site.ts";
import {
  concat,
  destinationAddress,
  elementMap,
  hostU32,
  immediate,
  isEqual,
  lookup,
  payload,
  sourceAddress,
  u16Bytes,
} from "../linux/nftables/expressions.ts";
import type { Expression, NftElement, NftRule, NftSet } from "../linux/nftables/model.ts";
import { MARK_MASK, MARK_SIGNATURE, SIGNATURE_MASK, serviceMark } from "./marks.ts";
import { PROTOCOLS, type ServiceInput, addressType, addressWords, ofFamily } from "./policy-service.ts";

const ZERO = hostU32(0);
/** The mark's own bits in register 0. */
const maskedMark = (mask: number): Expression[] => [
  { kind: "ct", key: "mark", register: 0 },
  { kind: "bitwise", from: 0, to: 0, mask: hostU32(mask), xor: ZERO },
];

/** First and last source port of this node: nodes that share an address never pick the same port. */
export function portShare(nodes: readonly string[], node: string): readonly [number, number] {
  const sorted = nodes.toSorted();
  const index = Math.max(0, sorted.indexOf(node));
  const width = Math.floor((65536 - 1024) / Math.max(1, sorted.length));
  return [1024 + index * width, 1024 + (index + 1) * width - 1];
}

/** All virtual addresses of a router, in the order of the site file. */
export function virtualAddresses(site: Site, router: string): IpAddress[] {
  const members = site.virtualRouters[router]?.members ?? [];
  return members.flatMap((member) =>
    member.addresses.map((one) => (typeof one === "string" ? one : one.address)),
  );
}

export interface NatInput {
  readonly site: Site;
  readonly node: string;
  readonly family: Family;
  readonly services: readonly ServiceInput[];
  /** Links of this node, so that clients beside the backends are known. */
  readonly prefixes: readonly IpPrefix[];
}

export interface NatParts {
  readonly sets: readonly NftSet[];
  readonly rules: readonly NftRule[];
}

/** The parts of the postrouting chain, in their order. */
export function natParts(input: NatInput): NatParts {
  const parts = [masquerade(input), hairpin(input), local(), reverse(input)];
  return { sets: parts.flatMap((one) => one.sets), rules: parts.flatMap((one) => one.rules) };
}

function masquerade({ site, node, family, services }: NatInput): NatParts {
  const sets: NftSet[] = [];
  const rules: NftRule[] = [];
  // Routers differ in their nodes, and with them in the ports that are this node's.
  const routers = new Set(services.map((one) => one.service.on));
  for (const router of [...routers].sort()) {
    const elements: NftElement[] = [];
    for (const { service, name, id } of services) {
      const to = service.forward.masquerade;
      if (service.on !== router || to === false || ipFamily(to) !== family) continue;
      elements.push({ key: hostU32(serviceMark(id)), data: ipBytes(to), comment: name });
    }
    if (elements.length === 0) continue;
    const set = `masquerade-${router}`;
    const nodes = Object.keys(site.virtualRouters[router]?.priorities ?? {});
    const [first, last] = portShare(nodes, node);
    sets.push({ name: set, key: ["mark"], data: [addressType(family)], elements: elementMap(elements) });
    rules.push({
      comment: `masquerade behind a virtual address of ${router}`,
      expressions: [
        ...maskedMark(MARK_MASK),
        lookup(set, 0, 4),
        immediate(8, u16Bytes(first)),
        immediate(9, u16Bytes(last)),
        { kind: "nat", type: "snat", family, address: 4, ports: [8, 9], flags: ["fully-random"] },
      ],
    });
  }
  return { sets, rules };
}

function lastOf(prefix: IpPrefix): Uint8Array {
  const bytes = ipBytes(prefix.address);
  return bytes.map((byte, i) => {
    const bits = Math.min(8, Math.max(0, prefix.length - 8 * i));
    return byte | (0xff >> bits);
  });
}

/**
 * A client on the backend's own link would get the answer directly, from an address it never asked: its
 * connection is masqueraded behind a virtual address, on that link where there is one.
 */
function hairpin({ site, family, services, prefixes }: NatInput): NatParts {
  const links = prefixes.filter((one) => ipFamily(one.address) === family);
  const widest = links.filter(
    (one) =>
      !links.some(
        (other) => other !== one && other.length < one.length && prefixContains(other, one.address),
      ),
  );
  const elements: NftElement[] = [];
  for (const one of services) {
    const [listen] = one.listen;
    if (!listen) continue;
    const mark = hostU32(serviceMark(one.id));
    const virtual = virtualAddresses(site, one.service.on).filter((ip) => ipFamily(ip) === family);
    const backends = ofFamily(one.pool, family);
    for (const link of widest) {
      if (!backends.some((backend) => prefixContains(link, backend.backend.at.address))) continue;
      const source = virtual.find((ip) => prefixContains(link, ip)) ?? listen.address;
      const [low, high] = [ipBytes(link.address), lastOf(link)];
      elements.push({
        key: concat(mark, low, low),
        keyEnd: concat(mark, high, high),
        data: ipBytes(source),
        comment: one.name,
      });
    }
  }
  if (elements.length === 0) return { sets: [], rules: [] };
  const type = addressType(family);
  const words = addressWords(family);
  return {
    sets: [
      {
        name: "hairpin",
        key: ["mark", type, type],
        data: [type],
        interval: true,
        elements: elementMap(elements),
      },
    ],
    rules: [
      {
        comment: "clients on the backend's own link",
        expressions: [
          ...maskedMark(MARK_MASK),
          sourceAddress(family, 1),
          destinationAddress(family, 1 + words),
          lookup("hairpin", 0, 12),
          { kind: "nat", type: "snat", family, address: 12 },
        ],
      },
    ],
  };
}

/** RTN_LOCAL. */
const LOCAL = hostU32(2);
/** A client on this node: its connection dies with the node anyway, so the node's own address will do. */
const local = (): NatParts => ({
  sets: [],
  rules: [
    {
      comment: "clients on this node",
      expressions: [
        ...maskedMark(SIGNATURE_MASK),
        isEqual(0, hostU32(MARK_SIGNATURE)),
        { kind: "fib", of: "saddr", register: 0 },
        isEqual(0, LOCAL),
        { kind: "masquerade" },
      ],
    },
  ],
});

/**
 * A backend's packet of a connection that this node does not know (its table was lost) still leaves with the
 * service's address. Only where a backend's address, protocol and port belong to one service alone. A plain
 * SYN is a connection of the backend's own and left alone.
 */
function reverse({ family, services }: NatInput): NatParts {
  const owners = new Map<string, NftElement | "ambiguous">();
  for (const { service, listen: listens, pool, name } of services) {
    if (service.forward.masquerade !== false) continue;
    for (const listen of listens) {
      for (const { backend } of ofFamily(pool, family)) {
        for (const element of reverseElements(listen, backend.at.address, backend.at.port, name)) {
          const key = element.key.join(".");
          owners.set(key, owners.has(key) ? "ambiguous" : element);
        }
      }
    }
  }
  const elements = [...owners.values()].filter((one) => one !== "ambiguous");
  if (elements.length === 0) return { sets: [], rules: [] };
  const type = addressType(family);
  const words = addressWords(family);
  const translate: Expression[] = [
    sourceAddress(family, 0),
    { kind: "meta", key: "l4proto", register: words },
    payload("transport", 0, 2, words + 1),
    lookup("reverse", 0, 8),
    { kind: "nat", type: "snat", family, address: 8, ports: [8 + words, 8 + words] },
  ];
  const protocol = (number: number): Expression[] => [
    { kind: "meta", key: "l4proto", register: 0 },
    isEqual(0, Uint8Array.of(number)),
  ];
  return {
    sets: [
      {
        name: "reverse",
        key: [type, "proto", "port"],
        data: [type, "port"],
        elements: elementMap(elements),
      },
    ],
    rules: [
      {
        comment: "answers of unknown connections",
        expressions: [
          ...protocol(PROTOCOLS.tcp),
          payload("transport", 13, 1, 0),
          { kind: "bitwise", from: 0, to: 0, mask: Uint8Array.of(0x12), xor: Uint8Array.of(0) },
          { kind: "cmp", register: 0, op: "neq", value: Uint8Array.of(0x02) },
          ...translate,
        ],
      },
      { comment: "answers of unknown connections", expressions: [...protocol(PROTOCOLS.udp), ...translate] },
    ],
  };
}

/** Of a range only where the backend keeps the port and the range is short: else there is no one answer. */
const REVERSE_PORTS = 256;
function reverseElements(listen: Listen, backend: IpAddress, port: number, name: string): NftElement[] {
  const [first, last] = listen.ports;
  if (first !== last && (port !== first || last - first >= REVERSE_PORTS)) return [];
  return Array.from({ length: last - first + 1 }, (_, i) => ({
    key: concat(ipBytes(backend), Uint8Array.of(PROTOCOLS[listen.protocol]), u16Bytes(port + i)),
    data: concat(ipBytes(listen.address), u16Bytes(first + i)),
    comment: name,
  }));
}
