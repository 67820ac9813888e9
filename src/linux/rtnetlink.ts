import { existsSync, readFileSync } from "node:fs";
import type { Family, IpAddress, MacAddress } from "../base/addresses.ts";
import { OperationalError } from "../base/errors.ts";
import type { Clock } from "../base/time.ts";
import { ERRNO, NETLINK } from "./constants.ts";
import { KernelError } from "./native.ts";
import { type BatchRefusal, NetlinkSocket, refusal } from "./netlink.ts";
import { NLM_F, type NetlinkMessage } from "./wire-netlink.ts";
import {
  type AddressPlan,
  type InterfaceAddress,
  RTM_ADDRESS,
  decodeInterfaceAddress,
  encodeAddress,
  encodeAddressQuery,
} from "./wire-address.ts";
import {
  type Link,
  type LinkChange,
  type MacvlanPlan,
  RTM_LINK,
  decodeLink,
  encodeLinkChange,
  encodeLinkQuery,
  encodeMacvlan,
} from "./wire-link.ts";
import {
  type Neighbour,
  type NeighbourState,
  RTM_NEIGHBOUR,
  RTM_ROUTE,
  RTM_RULE,
  type Route,
  type Rule,
  decodeNeighbour,
  decodeRoute,
  decodeRule,
  encodeLocalRoute,
  encodeNeighbour,
  encodeRouteQuery,
  encodeRuleQuery,
  isClonedRoute,
} from "./wire-route.ts";

export type { AddressPlan, InterfaceAddress } from "./wire-address.ts";
export type { Link, LinkChange, MacvlanPlan } from "./wire-link.ts";
export type { Neighbour, Route, Rule } from "./wire-route.ts";

const decoded = <T>(messages: readonly NetlinkMessage[], decode: (m: NetlinkMessage) => T | undefined): T[] =>
  messages.map(decode).filter((value) => value !== undefined);

