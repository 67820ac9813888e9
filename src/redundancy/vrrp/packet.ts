/**
 * VRRP advertisements: version 3 (RFC 9568) over IPv4 and IPv6, version 2 (RFC 3768) over IPv4.
 * What is decoded here is the payload of IP protocol 112, cut to the length that the IP header names.
 */
import { type Family, type IpAddress, ip, ipBytes, ipFromBytes, isLinkLocal6 } from "../../base/addresses.ts";
import { ByteReader, ByteWriter, bytesEqual, checksumAdd, checksumFinish } from "../../base/bytes.ts";
import { type Result, fail, ok } from "../../base/result.ts";
import { type DurationMs, ms } from "../../base/time.ts";

export const VRRP_PROTOCOL = 112;
/** RFC 9568, 5.1.1.3 and 5.1.2.3: sent as 255, and required on receipt: nobody beyond the link can send it. */
export const VRRP_HOP_LIMIT = 255;
/** RFC 9568, 5.1.1.2 and 5.1.2.2. */
export const VRRP_GROUPS: Readonly<Record<Family, IpAddress>> = { 4: ip("224.0.0.18"), 6: ip("ff02::12") };

export type VrrpVersion = 2 | 3;
/** Over IPv4 version 3 is sent in two dialects: see `ChecksumPolicy`. */
export type ChecksumForm = "rfc" | "pseudo-header";

export interface Advertisement {
  readonly version: VrrpVersion;
  readonly vrid: number;
  /** 0 releases, 255 is the address owner. */
  readonly priority: number;
  /** Whole centiseconds in version 3, whole seconds in version 2. */
  readonly interval: DurationMs;
  readonly addresses: readonly IpAddress[];
}

/** What the IP header says; the IPv6 checksum, and one dialect of the IPv4 one, cover it. */
export interface Envelope {
  readonly source: IpAddress;
  readonly destination: IpAddress;
}

export interface EncodeOptions extends Envelope {
  /** Of version 3 over IPv4; IPv6 always has the pseudo-header, version 2 never. */
  readonly checksum: ChecksumForm;
  /** Version 2 only: the simple text password of RFC 2338, eight bytes. */
  readonly password?: Uint8Array | undefined;
}

/** Why a packet is dropped; also the label of `nines_redundancy_dropped_packets`. */
export const DROP_REASONS = {
  "hop-limit": "the hop limit is below 255, so that it may come from beyond the link (RFC 9568, 7.1)",
  truncated: "shorter than its header or its address count says",
  version: "another version than the one configured",
  type: "not an advertisement",
  vrid: "the VRID 0 does not exist",
  count: "no address at all (erratum 8299)",
  checksum: "the checksum is wrong in every accepted form",
  interval: "an advertisement interval of 0 (erratum 8301)",
  authentication: "version 2 authentication that is not the configured one",
} as const;
export type DropReason = keyof typeof DROP_REASONS;

export interface DecodeOptions extends Envelope {
  readonly hopLimit: number;
  /** 255 by default; lower where unicast peers are on another link. */
  readonly minHopLimit?: number;
  readonly version: VrrpVersion;
  /** `auto` accepts both forms of version 3 over IPv4. */
  readonly checksum: ChecksumForm | "auto";
  readonly password?: Uint8Array | undefined;
}

export interface Decoded {
  readonly advertisement: Advertisement;
  /** The form in which the checksum was right; a sender with `auto` answers in the form it hears. */
  readonly checksum: ChecksumForm;
  /** Broken, but harmless enough that dropping it would make two Actives: counted by name. */
  readonly oddities: readonly "first-not-link-local"[];
}

const HEADER = 8;
const V2_AUTHENTICATION = 8;
const TYPE_ADVERTISEMENT = 1;
const MAX_CENTISECONDS = 4095;
const AUTH_NONE = 0;
const AUTH_TEXT = 1;

function pseudoHeaderSum({ source, destination }: Envelope, length: number): number {
  const address = checksumAdd(ipBytes(destination), checksumAdd(ipBytes(source)));
  // Zeros, upper-layer length and next header: the same sum in both families' layouts.
  return address + length + VRRP_PROTOCOL;
}

const familyOf = (address: IpAddress): Family => (address.includes(":") ? 6 : 4);

const messageSum = (message: Uint8Array, envelope: Envelope, form: ChecksumForm): number =>
  checksumAdd(message, form === "pseudo-header" ? pseudoHeaderSum(envelope, message.length) : 0);

/** RFC 9568, 5.2: in centiseconds, 1..4095. A caller that passes more than 40.95 s has not checked its site. */
const centiseconds = (interval: DurationMs): number =>
  Math.min(MAX_CENTISECONDS, Math.max(1, Math.round(interval / 10)));

