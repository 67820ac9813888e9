/**
 * Direct server return: packets go to the backend's MAC address with all else untouched, the answers do not pass here.
 * Where frames come in (netdev, ingress), before routing and connection tracking, which would see half a connection:
 *
 *   ingress              guard: a local address . protocol . port leads to the service's chain; others go on as ever
 *   direct-NAME.tcp4     a known connection to its backend, and its time anew; others by the hash
 *   to-NAME.tcp4.BACKEND remembers the connection, and sends the packet to the neighbour
 *   errors-NAME.tcp4     ICMP errors about answers (packet too big): to the backend that they are about
 *
 * The kernel's neighbour table knows the MAC addresses. All nodes hash alike, so that another node sends a connection
 * that it never saw to the same backend.
 */
import { type Family, formatIpPort, ipBytes, ipFamily, prefixContains } from "../base/addresses.ts";
import type { LocalPrefix } from "../contracts/forwarding.ts";
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
import type {
  Expression,
  NftChain,
  NftElement,
  NftRule,
  NftSet,
  NftTable,
  NftType,
} from "../linux/nftables/model.ts";
import { type BackendDecision, backendKey } from "./machine.ts";
import { serviceMark } from "./marks.ts";
import {
  PROTOCOLS,
  type ServiceInput,
  addressType,
  addressWords,
  ofFamily,
  slotCount,
  slotsOf,
} from "./policy-service.ts";

type Protocol = keyof typeof PROTOCOLS;

/** A link of this node, as far as frames are concerned. */
export interface FrameLink {
  readonly name: string;
  readonly index: number;
  readonly parent: number | undefined;
}

/** Connections that are remembered per service, protocol and family; those beyond go by the hash alone. */
const CONNECTIONS = 65_536;
/** How long a connection without a packet is remembered, in milliseconds. */
const IDLE = { tcp: 900_000, udp: 300_000 } as const;

/** The one link over which a service's backends are reached: that of the first one that is on any. */
export function directLink(
  input: ServiceInput,
  prefixes: readonly LocalPrefix[],
  links: readonly FrameLink[],
): FrameLink | undefined {
  for (const { backend } of ofFamily(input.pool, input.family)) {
    const device = deviceOf(backend.at, prefixes);
    const link = links.find(({ name }) => name === device);
    if (link) return link;
  }
  return undefined;
}
const deviceOf = ({ address }: BackendDecision["backend"]["at"], prefixes: readonly LocalPrefix[]) =>
  prefixes.find((one) => ipFamily(one.address) === ipFamily(address) && prefixContains(one, address))?.device;

/** Without the backends that are not on the link: nobody there knows their MAC address. */
export function reachable(
  input: ServiceInput,
  link: FrameLink | undefined,
  prefixes: readonly LocalPrefix[],
): ServiceInput {
  const backends = input.pool.backends.map((one) =>
    link !== undefined && deviceOf(one.backend.at, prefixes) === link.name
      ? one
      : { ...one, weight: 0, keepsClients: false },
  );
  return { ...input, pool: { ...input.pool, backends } };
}

/** What an operator should know of a service's backends. */
export function directNotes(
  input: ServiceInput,
  link: FrameLink | undefined,
  prefixes: readonly LocalPrefix[],
): string[] {
  const off = ofFamily(input.pool, input.family).filter(
    ({ backend }) => link === undefined || deviceOf(backend.at, prefixes) !== link.name,
  );
  const notes = off.map(
    ({ name, backend }) =>
      `${name} gets no packets: ${formatIpPort(backend.at)} is not on ${link === undefined ? "a link of this node" : `${link.name}, where the others are`}`,
  );
  const addresses = [...new Set(input.listen.map((one) => one.address))].join(" and ");
  return [
    ...notes,
    `each backend needs ${addresses} on its loopback and must not answer ARP for it; its answers do not pass this node`,
    "no connection is replicated: all nodes choose alike by hash",
  ];
}

export const connectionsSet = (name: string, protocol: Protocol, family: Family): string =>
  `connections-${name}.${protocol}${family}`;

export function connectionsMap(name: string, protocol: Protocol, family: Family): NftSet {
  const type = addressType(family);
  return {
    name: connectionsSet(name, protocol, family),
    key: [type, "port", type, "port"],
    data: [type],
    dynamic: true,
    timeout: 0,
    size: CONNECTIONS,
    elements: new Map(),
  };
}
export const protocolsOf = (input: ServiceInput): Protocol[] => [
  ...new Set(input.listen.map((one) => one.protocol)),
];

/** Registers behind the key (two addresses and ports): an address, and a link's number. */
const value = (family: Family): number => (family === 4 ? 8 : 10);
const device = (family: Family): number => value(family) + addressWords(family);

