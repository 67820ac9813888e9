import { type IpAddress, type MacAddress, ipFamily, macBytes } from "../base/addresses.ts";
import { AF, ETH_P, SOCK } from "./constants.ts";
import { Socket } from "./socket.ts";
import { BROADCAST_MAC, encodeArp, gratuitousArp } from "./wire-arp.ts";
import { encodeNd, multicastMac, unsolicitedAdvertisement } from "./wire-nd.ts";
import { packetAddress } from "./wire-sockaddr.ts";

/** Tells a link's hosts and switches where an address is now. One for all links; it receives nothing. */
export class Announcer {
  readonly #socket: Socket;
  private constructor(socket: Socket) {
    this.#socket = socket;
  }
  static open(): Announcer {
    // Protocol 0: the kernel queues nothing here, however busy the LAN.
    return new Announcer(Socket.open(AF.PACKET, SOCK.DGRAM, 0, "packet socket"));
  }
  /**
   * IPv4: a gratuitous ARP in the reply and in the request form; IPv6: an unsolicited neighbour
   * advertisement, with R set for routers. Frames leave with the link's own MAC; `mac` is what they say.
   * Answers 0 or an errno.
   */
  announce(at: {
    readonly ifindex: number;
    readonly address: IpAddress;
    readonly mac: MacAddress;
    readonly router?: boolean;
  }): number {
    if (ipFamily(at.address) === 6) {
      const packet = unsolicitedAdvertisement(at.address, at.mac, at.router ?? true);
      const to = packetAddress(at.ifindex, ETH_P.IPV6, macBytes(multicastMac(packet.destination)));
      return Math.max(0, -this.#socket.send(encodeNd(packet), to));
    }
    const to = packetAddress(at.ifindex, ETH_P.ARP, macBytes(BROADCAST_MAC));
    let failed = 0;
    for (const form of ["reply", "request"] as const) {
      const sent = this.#socket.send(encodeArp(gratuitousArp(at.address, at.mac, form)), to);
      if (sent < 0) failed = -sent;
    }
    return failed;
  }
  close(): void {
    this.#socket.close();
  }
}