export function encodeAdvertisement(advertisement: Advertisement, options: EncodeOptions): Uint8Array {
  const { version, vrid, priority, addresses } = advertisement;
  const width = HEADER + addresses.length * (familyOf(options.source) === 4 ? 4 : 16);
  const writer = new ByteWriter(width + V2_AUTHENTICATION);
  writer
    .u8((version << 4) | TYPE_ADVERTISEMENT)
    .u8(vrid)
    .u8(priority)
    .u8(addresses.length);
  if (version === 2) {
    const password = options.password;
    writer.u8(password ? AUTH_TEXT : AUTH_NONE).u8(Math.max(1, Math.round(advertisement.interval / 1000)));
  } else {
    writer.u16(centiseconds(advertisement.interval));
  }
  writer.u16(0);
  for (const address of addresses) writer.bytes(ipBytes(address));
  // RFC 3768, 5.3.10: the eight bytes are there whatever the type, and the checksum covers them.
  if (version === 2) writer.bytes(options.password ?? new Uint8Array(V2_AUTHENTICATION));
  const form = version === 2 ? "rfc" : familyOf(options.source) === 6 ? "pseudo-header" : options.checksum;
  writer.patchU16(6, checksumFinish(messageSum(writer.finish(), options, form)));
  return writer.finish();
}

function rightForm(message: Uint8Array, options: DecodeOptions, family: Family): ChecksumForm | undefined {
  const accepted: readonly ChecksumForm[] =
    options.version === 2
      ? ["rfc"]
      : family === 6
        ? ["pseudo-header"]
        : options.checksum === "auto"
          ? ["rfc", "pseudo-header"]
          : [options.checksum];
  return accepted.find((form) => messageSum(message, options, form) === 0xffff);
}

/**
 * The checks of RFC 9568, 7.1, in its order. Bytes beyond the message are padding or somebody's trailer
 * and are ignored; the reserved nibble of version 3 is masked.
 */
export function decodeAdvertisement(
  payload: Uint8Array,
  options: DecodeOptions,
): Result<Decoded, DropReason> {
  if (options.hopLimit < (options.minHopLimit ?? VRRP_HOP_LIMIT)) return fail("hop-limit");
  const family = familyOf(options.source);
  const reader = new ByteReader(payload);
  const versionAndType = reader.u8();
  if (versionAndType === undefined) return fail("truncated");
  if (versionAndType >> 4 !== options.version) return fail("version");
  if ((versionAndType & 0xf) !== TYPE_ADVERTISEMENT) return fail("type");
  const vrid = reader.u8();
  const priority = reader.u8();
  const count = reader.u8();
  const authOrInterval = reader.u16();
  if (reader.u16() === undefined || vrid === undefined || priority === undefined) return fail("truncated");
  if (count === undefined || authOrInterval === undefined) return fail("truncated");
  if (count === 0) return fail("count");
  const width = family === 4 ? 4 : 16;
  const length = HEADER + count * width + (options.version === 2 ? V2_AUTHENTICATION : 0);
  if (payload.length < length) return fail("truncated");
  const checksum = rightForm(payload.subarray(0, length), options, family);
  if (checksum === undefined) return fail("checksum");
  if (vrid === 0) return fail("vrid");
  const addresses: IpAddress[] = [];
  for (let i = 0; i < count; i++) addresses.push(ipFromBytes(reader.bytes(width) ?? new Uint8Array(width)));
  let interval: DurationMs;
  if (options.version === 2) {
    const type = authOrInterval >> 8;
    const data = reader.bytes(V2_AUTHENTICATION) ?? new Uint8Array(V2_AUTHENTICATION);
    const expected = options.password;
    if (type !== (expected ? AUTH_TEXT : AUTH_NONE) || (expected && !bytesEqual(expected, data)))
      return fail("authentication");
    interval = ms((authOrInterval & 0xff) * 1000);
  } else {
    interval = ms((authOrInterval & 0x0fff) * 10);
  }
  if (interval === 0) return fail("interval");
  const first = addresses[0];
  const odd = family === 6 && first !== undefined && !isLinkLocal6(first);
  return ok({
    advertisement: { version: options.version, vrid, priority, interval, addresses },
    checksum,
    oddities: odd ? ["first-not-link-local"] : [],
  });
}

/** The payload of an IPv4 packet as a raw socket or a capture gives it, without padding beyond its length. */
export function openIpv4(
  packet: Uint8Array,
): Result<Envelope & { readonly hopLimit: number; readonly payload: Uint8Array }, DropReason> {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  if (packet.length < 20 || view.getUint8(0) >> 4 !== 4) return fail("truncated");
  const header = (view.getUint8(0) & 0xf) * 4;
  const total = view.getUint16(2);
  if (header < 20 || total < header || packet.length < total) return fail("truncated");
  return ok({
    source: ipFromBytes(packet.subarray(12, 16)),
    destination: ipFromBytes(packet.subarray(16, 20)),
    hopLimit: view.getUint8(8),
    payload: packet.subarray(header, total),
  });
}

/** RFC 9568, 7.3: 00-00-5E-00-01-{VRID} for IPv4, 00-00-5E-00-02-{VRID} for IPv6. */
export const virtualMacBytes = (family: Family, vrid: number): Uint8Array =>
  Uint8Array.of(0x00, 0x00, 0x5e, 0x00, family === 4 ? 0x01 : 0x02, vrid);
