import { type Family, type IpAddress, ipBytes, ipFromBytes } from "../base/addresses.ts";
import { AF, ERRNO, IP, IPPROTO, IPV6, SO, SOCK, SOL } from "./constants.ts";
import { KernelError } from "./native.ts";
import { ReceiveBatch, Socket } from "./socket.ts";
import { encodeControl, packetInfo, readReceived } from "./wire-control.ts";
import { inetAddress, readInetAddress } from "./wire-sockaddr.ts";

export interface RawPacket {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  /** TTL or hop limit as it arrived. */
  readonly ttl: number;
  /** After the IP header. A view, overwritten by the next packet: copy what is kept. */
  readonly payload: Uint8Array;
}

export interface RawSocketOptions {
  readonly family: Family;
  /** IP protocol, such as 112. */
  readonly protocol: number;
  /** The link that it is bound to: it hears and sends on this one only. */
  readonly ifindex: number;
  /** Multicast group to be joined. */
  readonly group?: IpAddress;
  /** TTL or hop limit of what is sent. */
  readonly ttl: number;
  /** IP precedence and DSCP byte; 0xc0 (internetwork control) for routing protocols. */
  readonly trafficClass?: number;
  /** May send from an address that this link does not have: a macvlan that speaks for its parent. */
  readonly foreignSource?: boolean;
  /** Absent for a socket that only sends. */
  readonly onPacket?: (packet: RawPacket) => void;
  /** A read failed (ENETDOWN when the link goes down); the socket goes on. */
  readonly onError?: (error: KernelError) => void;
}

/** A raw IP socket on one link: VRRP's. Own multicast is not heard. Opening it throws a KernelError. */
export class RawSocket {
  readonly #socket: Socket;
  readonly #options: RawSocketOptions;
  readonly #room: ReceiveBatch | undefined;
  #malformed = 0;

  private constructor(socket: Socket, options: RawSocketOptions) {
    this.#socket = socket;
    this.#options = options;
    if (options.onPacket !== undefined) this.#room = new ReceiveBatch(32, 2048, 128, 28);
  }

  static open(options: RawSocketOptions): RawSocket {
    const { family, protocol, ifindex } = options;
    const what = `raw socket for protocol ${protocol}`;
    // A socket that only sends still gets a copy of every packet of its protocol, unless it has none of its own.
    const socket = Socket.open(family === 4 ? AF.INET : AF.INET6, SOCK.RAW, protocol, what);
    try {
      bindToLink(socket, ifindex);
      if (family === 4) setUp4(socket, options);
      else setUp6(socket, options);
      const raw = new RawSocket(socket, options);
      if (options.group !== undefined) raw.join(options.group);
      if (options.onPacket === undefined) socket.filter(refuseAll);
      else socket.receiveBuffer(1 << 20).onReadable(() => raw.drain());
      return raw;
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** Packets that were too short to have come from the kernel's IP layer. */
  get malformed(): number {
    return this.#malformed;
  }
  join(group: IpAddress): void {
    this.#membership(group, true);
  }
  leave(group: IpAddress): void {
    this.#membership(group, false);
  }
  /** Answers 0, or the errno of a send that failed: nobody has heard this packet. */
  send(packet: {
    readonly destination: IpAddress;
    readonly payload: Uint8Array;
    readonly source?: IpAddress;
  }): number {
    const { family, ifindex } = this.#options;
    const control = encodeControl([packetInfo(packet.source, family, ifindex)]);
    const to = inetAddress(packet.destination, 0, ifindex);
    const sent = this.#socket.send(packet.payload, to, control);
    return sent < 0 ? -sent : 0;
  }
  /** Reads what has come now: after a stall, packets count before timers. */
  drain(): void {
    const room = this.#room;
    if (room === undefined) return;
    for (let reads = 0; reads < 16; reads++) {
      const count = this.#receive(room);
      for (let i = 0; i < count; i++) this.#onMessage(room, i);
      if (count < 32) return;
    }
  }
  /** The process stays alive for it; it does from the start. */
  keepAlive(on: boolean): this {
    this.#socket.keepAlive(on);
    return this;
  }
  close(): void {
    this.#socket.close();
  }

  #receive(room: ReceiveBatch): number {
    try {
      return this.#socket.receive(room);
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      this.#options.onError?.(error);
      return 0;
    }
  }

  #onMessage(room: ReceiveBatch, index: number): void {
    const bytes = room.message(index);
    const packet = this.#options.family === 4 ? read4(bytes) : read6(bytes, room, index);
    if (packet === undefined) this.#malformed++;
    else this.#options.onPacket?.(packet);
  }