/** Links, addresses, neighbours, routes and rules of this network namespace. */
export class Rtnetlink {
  readonly #socket: NetlinkSocket;
  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }
  /** In the namespace that the calling thread is in now. */
  static open(clock: Clock): Rtnetlink {
    const socket = NetlinkSocket.open({ protocol: NETLINK.ROUTE, clock });
    // The kernel then filters dumps as the query says; before 4.20 it sends all, and we filter as well.
    socket.tryOption(NETLINK.GET_STRICT_CHK, 1);
    return new Rtnetlink(socket);
  }
  /** Events that carry this number as `by` are our own. */
  get portid(): number {
    return this.#socket.portid;
  }
  close(): void {
    this.#socket.close();
  }

  async links(): Promise<Link[]> {
    return decoded(
      await this.#socket.dump("list links", { type: RTM_LINK.GET, body: encodeLinkQuery() }),
      decodeLink,
    );
  }
  /** By index or name; undefined where there is none. */
  async link(which: number | string): Promise<Link | undefined> {
    const replies = await absent(
      this.#socket.request(`link ${which}`, { type: RTM_LINK.GET, body: encodeLinkQuery(which) }),
      [ERRNO.ENODEV],
    );
    return decoded(replies ?? [], decodeLink)[0];
  }
  /** The same, but an OperationalError INTERFACE_MISSING where there is none. */
  async linkNamed(name: string): Promise<Link> {
    const link = await this.link(name);
    if (link !== undefined) return link;
    const names = (await this.links()).map((other) => other.name).join(", ");
    throw new OperationalError("INTERFACE_MISSING", `there is no interface "${name}" (there are: ${names})`, {
      retryable: true,
    });
  }
  async changeLink(index: number, change: LinkChange): Promise<void> {
    const body = encodeLinkChange(index, change);
    await this.#socket.request(`change link ${index}`, { type: RTM_LINK.NEW, body });
  }
  /** Answers the new link. It has no address of its own making, and is down unless `up` is given. */
  async createMacvlan(plan: MacvlanPlan): Promise<Link> {
    const what = `create macvlan ${plan.name}`;
    const { up, ...down } = plan;
    const flags = NLM_F.CREATE | NLM_F.EXCL;
    await this.#socket.request(what, { type: RTM_LINK.NEW, flags, body: encodeMacvlan(down) });
    const { index } = await this.linkNamed(plan.name);
    // The mode can be set only once the link is there, and must be before it is up. Without IPv6 in the
    // kernel there is none to set.
    const body = encodeLinkChange(index, { noAddressGeneration: true });
    await absent(this.#socket.request(what, { type: RTM_LINK.NEW, body }), [ERRNO.EAFNOSUPPORT]);
    if (up !== undefined) await this.changeLink(index, { up });
    return this.linkNamed(plan.name);
  }
  /** False where it was not there. */
  async deleteLink(which: number | string): Promise<boolean> {
    const request = this.#socket.request(`delete link ${which}`, {
      type: RTM_LINK.DEL,
      body: encodeLinkQuery(which),
    });
    return (await absent(request, [ERRNO.ENODEV])) !== undefined;
  }

  async addresses(
    only: { readonly ifindex?: number; readonly family?: Family } = {},
  ): Promise<InterfaceAddress[]> {
    const body = encodeAddressQuery(only.family ?? 0, only.ifindex ?? 0);
    const replies = await absent(this.#socket.dump("list addresses", { type: RTM_ADDRESS.GET, body }), [
      ERRNO.ENODEV,
    ]);
    return decoded(replies ?? [], decodeInterfaceAddress).filter(
      ({ ifindex }) => only.ifindex === undefined || ifindex === only.ifindex,
    );
  }
  /** Adds an address, or gives the one that is there its new lifetime. */
  async putAddress(plan: AddressPlan): Promise<void> {
    const [refused] = await this.putAddresses([plan]);
    if (refused !== undefined) throw refusal(`put address ${plan.address}`, refused);
  }
  /** Many in one system call; resolves with those that the kernel refused. */
  putAddresses(plans: readonly AddressPlan[]): Promise<readonly BatchRefusal[]> {
    return this.#socket.batch(
      "put addresses",
      plans.map((plan) => ({
        type: RTM_ADDRESS.NEW,
        flags: NLM_F.CREATE | NLM_F.REPLACE,
        body: encodeAddress(plan),
      })),
    );
  }
  /** False where it was not there. */
  async deleteAddress(at: Pick<AddressPlan, "ifindex" | "address" | "prefixLength">): Promise<boolean> {
    const [refused] = await this.deleteAddresses([at]);
    if (refused === undefined) return true;
    if (gone.includes(refused.errno)) return false;
    throw refusal(`delete address ${at.address}`, refused);
  }
  deleteAddresses(
    list: readonly Pick<AddressPlan, "ifindex" | "address" | "prefixLength">[],
  ): Promise<readonly BatchRefusal[]> {
    return this.#socket.batch(
      "delete addresses",
      list.map((at) => ({ type: RTM_ADDRESS.DEL, body: encodeAddress(at) })),
    );
  }

  /**
   * IPv6 addresses that were just put: the kernel makes a worker insert the route that delivers to them, milliseconds
   * later on a busy machine, and forwards what comes for them until then. This takes it at once, for a second, by a
   * route that then is not used any more. `origin` is its protocol number. Resolves with those that the kernel refused.
   */
  deliverAtOnce(
    addresses: readonly { readonly ifindex: number; readonly address: IpAddress }[],
    origin: number,
  ): Promise<readonly BatchRefusal[]> {
    return this.#socket.batch(
      "deliver to addresses",
      addresses.map((one) => ({
        type: RTM_ROUTE.NEW,
        flags: NLM_F.CREATE | NLM_F.REPLACE,
        body: encodeLocalRoute(one, origin, 1),
      })),
    );
  }
  /** The routes of `deliverAtOnce`, where they are there. */
  async endDelivery(
    addresses: readonly { readonly ifindex: number; readonly address: IpAddress }[],
    origin: number,
  ): Promise<void> {
    const routes = addresses.map((one) => ({ type: RTM_ROUTE.DEL, body: encodeLocalRoute(one, origin) }));
    await this.#socket.batch("end delivery", routes);
  }

  async neighbours(only: { readonly ifindex?: number } = {}): Promise<Neighbour[]> {
    const body = new Uint8Array(12);
    const replies = await this.#socket.dump("list neighbours", { type: RTM_NEIGHBOUR.GET, body });
    return decoded(replies, decodeNeighbour).filter(
      ({ ifindex }) => only.ifindex === undefined || ifindex === only.ifindex,
    );
  }
  async putNeighbour(entry: {
    readonly ifindex: number;
    readonly address: IpAddress;
    readonly mac: MacAddress;
    readonly state: NeighbourState;
  }): Promise<void> {
    await this.#socket.request(`put neighbour ${entry.address}`, {
      type: RTM_NEIGHBOUR.NEW,
      flags: NLM_F.CREATE | NLM_F.REPLACE,
      body: encodeNeighbour(entry),
    });
  }
  /** False where it was not there. */
  async deleteNeighbour(entry: { readonly ifindex: number; readonly address: IpAddress }): Promise<boolean> {
    const request = this.#socket.request(`delete neighbour ${entry.address}`, {
      type: RTM_NEIGHBOUR.DEL,
      body: encodeNeighbour(entry),
    });
    return (await absent(request, gone)) !== undefined;
  }

  async routes(family: Family): Promise<Route[]> {
    const body = encodeRouteQuery(family);
    const replies = await this.#socket.dump("list routes", { type: RTM_ROUTE.GET, body });
    return decoded(
      replies.filter((message) => !isClonedRoute(message)),
      decodeRoute,
    );
  }
  /** The route that our own packets to `destination` take; undefined where there is none. */
  async routeTo(destination: IpAddress): Promise<Route | undefined> {
    const body = encodeRouteQuery(destination.includes(":") ? 6 : 4, destination);
    const request = this.#socket.request(`route to ${destination}`, { type: RTM_ROUTE.GET, body });
    const unreachable = [ERRNO.ENETUNREACH, ERRNO.EHOSTUNREACH, ERRNO.EINVAL, ERRNO.EACCES];
    return decoded((await absent(request, unreachable)) ?? [], decodeRoute)[0];
  }
  async rules(family: Family): Promise<Rule[]> {
    const body = encodeRuleQuery(family);
    return decoded(await this.#socket.dump("list rules", { type: RTM_RULE.GET, body }), decodeRule);
  }
}

