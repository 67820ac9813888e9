/** The socket of node-to-node messages: see wire.ts for what they look like, and why. */
import { type IpAddress, ipFamily } from "../../base/addresses.ts";
import { messageOf } from "../../base/errors.ts";
import { type Clock, type MonotonicMs, addTime, instant, seconds } from "../../base/time.ts";
import { AF, IPPROTO, SOCK } from "../../linux/constants.ts";
import { ReceiveBatch, Socket } from "../../linux/socket.ts";
import { inetAddress, readInetAddress } from "../../linux/wire-sockaddr.ts";
import { MessageGuard } from "./guard.ts";
import { HANDOVER_MAX_BYTES, HANDOVER_PORT, HMAC_BYTES, type WireBody, encodeDatagram } from "./wire.ts";

const IP_TTL = 2;
const IP_MINTTL = 21;
const IPV6_UNICAST_HOPS = 16;
const IPV6_MINHOPCOUNT = 73;
const HOP_LIMIT = 255;
/** The address may not be there yet, or go away: bound again this often. */
const BIND_AGAIN = seconds(1);

export interface NodeAddress {
  readonly node: string;
  readonly address: IpAddress;
}
export interface NodesOptions {
  readonly clock: Clock;
  readonly site: string;
  readonly node: string;
  readonly digest: string;
  /** All nodes of the plan's routers, this one among them. */
  readonly nodes: readonly NodeAddress[];
  /** Of what is received: 255, or lower where the site lets VRRP come from another link. */
  readonly minHopLimit: number;
  readonly secret?: Uint8Array | undefined;
  readonly onMessage: (from: string, body: WireBody, digest: string) => void;
  /** Before the first message of another process of that node. */
  readonly onRestart: (node: string) => void;
  readonly count: (counter: string) => void;
  readonly onProblem: (what: string, reason: string) => void;
}

/** Sends and receives only between the addresses of the site's nodes, on one link (hop limit 255). */
export class NodesService {
  #options: NodesOptions;
  readonly #boot: number;
  #sequence = 0;
  #socket: Socket | undefined;
  #bindAt: MonotonicMs = instant(0);
  readonly #guard: MessageGuard;
  readonly #room = new ReceiveBatch(16, HANDOVER_MAX_BYTES + HMAC_BYTES);

  constructor(options: NodesOptions) {
    this.#options = options;
    this.#boot = Math.floor(options.clock.wall());
    this.#guard = new MessageGuard(options.secret);
    this.#open();
  }

  update(change: Pick<NodesOptions, "site" | "node" | "digest" | "nodes" | "minHopLimit">): void {
    const before = this.#own();
    const limit = this.#options.minHopLimit;
    this.#options = { ...this.#options, ...change };
    if (this.#own() !== before || change.minHopLimit !== limit) this.#reopen();
  }
  send(to: string, body: WireBody): void {
    const target = this.#options.nodes.find(({ node }) => node === to);
    if (!target || to === this.#options.node) return;
    if (!this.#socket) this.#open();
    if (!this.#socket) return;
    const { site, node, digest } = this.#options;
    const sequence = ++this.#sequence;
    const plain = encodeDatagram({ boot: this.#boot, sequence, site, node, digest, body });
    const sent = this.#socket.send(this.#guard.seal(plain), inetAddress(target.address, HANDOVER_PORT));
    // Connection refused is the answer to an earlier datagram: the other node's process is not there.
    if (sent < 0) this.#options.count("node_message_send_errors");
  }
  broadcast(body: WireBody): void {
    for (const { node } of this.#options.nodes) this.send(node, body);
  }
  drain(): void {
    const socket = this.#socket;
    if (!socket) return;
    for (let reads = 0; reads < 8; reads++) {
      let count: number;
      try {
        count = socket.receive(this.#room);
      } catch {
        // An ICMP error that belongs to an earlier datagram.
        continue;
      }
      for (let i = 0; i < count; i++) this.#receive(this.#room.message(i).slice(), this.#room.source(i));
      if (count < 16) return;
    }
  }
  close(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  #own(): IpAddress | undefined {
    return this.#options.nodes.find(({ node }) => node === this.#options.node)?.address;
  }
  #reopen(): void {
    this.close();
    this.#bindAt = instant(0);
    this.#open();
  }
  #open(): void {
    const { clock, nodes, onProblem, minHopLimit } = this.#options;
    const own = this.#own();
    if (own === undefined || nodes.length < 2 || clock.monotonic() < this.#bindAt) return;
    this.#bindAt = addTime(clock.monotonic(), BIND_AGAIN);
    const family = ipFamily(own);
    let socket: Socket | undefined;
    try {
      socket = Socket.open(family === 4 ? AF.INET : AF.INET6, SOCK.DGRAM, 0, "node messages");
      // Nobody beyond the link can send with a hop limit of 255 left (RFC 5082).
      if (family === 4)
        socket.setOption(IPPROTO.IP, IP_TTL, HOP_LIMIT).setOption(IPPROTO.IP, IP_MINTTL, minHopLimit);
      else
        socket
          .setOption(IPPROTO.IPV6, IPV6_UNICAST_HOPS, HOP_LIMIT)
          .setOption(IPPROTO.IPV6, IPV6_MINHOPCOUNT, minHopLimit);
      socket.bind(inetAddress(own, HANDOVER_PORT), `UDP ${own} port ${HANDOVER_PORT}`);
      socket.keepAlive(false).onReadable(() => this.drain());
      this.#socket = socket;
    } catch (error) {
      socket?.close();
      onProblem("messages between nodes", messageOf(error));
    }
  }

  #receive(bytes: Uint8Array, name: Uint8Array): void {
    const { count, nodes, node: self, site, onMessage, onRestart } = this.#options;
    const source = readInetAddress(name)?.address;
    const from = nodes.find(({ address, node }) => address === source && node !== self);
    if (!from) return count("node_messages_dropped_source");
    const opened = this.#guard.open(bytes, { site, node: from.node });
    if (!opened.ok) return count(`node_messages_dropped_${opened.error}`);
    const { body, digest, restarted } = opened.value;
    if (restarted) onRestart(from.node);
    count("node_messages_received");
    return onMessage(from.node, body, digest);
  }
}