  #membership(group: IpAddress, join: boolean): void {
    const { family, ifindex } = this.#options;
    const ip = ipBytes(group);
    const request = new Uint8Array(family === 4 ? 12 : 20);
    request.set(ip); // ip_mreqn: group, address, index; ipv6_mreq: group, index
    new DataView(request.buffer).setUint32(family === 4 ? 8 : 16, ifindex, true);
    const name =
      family === 4
        ? join
          ? IP.ADD_MEMBERSHIP
          : IP.DROP_MEMBERSHIP
        : join
          ? IPV6.JOIN_GROUP
          : IPV6.LEAVE_GROUP;
    const level = family === 4 ? IPPROTO.IP : IPPROTO.IPV6;
    const what = `${join ? "join" : "leave"} ${group} on link ${ifindex}`;
    this.#socket.setOption(level, name, request, what);
  }
}

/** BPF: return 0. */
const refuseAll = Uint8Array.of(0x06, 0, 0, 0, 0, 0, 0, 0);

function bindToLink(socket: Socket, ifindex: number): void {
  socket.setOption(SOL.SOCKET, SO.BINDTOIFINDEX, ifindex, `bind to link ${ifindex}`);
  socket.setOption(SOL.SOCKET, SO.PRIORITY, 6);
}

function setUp4(socket: Socket, options: RawSocketOptions): void {
  const request = new Uint8Array(12);
  new DataView(request.buffer).setUint32(8, options.ifindex, true);
  socket.setOption(IPPROTO.IP, IP.MULTICAST_IF, request, `multicast on link ${options.ifindex}`);
  socket.setOption(IPPROTO.IP, IP.MULTICAST_TTL, options.ttl);
  socket.setOption(IPPROTO.IP, IP.TTL, options.ttl);
  socket.setOption(IPPROTO.IP, IP.MULTICAST_LOOP, 0);
  socket.setOption(IPPROTO.IP, IP.MULTICAST_ALL, 0);
  if (options.trafficClass !== undefined) socket.setOption(IPPROTO.IP, IP.TOS, options.trafficClass);
  if (options.foreignSource === true) socket.setOption(IPPROTO.IP, IP.FREEBIND, 1);
}

function setUp6(socket: Socket, options: RawSocketOptions): void {
  socket.setOption(IPPROTO.IPV6, IPV6.MULTICAST_IF, options.ifindex, `multicast on link ${options.ifindex}`);
  socket.setOption(IPPROTO.IPV6, IPV6.MULTICAST_HOPS, options.ttl);
  socket.setOption(IPPROTO.IPV6, IPV6.UNICAST_HOPS, options.ttl);
  socket.setOption(IPPROTO.IPV6, IPV6.MULTICAST_LOOP, 0);
  socket.tryOption(IPPROTO.IPV6, IPV6.MULTICAST_ALL, 0);
  socket.setOption(IPPROTO.IPV6, IPV6.RECVHOPLIMIT, 1);
  socket.setOption(IPPROTO.IPV6, IPV6.RECVPKTINFO, 1);
  if (options.trafficClass !== undefined) socket.setOption(IPPROTO.IPV6, IPV6.TCLASS, options.trafficClass);
  if (options.foreignSource === true) socket.setOption(IPPROTO.IPV6, IPV6.FREEBIND, 1);
}

/** IPv4 raw sockets receive the header, too. */
function read4(bytes: Uint8Array): RawPacket | undefined {
  const header = ((bytes[0] ?? 0) & 15) * 4;
  if (header < 20 || bytes.length < header) return undefined;
  return {
    source: ipFromBytes(bytes.subarray(12, 16)),
    destination: ipFromBytes(bytes.subarray(16, 20)),
    ttl: bytes[8] ?? 0,
    payload: bytes.subarray(header),
  };
}

function read6(bytes: Uint8Array, room: ReceiveBatch, index: number): RawPacket | undefined {
  const { destination, ttl } = readReceived(room.control(index));
  const source = readInetAddress(room.source(index))?.address;
  if (source === undefined || destination === undefined || ttl === undefined) return undefined;
  return { source, destination, ttl, payload: bytes };
}

/** What a failed send means when the link is merely down. */
export const isLinkDown = (errno: number): boolean =>
  errno === ERRNO.ENETDOWN || errno === ERRNO.ENETUNREACH || errno === ERRNO.ENODEV;