const gone: readonly number[] = [ERRNO.ENODEV, ERRNO.EADDRNOTAVAIL, ERRNO.ENOENT];

async function absent<T>(request: Promise<T>, errnos: readonly number[]): Promise<T | undefined> {
  try {
    return await request;
  } catch (error) {
    if (error instanceof KernelError && errnos.includes(error.errno)) return undefined;
    throw error;
  }
}

/** A change that the kernel reports. `by` is the netlink port of who made it; 0 is the kernel itself. */
export type KernelEvent =
  | { readonly what: "link"; readonly gone: boolean; readonly link: Link; readonly by: number }
  | {
      readonly what: "address";
      readonly gone: boolean;
      readonly address: InterfaceAddress;
      readonly by: number;
    }
  | {
      readonly what: "neighbour";
      readonly gone: boolean;
      readonly neighbour: Neighbour;
      readonly by: number;
    };

const groups = { link: [1], address: [5, 9], neighbour: [3] } as const;

/**
 * Tells of links, addresses and neighbours as they change. After an overrun events are missing: list anew.
 * `drain` hands over at once what waits, for a process that was stalled.
 */
export class KernelEvents {
  readonly #socket: NetlinkSocket;
  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }
  static open(options: {
    readonly clock: Clock;
    readonly of: readonly (keyof typeof groups)[];
    readonly onEvent: (event: KernelEvent) => void;
    readonly onOverrun: () => void;
  }): KernelEvents {
    return new KernelEvents(
      NetlinkSocket.open({
        protocol: NETLINK.ROUTE,
        clock: options.clock,
        groups: options.of.flatMap((name) => groups[name]),
        receiveBuffer: 4 << 20,
        onOverrun: options.onOverrun,
        onEvent: (message) => {
          const event = eventOf(message);
          if (event !== undefined) options.onEvent(event);
        },
      }),
    );
  }
  drain(): void {
    this.#socket.drain();
  }
  close(): void {
    this.#socket.close();
  }
}

function eventOf(message: NetlinkMessage): KernelEvent | undefined {
  const by = message.portid;
  switch (message.type) {
    case RTM_LINK.NEW:
    case RTM_LINK.DEL: {
      const link = decodeLink(message);
      return link && { what: "link", gone: message.type === RTM_LINK.DEL, link, by };
    }
    case RTM_ADDRESS.NEW:
    case RTM_ADDRESS.DEL: {
      const address = decodeInterfaceAddress(message);
      return address && { what: "address", gone: message.type === RTM_ADDRESS.DEL, address, by };
    }
    case RTM_NEIGHBOUR.NEW:
    case RTM_NEIGHBOUR.DEL: {
      const neighbour = decodeNeighbour(message);
      return neighbour && { what: "neighbour", gone: message.type === RTM_NEIGHBOUR.DEL, neighbour, by };
    }
    default:
      return undefined;
  }
}

/**
 * Who made a change, in words for a log. A process' first netlink socket has its pid as port, so the answer
 * is a good guess and no more. The kernel does not say it for IPv6 addresses.
 */
export function whoIs(port: number): string {
  if (port === 0) return "the kernel, or unknown";
  const comm = `/proc/${port}/comm`;
  if (!existsSync(comm)) return `netlink port ${port}, whose process has ended`;
  try {
    return `${readFileSync(comm, "utf8").trim()} (process ${port})`;
  } catch {
    return `netlink port ${port}`;
  }
}
