/** rtnetlink's links (linux/if_link.h): network interfaces. */
import { type MacAddress, macBytes, macFromBytes } from "../base/addresses.ts";
import { AF } from "./constants.ts";
import {
  type NetlinkMessage,
  NetlinkWriter,
  attrString,
  attrU32,
  attrU8,
  readAttributes,
} from "./wire-netlink.ts";

export const RTM_LINK = { NEW: 16, DEL: 17, GET: 18, SET: 19 } as const;

const IFF = { UP: 0x1, LOOPBACK: 0x8, LOWER_UP: 0x10000 } as const;
const IFLA = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  MASTER: 10,
  OPERSTATE: 16,
  LINKINFO: 18,
  AF_SPEC: 26,
  NET_NS_FD: 28,
  ALT_IFNAME: 53,
} as const;
const IFLA_INFO = { KIND: 1, DATA: 2 } as const;
const IFLA_INET6_ADDR_GEN_MODE = 8;
const ADDR_GEN_MODE_NONE = 1;
const MACVLAN_MODE = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const;

/** RFC 2863, as IFLA_OPERSTATE numbers them. */
const operStates = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"] as const;

export interface Link {
  readonly index: number;
  readonly name: string;
  /** Empty where the link has none (loopback has zeros). */
  readonly mac: MacAddress;
  readonly mtu: number;
  /** Set up by the administrator. */
  readonly up: boolean;
  /** Up, and what lies below is too: frames can pass. */
  readonly running: boolean;
  readonly loopback: boolean;
  readonly operState: (typeof operStates)[number];
  /** Index of the bridge or bond that it belongs to. */
  readonly master: number | undefined;
  /** Index of the link below, of a macvlan or VLAN. */
  readonly parent: number | undefined;
  /** `macvlan`, `veth`, `bridge` ...; undefined for hardware. */
  readonly kind: string | undefined;
}

export function decodeLink(message: NetlinkMessage): Link | undefined {
  const { payload } = message;
  if (payload.length < 16) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const flags = view.getUint32(8, true);
  const attributes = readAttributes(payload, 16);
  const name = attrString(attributes.get(IFLA.IFNAME));
  // A bridge reports its ports with family AF_BRIDGE too: those are no links of their own.
  if (name === undefined || payload[0] !== 0) return undefined;
  const info = attributes.get(IFLA.LINKINFO);
  const running = (flags & IFF.UP) !== 0 && (flags & IFF.LOWER_UP) !== 0;
  return {
    index: view.getInt32(4, true),
    name,
    mac: macFromBytes(attributes.get(IFLA.ADDRESS) ?? new Uint8Array()),
    mtu: attrU32(attributes.get(IFLA.MTU)) ?? 0,
    up: (flags & IFF.UP) !== 0,
    running,
    loopback: (flags & IFF.LOOPBACK) !== 0,
    operState: operStates[attrU8(attributes.get(IFLA.OPERSTATE)) ?? 0] ?? "unknown",
    master: attrU32(attributes.get(IFLA.MASTER)),
    parent: attrU32(attributes.get(IFLA.LINK)),
    kind: info === undefined ? undefined : attrString(readAttributes(info).get(IFLA_INFO.KIND)),
  };
}

function header(index: number, flags = 0, change = 0): NetlinkWriter {
  return new NetlinkWriter(128).u8(0).u8(0).u16(0).u32(index).u32(flags).u32(change);
}

/** All links, or one: by its index or by its name. */
export function encodeLinkQuery(which?: number | string): Uint8Array {
  const writer = header(typeof which === "number" ? which : 0);
  if (typeof which === "string") writer.attrString(IFLA.IFNAME, which);
  return writer.finish();
}

export interface LinkChange {
  readonly up?: boolean;
  readonly mac?: MacAddress;
  /** 0 takes it out of its bridge. */
  readonly master?: number;
  readonly name?: string;
  readonly mtu?: number;
  /** Moves it into the network namespace behind this descriptor. */
  readonly namespace?: number;
  /** No link-local address by itself: what `addrgenmode none` is. */
  readonly noAddressGeneration?: boolean;
}

function writeChange(writer: NetlinkWriter, change: LinkChange): void {
  if (change.name !== undefined) writer.attrString(IFLA.IFNAME, change.name);
  if (change.mac !== undefined) writer.attr(IFLA.ADDRESS, macBytes(change.mac));
  if (change.mtu !== undefined) writer.attrU32(IFLA.MTU, change.mtu);
  if (change.master !== undefined) writer.attrU32(IFLA.MASTER, change.master);
  if (change.namespace !== undefined) writer.attrU32(IFLA.NET_NS_FD, change.namespace);
  if (change.noAddressGeneration === true) {
    const spec = writer.nest(IFLA.AF_SPEC);
    const inet6 = writer.nest(AF.INET6);
    writer.attrU8(IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE).endNest(inet6).endNest(spec);
  }
}

export function encodeLinkChange(index: number, change: LinkChange): Uint8Array {
  const writer = header(index, change.up === true ? IFF.UP : 0, change.up === undefined ? 0 : IFF.UP);
  writeChange(writer, change);
  return writer.finish();
}

export interface MacvlanPlan extends LinkChange {
  readonly name: string;
  /** Index of the link that it sits on. */
  readonly parent: number;
  /** Private ones do not hear each other; bridged ones do. */
  readonly mode: keyof typeof MACVLAN_MODE;
}

export function encodeMacvlan(plan: MacvlanPlan): Uint8Array {
  const writer = header(0, plan.up === true ? IFF.UP : 0, plan.up === undefined ? 0 : IFF.UP);
  writeChange(writer, plan);
  writer.attrU32(IFLA.LINK, plan.parent);
  const info = writer.nest(IFLA.LINKINFO);
  writer.attrString(IFLA_INFO.KIND, "macvlan");
  const data = writer.nest(IFLA_INFO.DATA);
  writer.attrU32(1, MACVLAN_MODE[plan.mode]).endNest(data).endNest(info);
  return writer.finish();
}