const ETHER_TYPE = { 4: Uint8Array.of(0x08, 0x00), 6: Uint8Array.of(0x86, 0xdd) } as const;
const ICMP = { 4: 1, 6: 58 } as const;
const isFamily = (family: Family): Expression[] => [
  { kind: "meta", key: "protocol", register: 0 },
  isEqual(0, ETHER_TYPE[family]),
];
const isProtocol = (number: number): Expression[] => [
  { kind: "meta", key: "l4proto", register: 0 },
  isEqual(0, Uint8Array.of(number)),
];

/** Client, its port, the service's address, its port: of the packet. */
function ofPacket(family: Family, protocol: Protocol): Expression[] {
  const words = addressWords(family);
  return [
    ...isFamily(family),
    ...isProtocol(PROTOCOLS[protocol]),
    sourceAddress(family, 0),
    payload("transport", 0, 2, words),
    destinationAddress(family, words + 1),
    payload("transport", 2, 2, 2 * words + 1),
  ];
}
/** Where the packet that an ICMP error is about has its fields; an IPv4 header without options. */
const INNER = {
  4: { protocol: 17, source: 20, destination: 24, sourcePort: 28, destinationPort: 30 },
  6: { protocol: 14, source: 16, destination: 32, sourcePort: 48, destinationPort: 50 },
} as const;
/** The same four of the answer that an ICMP error is about: there they are the other way round. */
function ofError(family: Family): Expression[] {
  const words = addressWords(family);
  const inner = INNER[family];
  return [
    ...isFamily(family),
    ...isProtocol(ICMP[family]),
    payload("transport", inner.destination, 4 * words, 0),
    payload("transport", inner.destinationPort, 2, words),
    payload("transport", inner.source, 4 * words, words + 1),
    payload("transport", inner.sourcePort, 2, 2 * words + 1),
  ];
}

const send = (family: Family, link: FrameLink): Expression[] => [
  immediate(device(family), hostU32(link.index)),
  { kind: "fwd", device: device(family), address: value(family), family },
];

function protocolParts(
  input: ServiceInput,
  protocol: Protocol,
  link: FrameLink,
): { sets: NftSet[]; chains: NftChain[] } {
  const { name, family, seed } = input;
  const at = `${name}.${protocol}${family}`;
  const words = addressWords(family);
  const none = new Uint8Array(4 * words);
  const known = connectionsMap(name, protocol, family);
  const slots = `slots-${at}`;
  const backends = ofFamily(input.pool, family);
  const chosen = slotsOf(input);
  const elements = chosen.flatMap((backend, slot): NftElement[] => [
    {
      key: hostU32(slot),
      data: { code: "goto", chain: `to-${at}.${backend}` },
      comment: backendKey(input.pool.pool, backend),
    },
  ]);
  const key = ofPacket(family, protocol);
  const timeout = IDLE[protocol];
  // The kernel's `update` renews an element and leaves where it leads; nft 1.0.6 cannot list it with a looked-up value.
  const renew: NftRule = {
    comment: "a known connection lives on",
    expressions: [
      ...key,
      lookup(known.name, 0, value(family)),
      immediate(value(family), none),
      { kind: "dynset", op: "update", set: known.name, key: 0, data: value(family), timeout },
    ],
  };
  const go = (load: Expression[]): NftRule => ({
    comment: "a known connection to its backend",
    expressions: [
      ...load,
      lookup(known.name, 0, value(family)),
      // It ran out between the two lookups of the rule before.
      { kind: "cmp", register: value(family), op: "neq", value: none },
      ...send(family, link),
    ],
  });
  const choose = (load: Expression[]): NftRule => ({
    comment: "choose a backend",
    expressions: [
      ...load,
      {
        kind: "jhash",
        from: 0,
        length: input.service.forward.scheduler === "source" ? 4 * words : 4 * words + 4,
        to: value(family),
        modulus: slotCount(input),
        seed,
      },
      lookup(slots, value(family), "verdict"),
    ],
  });
  const to = backends.map(
    ({
      name: backend,
      backend: {
        at: { address },
      },
    }): NftChain => {
      const data = immediate(value(family), ipBytes(address));
      return {
        name: `to-${at}.${backend}`,
        rules: [
          {
            comment: "remember the connection",
            expressions: [
              ...key,
              data,
              { kind: "dynset", op: "update", set: known.name, key: 0, data: value(family), timeout },
            ],
          },
          { comment: backend, expressions: [data, ...send(family, link)] },
        ],
      };
    },
  );
  const inner = ofError(family);
  // Without a backend the packets go up: nobody listens there, and the kernel answers with a RST or port unreachable.
  const rules = chosen.length === 0 ? [renew, go(key)] : [renew, go(key), choose(key)];
  return {
    sets: [
      known,
      ...(chosen.length === 0
        ? []
        : [
            {
              name: slots,
              key: ["mark"] as const,
              data: "verdict" as const,
              counter: true,
              size: slotCount(input),
              elements: elementMap(elements),
            },
          ]),
    ],
    chains: [
      ...to,
      { name: `direct-${at}`, rules },
      { name: `errors-${at}`, rules: chosen.length === 0 ? [go(inner)] : [go(inner), choose(inner)] },
    ],
  };
}

