/**
 * Source affinity: a map of the kernel's own per service and family, client (or its network) -> backend. The service's
 * chain looks there before it asks the scheduler; what was chosen, either way, is remembered anew in postrouting, where
 * the connection knows its backend. The kernel forgets by itself; clients of a backend that may keep none any more
 * are taken out by the forwarder (affinity.ts), since a lookup of what was looked up cannot be listed by nft 1.0.6.
 */
import { type Family, type IpAddress, type IpPort, ipBytes, ipFamily } from "../base/addresses.ts";
import type { ForwardService } from "../contracts/site.ts";
import { concat, hostU32, isEqual, lookup, sourceAddress, u16Bytes } from "../linux/nftables/expressions.ts";
import type { Expression, NftRule, NftSet, NftType } from "../linux/nftables/model.ts";
import { MARK_MASK, serviceMark } from "./marks.ts";

export interface AffinityParts {
  readonly sets: readonly NftSet[];
  /** Of the service's chain, before the scheduler. */
  readonly rules: readonly NftRule[];
  /** Of postrouting, for the first packet of a connection. */
  readonly remember: readonly NftRule[];
}

export const affinitySet = (service: string): string => `affinity-${service}`;

/** Whether the memory names addresses alone: a port range whose ports the backends keep. */
export const keepsAllPorts = (service: ForwardService): boolean =>
  service.listen.some((one) => one.ports[0] !== one.ports[1]);

export const prefixLength = (service: ForwardService, family: Family): number => {
  const { affinity } = service.forward;
  return family === 4 ? (affinity?.ipv4Prefix ?? 32) : (affinity?.ipv6Prefix ?? 128);
};

export function affinityMap(name: string, service: ForwardService, family: Family): NftSet {
  const type: NftType = family === 4 ? "ipv4" : "ipv6";
  return {
    name: affinitySet(name),
    key: [type],
    data: keepsAllPorts(service) ? [type] : [type, "port"],
    dynamic: true,
    // Rules say how long: another timeout shall not make the map anew.
    timeout: 0,
    ...(service.forward.affinity === undefined ? {} : { size: service.forward.affinity.size }),
    elements: new Map(),
  };
}

export function affinityParts(
  name: string,
  service: ForwardService,
  family: Family,
  id: number,
): AffinityParts {
  const { affinity } = service.forward;
  if (affinity === undefined) return { sets: [], rules: [], remember: [] };
  const set = affinityMap(name, service, family);
  const words = family === 4 ? 1 : 4;
  const withPort = !keepsAllPorts(service);
  // Address of the client in the first registers of a rule's second half, what it leads to behind it.
  const client = 4;
  const backend = client + words;
  const source: Expression[] = [
    sourceAddress(family, client),
    ...masked(family, client, prefixLength(service, family)),
  ];
  const port = backend + words;
  const go: Expression = {
    kind: "nat",
    type: "dnat",
    family,
    address: backend,
    ...(withPort ? { ports: [port, port] as const } : {}),
  };
  const chosen: Expression[] = [
    { kind: "ct", key: family === 4 ? "src-ip" : "src-ip6", register: backend, direction: "reply" },
    ...(withPort
      ? [{ kind: "ct", key: "proto-src", register: port, direction: "reply" } satisfies Expression]
      : []),
  ];
  return {
    sets: [set],
    rules: [
      {
        comment: "the backend that this client had last",
        expressions: [...source, lookup(set.name, client, backend), go],
      },
    ],
    remember: [
      {
        comment: `remember clients of ${name}`,
        expressions: [
          { kind: "ct", key: "mark", register: 0 },
          { kind: "bitwise", from: 0, to: 0, mask: hostU32(MARK_MASK), xor: hostU32(0) },
          isEqual(0, hostU32(serviceMark(id))),
          ...source,
          ...chosen,
          {
            kind: "dynset",
            op: "update",
            set: set.name,
            key: client,
            data: backend,
            timeout: affinity.timeout,
          },
        ],
      },
    ],
  };
}

/** All bits of an address but the first `length` set to 0. */
function masked(family: Family, register: number, length: number): Expression[] {
  const width = family === 4 ? 4 : 16;
  if (length >= width * 8) return [];
  return [
    {
      kind: "bitwise",
      from: register,
      to: register,
      mask: prefixMask(width, length),
      xor: new Uint8Array(width),
    },
  ];
}

export const prefixMask = (width: number, length: number): Uint8Array =>
  Uint8Array.from({ length: width }, (_, i) => {
    const bits = Math.min(8, Math.max(0, length - 8 * i));
    return (0xff << (8 - bits)) & 0xff;
  });

/** As the map holds it. */
export const clientKey = (service: ForwardService, source: IpAddress): Uint8Array => {
  const bytes = ipBytes(source);
  const mask = prefixMask(bytes.length, prefixLength(service, ipFamily(source)));
  return bytes.map((byte, i) => byte & (mask[i] ?? 0));
};
export const backendData = (service: ForwardService, { address, port }: IpPort): Uint8Array =>
  keepsAllPorts(service) ? ipBytes(address) : concat(ipBytes(address), u16Bytes(port));
