/** rtnetlink's neighbours, routes and rules (linux/neighbour.h, rtnetlink.h, fib_rules.h). */
import {
  type Family,
  type IpAddress,
  type IpPrefix,
  type MacAddress,
  ipBytes,
  ipFromBytes,
  macBytes,
  macFromBytes,
} from "../base/addresses.ts";
import { AF } from "./constants.ts";
import {
  type NetlinkMessage,
  NetlinkWriter,
  attrString,
  attrU32,
  attrU8,
  readAttributes,
} from "./wire-netlink.ts";

export const RTM_ROUTE = { NEW: 24, DEL: 25, GET: 26 } as const;
export const RTM_NEIGHBOUR = { NEW: 28, DEL: 29, GET: 30 } as const;
export const RTM_RULE = { NEW: 32, DEL: 33, GET: 34 } as const;

const familyOf = (byte: number | undefined): Family | undefined =>
  byte === AF.INET ? 4 : byte === AF.INET6 ? 6 : undefined;
const familyByte = (family: Family): number => (family === 4 ? AF.INET : AF.INET6);
const widthOf = (family: Family): number => (family === 4 ? 4 : 16);

function ipOf(bytes: Uint8Array | undefined): IpAddress | undefined {
  return bytes?.length === 4 || bytes?.length === 16 ? ipFromBytes(bytes) : undefined;
}
/** The prefix of a destination or source; a missing attribute is the zero prefix. */
function prefixOf(bytes: Uint8Array | undefined, length: number, family: Family): IpPrefix {
  return { address: ipOf(bytes) ?? ipFromBytes(new Uint8Array(widthOf(family))), length };
}

// Neighbours -----------------------------------------------------------------------------------------------

const NDA = { DST: 1, LLADDR: 2 } as const;
const neighbourStates = {
  incomplete: 0x01,
  reachable: 0x02,
  stale: 0x04,
  delay: 0x08,
  probe: 0x10,
  failed: 0x20,
  noarp: 0x40,
  permanent: 0x80,
  none: 0,
} as const;
export type NeighbourState = keyof typeof neighbourStates;

export interface Neighbour {
  readonly ifindex: number;
  readonly address: IpAddress;
  /** Undefined while it is not known. */
  readonly mac: MacAddress | undefined;
  readonly state: NeighbourState;
}

export function decodeNeighbour(message: NetlinkMessage): Neighbour | undefined {
  const { payload } = message;
  if (payload.length < 12 || familyOf(payload[0]) === undefined) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const attributes = readAttributes(payload, 12);
  const address = ipOf(attributes.get(NDA.DST));
  if (address === undefined) return undefined;
  const mac = attributes.get(NDA.LLADDR);
  const state = Object.entries(neighbourStates).find(([, bit]) => bit === view.getUint16(8, true));
  return {
    ifindex: view.getInt32(4, true),
    address,
    mac: mac?.length === 6 ? macFromBytes(mac) : undefined,
    state: (state?.[0] ?? "none") as NeighbourState,
  };
}

export function encodeNeighbour(entry: {
  readonly ifindex: number;
  readonly address: IpAddress;
  readonly mac?: MacAddress;
  readonly state?: NeighbourState;
}): Uint8Array {
  const bytes = ipBytes(entry.address);
  const writer = new NetlinkWriter(64)
    .u8(bytes.length === 4 ? AF.INET : AF.INET6)
    .u8(0)
    .u16(0)
    .u32(entry.ifindex)
    .u16(neighbourStates[entry.state ?? "none"])
    .u8(0)
    .u8(0)
    .attr(NDA.DST, bytes);
  if (entry.mac !== undefined) writer.attr(NDA.LLADDR, macBytes(entry.mac));
  return writer.finish();
}

// Routes ---------------------------------------------------------------------------------------------------

const RTA = {
  DST: 1,
  OIF: 4,
  GATEWAY: 5,
  PRIORITY: 6,
  PREFSRC: 7,
  MULTIPATH: 9,
  TABLE: 15,
  VIA: 18,
  EXPIRES: 23,
} as const;
const routeTypes = [
  "unspec",
  "unicast",
  "local",
  "broadcast",
  "anycast",
  "multicast",
  "blackhole",
  "unreachable",
  "prohibit",
] as const;
/** RT_TABLE_LOCAL. */
const LOCAL_TABLE = 255;
/** Of routes that do not say another; the kernel's own to its addresses have 0. */
const LOCAL_METRIC = 1024;
const RTM_F_CLONED = 0x200;

export interface RouteHop {
  readonly gateway: IpAddress | undefined;
  readonly ifindex: number | undefined;
}

export interface Route {
  readonly family: Family;
  readonly destination: IpPrefix;
  /** 254 is main, 255 local. */
  readonly table: number;
  readonly type: (typeof routeTypes)[number] | "other";
  /** One, or several of a multipath route. */
  readonly hops: readonly RouteHop[];
  readonly metric: number;
  readonly preferredSource: IpAddress | undefined;
  /** Who installed it: 2 the kernel, 3 boot, 4 static, 9 RA, 16 DHCP ... */
  readonly protocol: number;
}

function hopsOf(bytes: Uint8Array): RouteHop[] {
  const hops: RouteHop[] = [];
  for (let at = 0; bytes.length - at >= 8;) {
    const length = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
    if (length < 8 || length > bytes.length - at) break;
    const hop = bytes.subarray(at, at + length);
    hops.push({
      gateway: ipOf(readAttributes(hop, 8).get(RTA.GATEWAY)),
      ifindex: attrU32(hop.subarray(4, 8)),
    });
    at += (length + 3) & ~3;
  }
  return hops;
}

