import { type IpAddress, type MacAddress, ipBytes, ipFromBytes, macFromBytes } from "../base/addresses.ts";
import { utf8 } from "../base/utf8.ts";
import { AF, ETH_P } from "./constants.ts";

/**
 * Socket addresses as the kernel has them. The family and the numbers of netlink and packet addresses are in
 * host byte order, which is little endian on every machine that this program supports (x86-64, arm64);
 * ports are big endian.
 */

/** `sockaddr_in` or `sockaddr_in6`. `scope` is the interface's index for link-local and multicast addresses. */
export function inetAddress(address: IpAddress, port = 0, scope = 0): Uint8Array {
  const ip = ipBytes(address);
  const bytes = new Uint8Array(ip.length === 4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ip.length === 4 ? AF.INET : AF.INET6, true);
  view.setUint16(2, port);
  if (ip.length === 4) {
    bytes.set(ip, 4);
  } else {
    bytes.set(ip, 8);
    view.setUint32(24, scope, true);
  }
  return bytes;
}

export interface InetSource {
  readonly address: IpAddress;
  readonly port: number;
  /** Interface index of a link-local IPv6 address, else 0. */
  readonly scope: number;
}

export function readInetAddress(bytes: Uint8Array): InetSource | undefined {
  if (bytes.length < 16) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const family = view.getUint16(0, true);
  if (family === AF.INET)
    return { address: ipFromBytes(bytes.subarray(4, 8)), port: view.getUint16(2), scope: 0 };
  if (family === AF.INET6 && bytes.length >= 28)
    return {
      address: ipFromBytes(bytes.subarray(8, 24)),
      port: view.getUint16(2),
      scope: view.getUint32(24, true),
    };
  return undefined;
}

/** `sockaddr_ll`: where a frame goes (destination MAC), or what a packet socket is bound to. */
export function packetAddress(
  ifindex: number,
  protocol: number = ETH_P.ARP,
  destination: Uint8Array = new Uint8Array(6),
): Uint8Array {
  const bytes = new Uint8Array(20);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF.PACKET, true);
  view.setUint16(2, protocol);
  view.setInt32(4, ifindex, true);
  bytes[11] = destination.length;
  bytes.set(destination.subarray(0, 8), 12);
  return bytes;
}

/** The sender's MAC of a `sockaddr_ll`; undefined where the link has none. */
export function readPacketSource(bytes: Uint8Array): MacAddress | undefined {
  return bytes.length >= 18 && bytes[11] === 6 ? macFromBytes(bytes.subarray(12, 18)) : undefined;
}

/** `sockaddr_nl`. Port 0 is the kernel, or, when binding, one that the kernel chooses. */
export function netlinkAddress(portid = 0): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF.NETLINK, true);
  view.setUint32(4, portid, true);
  return bytes;
}

/** The sender's port of a `sockaddr_nl`; undefined where it is none. */
export function readNetlinkPort(bytes: Uint8Array): number | undefined {
  if (bytes.length < 12) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint16(0, true) === AF.NETLINK ? view.getUint32(4, true) : undefined;
}

/** `sockaddr_un`; a leading `@` names an abstract socket, as systemd writes it. */
export function unixAddress(path: string): Uint8Array {
  const name = utf8(path);
  const bytes = new Uint8Array(2 + name.length + (path.startsWith("@") ? 0 : 1));
  new DataView(bytes.buffer).setUint16(0, AF.UNIX, true);
  bytes.set(name, 2);
  if (path.startsWith("@")) bytes[2] = 0;
  return bytes;
}
