/** ARP for IPv4 over Ethernet (RFC 826), with the probes and announcements of RFC 5227. */
import {
  type IpAddress,
  type MacAddress,
  ipBytes,
  ipFromBytes,
  macBytes,
  macFromBytes,
} from "../base/addresses.ts";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { type Result, fail, ok } from "../base/result.ts";

export interface ArpPacket {
  readonly operation: "request" | "reply";
  readonly senderMac: MacAddress;
  readonly senderIp: IpAddress;
  readonly targetMac: MacAddress;
  readonly targetIp: IpAddress;
}

export const BROADCAST_MAC = "ff:ff:ff:ff:ff:ff" as MacAddress;
const ZERO_MAC = "00:00:00:00:00:00" as MacAddress;
const UNSPECIFIED = "0.0.0.0" as IpAddress;

export function encodeArp(packet: ArpPacket): Uint8Array {
  return new ByteWriter(28)
    .u16(1) // Ethernet
    .u16(0x0800)
    .u8(6)
    .u8(4)
    .u16(packet.operation === "request" ? 1 : 2)
    .bytes(macBytes(packet.senderMac))
    .bytes(ipBytes(packet.senderIp))
    .bytes(macBytes(packet.targetMac))
    .bytes(ipBytes(packet.targetIp))
    .finish();
}

export type ArpRefusal = "arp_short" | "arp_not_ethernet_ipv4" | "arp_operation";

/** Bytes after the 28 of ARP are Ethernet's padding. */
export function decodeArp(bytes: Uint8Array): Result<ArpPacket, ArpRefusal> {
  if (bytes.length < 28) return fail("arp_short");
  const reader = new ByteReader(bytes);
  const kind = [reader.u16(), reader.u16(), reader.u8(), reader.u8()].join();
  if (kind !== [1, 0x0800, 6, 4].join()) return fail("arp_not_ethernet_ipv4");
  const operation = reader.u16();
  if (operation !== 1 && operation !== 2) return fail("arp_operation");
  const none = new Uint8Array(6);
  return ok({
    operation: operation === 1 ? "request" : "reply",
    senderMac: macFromBytes(reader.bytes(6) ?? none),
    senderIp: ipFromBytes(reader.bytes(4) ?? none.subarray(0, 4)),
    targetMac: macFromBytes(reader.bytes(6) ?? none),
    targetIp: ipFromBytes(reader.bytes(4) ?? none.subarray(0, 4)),
  });
}

/**
 * Says that `address` is at `mac`. The reply form has the sender's hardware as target: Linux then takes it
 * at once, where it otherwise keeps an entry for its lock time of about a second. Some switches and hosts heed
 * only the request form (RFC 5227, 3), so both are sent.
 */
export function gratuitousArp(address: IpAddress, mac: MacAddress, form: "request" | "reply"): ArpPacket {
  const targetMac = form === "reply" ? mac : ZERO_MAC;
  return { operation: form, senderMac: mac, senderIp: address, targetMac, targetIp: address };
}

/** Asks for `target`; without `source` it is a probe that changes nobody's table (RFC 5227, 2.1.1). */
export function arpRequest(target: IpAddress, mac: MacAddress, source?: IpAddress): ArpPacket {
  return {
    operation: "request",
    senderMac: mac,
    senderIp: source ?? UNSPECIFIED,
    targetMac: ZERO_MAC,
    targetIp: target,
  };
}