/** The first packet that leads to a service: `local` says only while its address is on this node. */
function guard(family: Family, services: readonly ServiceInput[]): { sets: NftSet[]; rules: NftRule[] } {
  const type = addressType(family);
  const words = addressWords(family);
  const key: NftType[] = [type, "proto", "port"];
  const elements = (kind: "direct" | "errors"): NftElement[] =>
    services.flatMap(({ name, listen }) =>
      listen.map((one): NftElement => {
        const [first, last] = one.ports;
        const at = (port: number) =>
          concat(ipBytes(one.address), Uint8Array.of(PROTOCOLS[one.protocol]), u16Bytes(port));
        const data = { code: "goto", chain: `${kind}-${name}.${one.protocol}${family}` } as const;
        return { key: at(first), keyEnd: at(last), data, comment: name };
      }),
    );
  const set = (kind: "direct" | "errors"): NftSet => ({
    name: `${kind}.${family}`,
    key,
    data: "verdict",
    interval: true,
    counter: true,
    elements: elementMap(elements(kind)),
  });
  const local: Expression[] = [
    ...isFamily(family),
    { kind: "fib", of: "daddr", register: 0 },
    isEqual(0, hostU32(2)),
  ];
  const inner = INNER[family];
  return {
    sets: [set("direct"), set("errors")],
    rules: [
      {
        comment: "services",
        expressions: [
          ...local,
          destinationAddress(family, 0),
          { kind: "meta", key: "l4proto", register: words },
          payload("transport", 2, 2, words + 1),
          lookup(`direct.${family}`, 0, "verdict"),
        ],
      },
      {
        comment: "ICMP errors about their answers",
        expressions: [
          ...local,
          ...isProtocol(ICMP[family]),
          payload("transport", 0, 1, 0),
          // Destination unreachable (3), which says that a packet is too big; in ICMPv6 1 and 2.
          family === 4
            ? isEqual(0, Uint8Array.of(3))
            : { kind: "cmp", register: 0, op: "lte", value: Uint8Array.of(2) },
          payload("transport", inner.source, 4 * words, 0),
          payload("transport", inner.protocol, 1, words),
          payload("transport", inner.sourcePort, 2, words + 1),
          lookup(`errors.${family}`, 0, "verdict"),
        ],
      },
    ],
  };
}

export interface DirectInput {
  /** Of both families, with their reachable backends only, and the link that leads to them. */
  readonly services: readonly { readonly input: ServiceInput; readonly link: FrameLink }[];
  /** Where frames to the services come in. */
  readonly devices: readonly string[];
  readonly owned: boolean;
}

/** One table for both families; undefined where there is nothing to send. */
export function directTable({ services, devices, owned }: DirectInput, name: string): NftTable | undefined {
  if (services.length === 0 || devices.length === 0) return undefined;
  const parts = services.flatMap(({ input, link }) =>
    protocolsOf(input).map((protocol) => protocolParts(input, protocol, link)),
  );
  const families = ([4, 6] as const).flatMap((family) => {
    const own = services.map(({ input }) => input).filter((one) => one.family === family);
    return own.length === 0 ? [] : [{ ...guard(family, own), members: members(family, own) }];
  });
  return {
    family: "netdev",
    name,
    ...(owned ? { owner: true, persist: true } : {}),
    sets: [...parts.flatMap((one) => one.sets), ...families.flatMap((one) => [...one.sets, one.members])],
    chains: [
      ...parts.flatMap((one) => one.chains),
      {
        name: "ingress",
        hook: { type: "filter", hook: "ingress", priority: 0, policy: "accept", devices: devices.toSorted() },
        rules: families.flatMap((one) => one.rules),
      },
    ],
  };
}

/** Every backend that the tables know, whether it takes connections or not: for the next process. */
const members = (family: Family, services: readonly ServiceInput[]): NftSet => ({
  name: `members.${family}`,
  key: ["mark", addressType(family)],
  elements: elementMap(
    services.flatMap(({ id, pool }) =>
      ofFamily(pool, family).map(({ name, backend }) => ({
        key: concat(hostU32(serviceMark(id)), ipBytes(backend.at.address)),
        comment: backendKey(pool.pool, name),
      })),
    ),
  ),
});
