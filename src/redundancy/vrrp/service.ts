/** VRRP's raw sockets: one per link and family, shared by all virtual routers on it. */
import type { DurationMs } from "../../base/time.ts";
import type { Family, IpAddress } from "../../base/addresses.ts";
import { messageOf } from "../../base/errors.ts";
import type { InstancePlan, RouterPlan } from "../../contracts/redundancy.ts";
import { type RawPacket, RawSocket } from "../../linux/raw-socket.ts";
import {
  type Advertisement,
  type ChecksumForm,
  VRRP_GROUPS,
  VRRP_HOP_LIMIT,
  VRRP_PROTOCOL,
  decodeAdvertisement,
  encodeAdvertisement,
} from "./packet.ts";

/** DSCP CS6, internetwork control: what routers let through when a link is full. */
const TRAFFIC_CLASS = 0xc0;

export interface Listener {
  readonly plan: RouterPlan;
  readonly instance: InstancePlan;
  /** Of the interface; undefined for an instance that cannot run now. */
  readonly ifindex: number | undefined;
  readonly own: IpAddress | undefined;
  heard(source: IpAddress, advertisement: Advertisement, form: ChecksumForm): void;
  count(counter: string): void;
}

interface Shared {
  readonly socket: RawSocket;
  readonly listeners: Set<Listener>;
}

const keyOf = (ifindex: number, family: Family): string => `${family} ${ifindex}`;

export class VrrpSockets {
  readonly #shared = new Map<string, Shared>();
  /** Sockets that only send, from a macvlan with its parent's address. */
  readonly #senders = new Map<string, RawSocket>();
  readonly #count: (counter: string) => void;
  readonly #onProblem: (what: string, reason: string) => void;

  constructor(count: (counter: string) => void, onProblem: (what: string, reason: string) => void) {
    this.#count = count;
    this.#onProblem = onProblem;
  }

  /** False where there is no socket now; the caller tries again when the interface changes. */
  listen(listener: Listener): boolean {
    const { ifindex, instance } = listener;
    if (ifindex === undefined) return false;
    const shared = this.#shared.get(keyOf(ifindex, instance.family)) ?? this.#open(ifindex, instance.family);
    shared?.listeners.add(listener);
    return shared !== undefined;
  }
  unlisten(listener: Listener): void {
    for (const [key, shared] of this.#shared) {
      if (!shared.listeners.delete(listener) || shared.listeners.size > 0) continue;
      shared.socket.close();
      this.#shared.delete(key);
    }
  }
  /** Everything that has arrived, now: after a stall packets count before timers. */
  drain(): void {
    for (const { socket } of this.#shared.values()) socket.drain();
  }
  close(): void {
    for (const { socket } of this.#shared.values()) socket.close();
    for (const socket of this.#senders.values()) socket.close();
    this.#shared.clear();
    this.#senders.clear();
  }

  /** Answers 0, or the errno of the first send that failed. */
  send(
    listener: Listener,
    priority: number,
    form: ChecksumForm,
    via: number | undefined,
    interval: DurationMs = listener.plan.interval,
  ): number {
    const { instance, plan, ifindex, own } = listener;
    const socket =
      via === undefined
        ? ifindex !== undefined && this.#shared.get(keyOf(ifindex, instance.family))?.socket
        : this.#sender(via, instance.family);
    if (!socket || own === undefined) return 19; // ENODEV
    const advertisement: Advertisement = {
      version: plan.version,
      vrid: instance.vrid,
      priority,
      interval,
      addresses: instance.addresses.filter((a) => a.advertise).map((a) => a.address),
    };
    const destinations = instance.unicast
      ? instance.peers.map((peer) => peer.address)
      : [VRRP_GROUPS[instance.family]];
    const password = passwordBytes(plan);
    let failed = 0;
    for (const destination of destinations) {
      const options = { source: own, destination, checksum: form, password };
      const payload = encodeAdvertisement(advertisement, options);
      failed ||= socket.send({ destination, payload, source: own });
    }
    return failed;
  }

  #open(ifindex: number, family: Family): Shared | undefined {
    const listeners = new Set<Listener>();
    try {
      const socket = RawSocket.open({
        family,
        protocol: VRRP_PROTOCOL,
        ifindex,
        group: VRRP_GROUPS[family],
        ttl: VRRP_HOP_LIMIT,
        trafficClass: TRAFFIC_CLASS,
        onPacket: (packet) => this.#dispatch(listeners, packet),
        onError: (error) => this.#count(`receive_errors_${error.errno}`),
      });
      const shared = { socket, listeners };
      this.#shared.set(keyOf(ifindex, family), shared);
      return shared;
    } catch (error) {
      this.#onProblem("VRRP's socket", messageOf(error));
      return undefined;
    }
  }
  #sender(ifindex: number, family: Family): RawSocket | undefined {
    const key = keyOf(ifindex, family);
    const known = this.#senders.get(key);
    if (known) return known;
    try {
      const socket = RawSocket.open({
        family,
        protocol: VRRP_PROTOCOL,
        ifindex,
        ttl: VRRP_HOP_LIMIT,
        trafficClass: TRAFFIC_CLASS,
        foreignSource: true,
      });
      this.#senders.set(key, socket);
      return socket;
    } catch (error) {
      this.#onProblem("VRRP's socket on a macvlan", messageOf(error));
      return undefined;
    }
  }

  #dispatch(listeners: ReadonlySet<Listener>, packet: RawPacket): void {
    const vrid = packet.payload[1];
    let known = false;
    for (const listener of listeners) {
      if (listener.instance.vrid !== vrid) continue;
      known = true;
      this.#deliver(listener, packet);
    }
    // Another router's business, or one that this node does not run: worth a number, no more.
    if (!known) this.#count("packets_of_unknown_vrid");
  }
  #deliver(listener: Listener, packet: RawPacket): void {
    const { plan, instance } = listener;
    if (instance.unicast) {
      // Anyone may send to this host: only the configured peers are heard.
      if (!instance.peers.some(({ address }) => address === packet.source))
        return listener.count("dropped_unknown_peer");
    } else if (packet.destination !== VRRP_GROUPS[instance.family]) {
      return listener.count("dropped_not_multicast");
    }
    const decoded = decodeAdvertisement(packet.payload, {
      source: packet.source,
      destination: packet.destination,
      hopLimit: packet.ttl,
      minHopLimit: plan.minHopLimit,
      version: plan.version,
      checksum: plan.checksum,
      password: passwordBytes(plan),
    });
    if (!decoded.ok) return listener.count(`dropped_${decoded.error}`);
    for (const oddity of decoded.value.oddities) listener.count(`odd_${oddity}`);
    listener.count("advertisements_received");
    return listener.heard(packet.source, decoded.value.advertisement, decoded.value.checksum);
  }
}

/** Eight bytes, filled with zeros (RFC 2338, 5.3.6.2). */
function passwordBytes({ password }: RouterPlan): Uint8Array | undefined {
  if (password === undefined) return undefined;
  const bytes = new Uint8Array(8);
  for (let i = 0; i < Math.min(8, password.length); i++) bytes[i] = password.charCodeAt(i) & 0x7f;
  return bytes;
}
