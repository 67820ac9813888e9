/** rtnetlink's addresses (linux/if_addr.h). */
import { type IpAddress, ipBytes, ipFromBytes } from "../base/addresses.ts";
import { type DurationMs, seconds } from "../base/time.ts";
import { AF } from "./constants.ts";
import {
  type NetlinkMessage,
  NetlinkWriter,
  attrString,
  attrU32,
  attrU8,
  readAttributes,
} from "./wire-netlink.ts";

export const RTM_ADDRESS = { NEW: 20, DEL: 21, GET: 22 } as const;

const IFA = { ADDRESS: 1, LOCAL: 2, LABEL: 3, CACHEINFO: 6, FLAGS: 8, PROTO: 11 } as const;
const IFA_F = {
  SECONDARY: 0x1,
  NODAD: 0x2,
  DADFAILED: 0x8,
  DEPRECATED: 0x20,
  TENTATIVE: 0x40,
  PERMANENT: 0x80,
  NOPREFIXROUTE: 0x200,
} as const;
const SCOPE = { global: 0, site: 200, link: 253, host: 254 } as const;
const FOREVER = 0xffffffff;

export interface InterfaceAddress {
  readonly ifindex: number;
  readonly address: IpAddress;
  readonly prefixLength: number;
  readonly scope: keyof typeof SCOPE;
  readonly label: string | undefined;
  /** Until the kernel removes it; undefined for one that stays. Whole seconds. */
  readonly validFor: DurationMs | undefined;
  /** Until it is no longer chosen as a source (IPv6). */
  readonly preferredFor: DurationMs | undefined;
  readonly secondary: boolean;
  readonly tentative: boolean;
  /** Someone else has it (IPv6): it is installed, but not used. */
  readonly duplicate: boolean;
  readonly noPrefixRoute: boolean;
  /** Who added it, as IFA_PROTO says (kernel 5.18 and later); 0 for unknown, 1-3 the kernel itself. */
  readonly origin: number;
}

const lifetime = (value: number): DurationMs | undefined => (value === FOREVER ? undefined : seconds(value));

export function decodeInterfaceAddress(message: NetlinkMessage): InterfaceAddress | undefined {
  const { payload } = message;
  if (payload.length < 8) return undefined;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const attributes = readAttributes(payload, 8);
  // IFA_ADDRESS is the peer's on a point-to-point link; IFA_LOCAL is ours and absent on IPv6.
  const bytes = attributes.get(IFA.LOCAL) ?? attributes.get(IFA.ADDRESS);
  const width = payload[0] === AF.INET ? 4 : 16;
  if ((payload[0] !== AF.INET && payload[0] !== AF.INET6) || bytes?.length !== width) return undefined;
  const flags = attrU32(attributes.get(IFA.FLAGS)) ?? payload[2] ?? 0;
  const cache = attributes.get(IFA.CACHEINFO);
  const times =
    cache !== undefined && cache.length >= 8 ? new DataView(cache.buffer, cache.byteOffset) : undefined;
  const scope = Object.entries(SCOPE).find(([, value]) => value === payload[3])?.[0] ?? "global";
  return {
    ifindex: view.getUint32(4, true),
    address: ipFromBytes(bytes),
    prefixLength: payload[1] ?? 0,
    scope: scope as keyof typeof SCOPE,
    label: attrString(attributes.get(IFA.LABEL)),
    preferredFor: lifetime(times?.getUint32(0, true) ?? FOREVER),
    validFor: lifetime(times?.getUint32(4, true) ?? FOREVER),
    secondary: (flags & IFA_F.SECONDARY) !== 0,
    tentative: (flags & IFA_F.TENTATIVE) !== 0,
    duplicate: (flags & IFA_F.DADFAILED) !== 0,
    noPrefixRoute: (flags & IFA_F.NOPREFIXROUTE) !== 0,
    origin: attrU8(attributes.get(IFA.PROTO)) ?? 0,
  };
}

export interface AddressPlan {
  readonly ifindex: number;
  readonly address: IpAddress;
  /** By default the whole address: /32 or /128. */
  readonly prefixLength?: number;
  /** The kernel removes it after this time unless it is renewed; rounded up to whole seconds. */
  readonly validFor?: DurationMs;
  /** By default as long as it is valid; 0 for an IPv6 address that shall never be a source of our own traffic. */
  readonly preferredFor?: DurationMs;
  /** No route to the prefix comes with it. */
  readonly noPrefixRoute?: boolean;
  /** IPv6: in use at once, without asking whether someone else has it. */
  readonly noDad?: boolean;
  readonly scope?: keyof typeof SCOPE;
  /** IFA_PROTO: a mark by which its owner knows it again; ignored by kernels before 5.18. */
  readonly origin?: number;
}

const wholeSeconds = (span: DurationMs | undefined): number =>
  span === undefined ? FOREVER : Math.min(FOREVER - 1, Math.ceil(span / 1000));

export function encodeAddress(plan: AddressPlan): Uint8Array {
  const bytes = ipBytes(plan.address);
  const inet6 = bytes.length === 16;
  const flags =
    (plan.noPrefixRoute === true ? IFA_F.NOPREFIXROUTE : 0) |
    (plan.noDad === true && inet6 ? IFA_F.NODAD : 0);
  const writer = new NetlinkWriter(96)
    .u8(inet6 ? AF.INET6 : AF.INET)
    .u8(plan.prefixLength ?? bytes.length * 8)
    .u8(0)
    .u8(SCOPE[plan.scope ?? "global"])
    .u32(plan.ifindex)
    .attr(IFA.LOCAL, bytes)
    .attr(IFA.ADDRESS, bytes);
  if (flags !== 0) writer.attrU32(IFA.FLAGS, flags);
  if (plan.origin !== undefined) writer.attrU8(IFA.PROTO, plan.origin);
  if (plan.validFor !== undefined || plan.preferredFor !== undefined) {
    const valid = wholeSeconds(plan.validFor);
    const cache = new NetlinkWriter(16).u32(Math.min(valid, wholeSeconds(plan.preferredFor))).u32(valid);
    writer.attr(IFA.CACHEINFO, cache.u32(0).u32(0).finish());
  }
  return writer.finish();
}

/** All addresses, or those of one family or link (the link only with NETLINK_GET_STRICT_CHK). */
export const encodeAddressQuery = (family: 0 | 4 | 6, ifindex: number): Uint8Array =>
  new NetlinkWriter(8)
    .u8(family === 0 ? 0 : family === 4 ? AF.INET : AF.INET6)
    .u8(0)
    .u8(0)
    .u8(0)
    .u32(ifindex)
    .finish();
