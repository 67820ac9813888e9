/** IPv6 neighbour discovery (RFC 4861): solicitations and advertisements as whole IPv6 packets. */
import {
  type IpAddress,
  type MacAddress,
  ipBytes,
  ipFromBytes,
  macBytes,
  macFromBytes,
} from "../base/addresses.ts";
import { ByteWriter, checksumAdd, checksumFinish } from "../base/bytes.ts";
import { type Result, fail, ok } from "../base/result.ts";
import { IPPROTO } from "./constants.ts";

const HEADER = 40;
const TYPE = { solicitation: 135, advertisement: 136 } as const;
const OPTION = { source: 1, target: 2 } as const;
const ALL_NODES = "ff02::1" as IpAddress;
const UNSPECIFIED = "::" as IpAddress;

export interface NdPacket {
  readonly kind: "solicitation" | "advertisement";
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly target: IpAddress;
  /** Of the link-layer address option, where there is one. */
  readonly mac: MacAddress | undefined;
  /** R, S and O of an advertisement. */
  readonly router: boolean;
  readonly solicited: boolean;
  readonly override: boolean;
}

/** The sum over the pseudo-header of RFC 8200, 8.1. */
function pseudoSum(source: Uint8Array, destination: Uint8Array, length: number): number {
  const rest = new ByteWriter(8).u32(length).u32(IPPROTO.ICMPV6).finish();
  return checksumAdd(rest, checksumAdd(destination, checksumAdd(source)));
}

export function encodeNd(packet: NdPacket): Uint8Array {
  const source = ipBytes(packet.source);
  const destination = ipBytes(packet.destination);
  const flags =
    ((packet.router ? 0x80 : 0) | (packet.solicited ? 0x40 : 0) | (packet.override ? 0x20 : 0)) << 24;
  const body = new ByteWriter(32)
    .u8(TYPE[packet.kind])
    .u8(0)
    .u16(0)
    .u32(packet.kind === "advertisement" ? flags >>> 0 : 0)
    .bytes(ipBytes(packet.target));
  if (packet.mac !== undefined) {
    const option = packet.kind === "solicitation" ? OPTION.source : OPTION.target;
    body.u8(option).u8(1).bytes(macBytes(packet.mac));
  }
  const icmp = body.finish();
  body.patchU16(2, checksumFinish(checksumAdd(icmp, pseudoSum(source, destination, icmp.length))));
  return new ByteWriter(HEADER + icmp.length)
    .u32(0x6000_0000)
    .u16(icmp.length)
    .u8(IPPROTO.ICMPV6)
    .u8(255) // RFC 4861: anything else is discarded, since it came through a router
    .bytes(source)
    .bytes(destination)
    .bytes(icmp)
    .finish();
}

export type NdRefusal = "nd_short" | "nd_not_nd" | "nd_hop_limit" | "nd_checksum" | "nd_option";

/** The checks of RFC 4861, 7.1. */
export function decodeNd(bytes: Uint8Array): Result<NdPacket, NdRefusal> {
  if (bytes.length < HEADER + 24) return fail("nd_short");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kind = Object.entries(TYPE).find(([, type]) => type === bytes[HEADER])?.[0];
  if ((bytes[0] ?? 0) >> 4 !== 6 || bytes[6] !== IPPROTO.ICMPV6 || bytes[41] !== 0 || kind === undefined)
    return fail("nd_not_nd");
  if (bytes[7] !== 255) return fail("nd_hop_limit");
  const length = view.getUint16(4);
  if (length < 24 || HEADER + length > bytes.length) return fail("nd_short");
  const source = bytes.subarray(8, 24);
  const destination = bytes.subarray(24, 40);
  const icmp = bytes.subarray(HEADER, HEADER + length);
  if (checksumAdd(icmp, pseudoSum(source, destination, length)) !== 0xffff) return fail("nd_checksum");
  const wanted = kind === "solicitation" ? OPTION.source : OPTION.target;
  let mac: MacAddress | undefined;
  for (let at = 24; at < length;) {
    const size = (icmp[at + 1] ?? 0) * 8;
    if (size === 0 || at + size > length) return fail("nd_option");
    if (icmp[at] === wanted && size === 8) mac = macFromBytes(icmp.subarray(at + 2, at + 8));
    at += size;
  }
  const flags = kind === "advertisement" ? (icmp[4] ?? 0) : 0;
  return ok({
    kind: kind as NdPacket["kind"],
    source: ipFromBytes(source),
    destination: ipFromBytes(destination),
    target: ipFromBytes(icmp.subarray(8, 24)),
    mac,
    router: (flags & 0x80) !== 0,
    solicited: (flags & 0x40) !== 0,
    override: (flags & 0x20) !== 0,
  });
}

const plain = { router: false, solicited: false, override: false };

/** Says to all nodes that `target` is at `mac` (RFC 9568, 8.2.3: S clear, O set, R for a router). */
export const unsolicitedAdvertisement = (target: IpAddress, mac: MacAddress, router: boolean): NdPacket => ({
  ...plain,
  kind: "advertisement",
  source: target,
  destination: ALL_NODES,
  target,
  mac,
  router,
  override: true,
});

/** Asks for `target`; without `source` it is the probe of duplicate address detection (RFC 4862, 5.4.2). */
export const solicitation = (target: IpAddress, mac: MacAddress, source?: IpAddress): NdPacket => ({
  ...plain,
  kind: "solicitation",
  source: source ?? UNSPECIFIED,
  destination: solicitedNode(target),
  target,
  mac: source === undefined ? undefined : mac,
});

/** ff02::1:ffXX:XXXX (RFC 4291, 2.7.1). */
export function solicitedNode(target: IpAddress): IpAddress {
  const bytes = new Uint8Array(16);
  bytes.set([0xff, 0x02]);
  bytes.set([0x01, 0xff], 11);
  bytes.set(ipBytes(target).subarray(13), 13);
  return ipFromBytes(bytes);
}

/** 33:33 and the last four bytes of a multicast address (RFC 2464, 7). */
export const multicastMac = (group: IpAddress): MacAddress =>
  macFromBytes(Uint8Array.of(0x33, 0x33, ...ipBytes(group).subarray(12)));
