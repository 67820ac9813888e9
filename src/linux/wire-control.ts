/**
 * Ancillary data (cmsg(3)) as the kernel has it on 64-bit machines: length (8 bytes), level, type, data, padded
 * to 8; in host byte order, little endian.
 */
import { type IpAddress, ipBytes, ipFromBytes } from "../base/addresses.ts";
import { IP, IPPROTO, IPV6 } from "./constants.ts";

const HEADER = 16;
const align = (length: number): number => (length + 7) & ~7;

export interface ControlMessage {
  readonly level: number;
  readonly type: number;
  readonly data: Uint8Array;
}

export function encodeControl(messages: readonly ControlMessage[]): Uint8Array {
  const size = messages.reduce((sum, { data }) => sum + align(HEADER + data.length), 0);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const { level, type, data } of messages) {
    view.setUint32(at, HEADER + data.length, true);
    view.setInt32(at + 8, level, true);
    view.setInt32(at + 12, type, true);
    bytes.set(data, at + HEADER);
    at += align(HEADER + data.length);
  }
  return bytes;
}

/** What does not fit ends the list; it never throws. */
export function decodeControl(bytes: Uint8Array): ControlMessage[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const messages: ControlMessage[] = [];
  for (let at = 0; bytes.length - at >= HEADER;) {
    const length = view.getUint32(at, true);
    if (length < HEADER || length > bytes.length - at) break;
    messages.push({
      level: view.getInt32(at + 8, true),
      type: view.getInt32(at + 12, true),
      data: bytes.subarray(at + HEADER, at + length),
    });
    at += align(length);
  }
  return messages;
}

/** Sends from `source` through the link with this index (`in_pktinfo`, `in6_pktinfo`). */
export function packetInfo(source: IpAddress | undefined, family: 4 | 6, ifindex: number): ControlMessage {
  const ip = source === undefined ? new Uint8Array(family === 4 ? 4 : 16) : ipBytes(source);
  const data = new Uint8Array(family === 4 ? 12 : 20);
  const view = new DataView(data.buffer);
  if (family === 4) {
    view.setInt32(0, ifindex, true);
    data.set(ip, 4); // ipi_spec_dst
    return { level: IPPROTO.IP, type: IP.PKTINFO, data };
  }
  data.set(ip);
  view.setUint32(16, ifindex, true);
  return { level: IPPROTO.IPV6, type: IPV6.PKTINFO, data };
}

export interface Received {
  /** Where the packet was sent to. */
  readonly destination: IpAddress | undefined;
  readonly ifindex: number | undefined;
  /** TTL or hop limit as it arrived. */
  readonly ttl: number | undefined;
}

/** What IP_PKTINFO, IP_RECVTTL, IPV6_RECVPKTINFO and IPV6_RECVHOPLIMIT add to a packet. */
export function readReceived(control: Uint8Array): Received {
  let destination: IpAddress | undefined;
  let ifindex: number | undefined;
  let ttl: number | undefined;
  for (const { level, type, data } of decodeControl(control)) {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    if (level === IPPROTO.IP && type === IP.PKTINFO && data.length >= 12) {
      ifindex = view.getInt32(0, true);
      destination = ipFromBytes(data.subarray(8, 12));
    } else if (level === IPPROTO.IPV6 && type === IPV6.PKTINFO && data.length >= 20) {
      destination = ipFromBytes(data.subarray(0, 16));
      ifindex = view.getUint32(16, true);
    } else if (
      data.length >= 4 &&
      ((level === IPPROTO.IP && type === IP.TTL) || (level === IPPROTO.IPV6 && type === IPV6.HOPLIMIT))
    ) {
      ttl = view.getInt32(0, true);
    }
  }
  return { destination, ifindex, ttl };
}
