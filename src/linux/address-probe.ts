import { type IpAddress, type MacAddress, ipFamily, macBytes } from "../base/addresses.ts";
import { type Clock, type DurationMs, type Timer, addTime } from "../base/time.ts";
import { AF, ETH_P, PACKET, SOCK, SOL } from "./constants.ts";
import { ReceiveBatch, Socket } from "./socket.ts";
import { BROADCAST_MAC, arpRequest, decodeArp, encodeArp } from "./wire-arp.ts";
import { arpFilter, ndFilter } from "./wire-bpf.ts";
import { decodeNd, encodeNd, multicastMac, solicitation } from "./wire-nd.ts";
import { packetAddress, readPacketSource } from "./wire-sockaddr.ts";

/** A host of the link showed that it has, or is about to take, one of the watched addresses. */
export interface AddressHeard {
  readonly address: IpAddress;
  /** As the packet says, else whose frame it was. */
  readonly mac: MacAddress | undefined;
  /** `claim`: it has it (a reply, an announcement). `probe`: it asks before taking it (RFC 5227, RFC 4862). */
  readonly kind: "claim" | "probe";
}

export interface AddressProbeOptions {
  readonly clock: Clock;
  readonly ifindex: number;
  /** Of the link: what it sends itself is not heard. */
  readonly mac: MacAddress;
  /** Heard of the addresses given to `watch`, asked for or not. */
  readonly onHeard?: (heard: AddressHeard) => void;
}

interface Question {
  readonly address: IpAddress;
  readonly answer: (mac: MacAddress | undefined) => void;
}

/**
 * Asks a link who has an address (ARP, neighbour solicitation), and hears who claims one. For gateways that
 * must answer, and for duplicates before an address is taken. The kernel filters: only packets about
 * addresses that are asked for or watched reach this process.
 */
export class AddressProbe {
  readonly #options: AddressProbeOptions;
  readonly #arp: Socket;
  readonly #nd: Socket;
  readonly #room = new ReceiveBatch(16, 256, 0, 20);
  readonly #questions = new Set<Question>();
  #watched: readonly IpAddress[] = [];
  #malformed = 0;

  private constructor(options: AddressProbeOptions, arp: Socket, nd: Socket) {
    this.#options = options;
    this.#arp = arp;
    this.#nd = nd;
  }

  static open(options: AddressProbeOptions): AddressProbe {
    const open = (protocol: number, filter: Uint8Array): Socket => {
      // Protocol 0 until the filter stands: nothing slips in before.
      const socket = Socket.open(AF.PACKET, SOCK.DGRAM, 0, "packet socket");
      try {
        socket.filter(filter).keepAlive(false);
        socket.tryOption(SOL.PACKET, PACKET.IGNORE_OUTGOING, 1);
        return socket.bind(
          packetAddress(options.ifindex, protocol),
          `packet socket on link ${options.ifindex}`,
        );
      } catch (error) {
        socket.close();
        throw error;
      }
    };
    const arp = open(ETH_P.ARP, arpFilter([]));
    try {
      const nd = open(ETH_P.IPV6, ndFilter([]));
      const probe = new AddressProbe(options, arp, nd);
      arp.onReadable(() => probe.#readArp());
      nd.onReadable(() => probe.#readNd());
      return probe;
    } catch (error) {
      arp.close();
      throw error;
    }
  }

  get malformed(): number {
    return this.#malformed;
  }
  /** Replaces the addresses that `onHeard` tells of. */
  watch(addresses: readonly IpAddress[]): void {
    this.#watched = [...addresses];
    this.#refilter();
  }
  /**
   * Sends one request and resolves with the MAC of who answered in time, or undefined. With `source` it is an
   * ordinary request from that address of ours; without, a probe that leaves no trace in anyone's table.
   */
  ask(
    address: IpAddress,
    options: { readonly timeout: DurationMs; readonly source?: IpAddress },
  ): Promise<MacAddress | undefined> {
    return new Promise((resolve) => {
      let timer: Timer | undefined;
      const question: Question = {
        address,
        answer: (mac) => {
          timer?.cancel();
          if (this.#questions.delete(question)) this.#refilter();
          resolve(mac);
        },
      };
      this.#questions.add(question);
      this.#refilter();
      this.#send(address, options.source);
      const { clock } = this.#options;
      timer = clock.setTimer(addTime(clock.monotonic(), options.timeout), () => {
        // After a stall the answer may be waiting: read before judging.
        this.drain();
        question.answer(undefined);
      });
    });
  }
  drain(): void {
    this.#readArp();
    this.#readNd();
  }
  close(): void {
    this.#arp.close();
    this.#nd.close();
    for (const question of this.#questions) question.answer(undefined);
  }

  #send(address: IpAddress, source: IpAddress | undefined): void {
    const { ifindex, mac } = this.#options;
    // A failed send is an unanswered question: the link is down, or gone.
    if (ipFamily(address) === 4) {
      const to = packetAddress(ifindex, ETH_P.ARP, macBytes(BROADCAST_MAC));
      this.#arp.send(encodeArp(arpRequest(address, mac, source)), to);
    } else {
      const packet = solicitation(address, mac, source);
      const to = packetAddress(ifindex, ETH_P.IPV6, macBytes(multicastMac(packet.destination)));
      this.#nd.send(encodeNd(packet), to);
    }
  }

  #refilter(): void {
    if (this.#arp.closed) return;
    const addresses = [...new Set([...this.#watched, ...[...this.#questions].map((q) => q.address)])];
    this.#arp.filter(arpFilter(addresses));
    this.#nd.filter(ndFilter(addresses));
  }

  #readArp(): void {
    this.#read(this.#arp, (bytes) => {
      const packet = decodeArp(bytes);
      if (!packet.ok) {
        this.#malformed++;
        return;
      }
      const { senderIp, senderMac, targetIp, operation } = packet.value;
      if (senderIp === "0.0.0.0") {
        if (operation === "request") this.#heard({ address: targetIp, mac: senderMac, kind: "probe" });
      } else {
        this.#heard({ address: senderIp, mac: senderMac, kind: "claim" });
      }
    });
  }

  #readNd(): void {
    this.#read(this.#nd, (bytes, from) => {
      const packet = decodeNd(bytes);
      if (!packet.ok) {
        this.#malformed++;
        return;
      }
      const { kind, source, target } = packet.value;
      const mac = packet.value.mac ?? from;
      if (kind === "advertisement") this.#heard({ address: target, mac, kind: "claim" });
      else if (source === "::") this.#heard({ address: target, mac, kind: "probe" });
    });
  }

  #read(socket: Socket, each: (bytes: Uint8Array, from: MacAddress | undefined) => void): void {
    if (socket.closed) return;
    for (let reads = 0; reads < 8; reads++) {
      let count: number;
      try {
        count = socket.receive(this.#room);
      } catch {
        return; // ENETDOWN once when the link goes down; it recovers with it
      }
      for (let i = 0; i < count; i++) each(this.#room.message(i), readPacketSource(this.#room.source(i)));
      if (count === 0) return;
    }
  }

  #heard(heard: AddressHeard): void {
    if (heard.mac === this.#options.mac) return;
    if (this.#watched.includes(heard.address)) this.#options.onHeard?.(heard);
    if (heard.kind === "probe") return;
    for (const question of this.#questions)
      if (question.address === heard.address) question.answer(heard.mac);
  }
}
