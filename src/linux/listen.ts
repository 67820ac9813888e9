import { type IpAddress, formatIpPort, ipFamily } from "../base/addresses.ts";
import { AF, IP, IPPROTO, IPV6, SO, SOCK, SOL } from "./constants.ts";
import { check, native } from "./native.ts";
import { inetAddress } from "./wire-sockaddr.ts";
import { u32Bytes } from "./socket.ts";

export interface ListenPlan {
  readonly address: IpAddress;
  readonly port: number;
  readonly protocol: "tcp" | "udp";
  /** The address may not be on this host yet: a virtual one (IP_FREEBIND). */
  readonly freebind?: boolean;
  /** Takes connections to any address that is routed here (IP_TRANSPARENT, CAP_NET_ADMIN). */
  readonly transparent?: boolean;
  /** Connections that wait to be accepted; the kernel's somaxconn is the ceiling. */
  readonly backlog?: number;
}

/**
 * A listening TCP or bound UDP socket with SO_REUSEPORT, as a descriptor that the caller owns: for
 * `server.listen({ fd })`, or handed to a child in `stdio`. It is closed on exec otherwise. Each worker gets
 * one of its own; the kernel spreads connections over them evenly, which it does not over one that is shared.
 */
export function openListener(plan: ListenPlan): number {
  const kernel = native();
  const what = `${plan.protocol} ${formatIpPort(plan)}`;
  const four = ipFamily(plan.address) === 4;
  const type = (plan.protocol === "tcp" ? SOCK.STREAM : SOCK.DGRAM) | SOCK.NONBLOCK | SOCK.CLOEXEC;
  const fd = check(kernel.socket(four ? AF.INET : AF.INET6, type, 0), what);
  const set = (level: number, name: number, value: number, doing: string): void => {
    check(kernel.setsockopt(fd, level, name, u32Bytes(value)), `${what}: ${doing}`);
  };
  try {
    set(SOL.SOCKET, SO.REUSEADDR, 1, "SO_REUSEADDR");
    set(SOL.SOCKET, SO.REUSEPORT, 1, "SO_REUSEPORT");
    // An IPv6 listener is that alone: `::` and `0.0.0.0` are two.
    if (!four) set(IPPROTO.IPV6, IPV6.V6ONLY, 1, "IPV6_V6ONLY");
    const level = four ? IPPROTO.IP : IPPROTO.IPV6;
    if (plan.freebind === true) set(level, four ? IP.FREEBIND : IPV6.FREEBIND, 1, "IP_FREEBIND");
    if (plan.transparent === true) set(level, four ? IP.TRANSPARENT : IPV6.TRANSPARENT, 1, "IP_TRANSPARENT");
    check(kernel.bind(fd, inetAddress(plan.address, plan.port)), `${what}: bind`);
    if (plan.protocol === "tcp") check(kernel.listen(fd, plan.backlog ?? 4096), `${what}: listen`);
    return fd;
  } catch (error) {
    kernel.close(fd);
    throw error;
  }
}

/** Closes what `openListener` gave and nobody took over. */
export function closeListener(fd: number): void {
  native().close(fd);
}

/**
 * From now on the socket's end is a RST instead of a FIN, and nothing lingers. On a socket that was accepted
 * from a `transparent` listener this works also after its local address has left the host.
 */
export function resetOnClose(fd: number): void {
  const linger = new Uint8Array(8);
  linger.set(u32Bytes(1));
  native().setsockopt(fd, SOL.SOCKET, SO.LINGER, linger);
}