/** Whether it is an answer that the kernel made for one destination, or cached, and no entry of a table. */
export const isClonedRoute = (message: NetlinkMessage): boolean =>
  ((attrU32(message.payload.subarray(8, 12)) ?? 0) & RTM_F_CLONED) !== 0;

/** Undefined for what is not IP. */
export function decodeRoute(message: NetlinkMessage): Route | undefined {
  const { payload } = message;
  const family = familyOf(payload[0]);
  if (payload.length < 12 || family === undefined) return undefined;
  const attributes = readAttributes(payload, 12);
  const several = attributes.get(RTA.MULTIPATH);
  const via = attributes.get(RTA.VIA);
  const gateway = ipOf(attributes.get(RTA.GATEWAY)) ?? ipOf(via?.subarray(2));
  const hop = { gateway, ifindex: attrU32(attributes.get(RTA.OIF)) };
  return {
    family,
    destination: prefixOf(attributes.get(RTA.DST), payload[1] ?? 0, family),
    table: attrU32(attributes.get(RTA.TABLE)) ?? payload[4] ?? 0,
    type: routeTypes[payload[7] ?? 0] ?? "other",
    hops: several === undefined ? [hop] : hopsOf(several),
    metric: attrU32(attributes.get(RTA.PRIORITY)) ?? 0,
    preferredSource: ipOf(attributes.get(RTA.PREFSRC)),
    protocol: payload[5] ?? 0,
  };
}

/** A dump of one family, or the question which route a destination takes. */
export function encodeRouteQuery(family: Family, destination?: IpAddress): Uint8Array {
  const bytes = destination === undefined ? undefined : ipBytes(destination);
  const writer = new NetlinkWriter(40)
    .u8(familyByte(family))
    .u8(bytes === undefined ? 0 : bytes.length * 8)
    .u8(0)
    .u8(0)
    .bytes(new Uint8Array(8));
  if (bytes !== undefined) writer.attr(RTA.DST, bytes);
  return writer.finish();
}

/**
 * An IPv6 address as a local destination: by a route of our own, with a metric behind that of the kernel's. `seconds` until
 * it is not used any more; absent for the route to be deleted.
 */
export function encodeLocalRoute(
  { ifindex, address }: { readonly ifindex: number; readonly address: IpAddress },
  origin: number,
  seconds?: number,
): Uint8Array {
  const writer = new NetlinkWriter(72)
    .u8(AF.INET6)
    .u8(128)
    .u8(0)
    .u8(0)
    .u8(LOCAL_TABLE)
    .u8(origin)
    .u8(0)
    .u8(routeTypes.indexOf("local"))
    .u32(0)
    .attr(RTA.DST, ipBytes(address))
    .attrU32(RTA.OIF, ifindex)
    .attrU32(RTA.PRIORITY, LOCAL_METRIC);
  if (seconds !== undefined) writer.attrU32(RTA.EXPIRES, seconds);
  return writer.finish();
}

// Rules ----------------------------------------------------------------------------------------------------

const FRA = {
  SRC: 2,
  DST: 1,
  IIFNAME: 3,
  PRIORITY: 6,
  FWMARK: 10,
  TABLE: 15,
  FWMASK: 16,
  OIFNAME: 17,
} as const;
const ruleActions: Readonly<Record<number, string>> = {
  1: "lookup",
  2: "goto",
  3: "nop",
  6: "blackhole",
  7: "unreachable",
  8: "prohibit",
};

export interface Rule {
  readonly family: Family;
  readonly priority: number;
  readonly from: IpPrefix | undefined;
  readonly to: IpPrefix | undefined;
  /** Undefined where the rule looks at no mark. */
  readonly mark: { readonly value: number; readonly mask: number } | undefined;
  readonly inInterface: string | undefined;
  readonly outInterface: string | undefined;
  readonly action: string;
  readonly table: number;
}

export function decodeRule(message: NetlinkMessage): Rule | undefined {
  const { payload } = message;
  const family = familyOf(payload[0]);
  if (payload.length < 12 || family === undefined) return undefined;
  const attributes = readAttributes(payload, 12);
  const side = (type: number, length: number | undefined): IpPrefix | undefined => {
    const bytes = attributes.get(type);
    return bytes === undefined ? undefined : prefixOf(bytes, length ?? 0, family);
  };
  const value = attrU32(attributes.get(FRA.FWMARK));
  const mask = attrU32(attributes.get(FRA.FWMASK));
  return {
    family,
    priority: attrU32(attributes.get(FRA.PRIORITY)) ?? 0,
    from: side(FRA.SRC, payload[2]),
    to: side(FRA.DST, payload[1]),
    mark:
      value === undefined && mask === undefined ? undefined : { value: value ?? 0, mask: mask ?? 0xffffffff },
    inInterface: attrString(attributes.get(FRA.IIFNAME)),
    outInterface: attrString(attributes.get(FRA.OIFNAME)),
    action: ruleActions[attrU8(payload.subarray(7, 8)) ?? 0] ?? "other",
    table: attrU32(attributes.get(FRA.TABLE)) ?? payload[4] ?? 0,
  };
}

export const encodeRuleQuery = (family: Family): Uint8Array =>
  new NetlinkWriter(12).u8(familyByte(family)).bytes(new Uint8Array(11)).finish();
