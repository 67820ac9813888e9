/**
 * Virtual addresses in the kernel, as leases: what should be there is put there again and again, which
 * renews it and brings back what somebody deleted; what should not be is removed.
 */
import { type IpAddress, type MacAddress, ipFamily, macFromBytes } from "../base/addresses.ts";
import { messageOf } from "../base/errors.ts";
import type { DurationMs } from "../base/time.ts";
import type { InstancePlan, RouterPlan } from "../contracts/redundancy.ts";
import { type AddressPlan, type Rtnetlink } from "../linux/rtnetlink.ts";
import { readSysctl, writeSysctl } from "../linux/sysctl.ts";
import type { LinkWatch } from "./links.ts";
import { virtualAddresses } from "./plan.ts";
import { virtualMacBytes } from "./vrrp/packet.ts";

/** IFA_PROTO of our addresses: VRRP's protocol number, so that `ip address` tells whose they are. */
export const ADDRESS_ORIGIN = 112;

/** Where one virtual address is to be installed and announced. */
export interface Placed {
  readonly ifindex: number;
  readonly address: IpAddress;
  readonly mac: MacAddress;
  readonly loopback: boolean;
}

/** At most 15 characters, whatever the numbers. */
const macvlanName = (plan: InstancePlan, parent: number): string => `v${plan.family}-${plan.vrid}-${parent}`;

export interface AddressKeeperOptions {
  readonly rtnetlink: Rtnetlink;
  readonly links: LinkWatch;
  /** Something could not be done: what, and why. */
  readonly onProblem: (what: string, reason: string) => void;
}

/** The addresses of one router. All methods take effect in the kernel before they return, unless they say otherwise. */
export class AddressKeeper {
  readonly #options: AddressKeeperOptions;
  #plan: RouterPlan;
  /** macvlan links by instance, where the router has the protocol's MAC address. */
  readonly #macvlans = new Map<number, { index: number; name: string; restore: () => void }>();
  #held = false;

  constructor(plan: RouterPlan, options: AddressKeeperOptions) {
    this.#plan = plan;
    this.#options = options;
  }
  get held(): boolean {
    return this.#held;
  }
  get all(): readonly IpAddress[] {
    return virtualAddresses([this.#plan]);
  }

  /** Another plan with the same instances: addresses that are gone from it are removed. */
  replan(plan: RouterPlan): void {
    const before = this.placed();
    this.#plan = plan;
    if (!this.#held) return;
    const now = new Set(this.placed().map((p) => `${p.ifindex} ${p.address}`));
    this.#delete(before.filter((p) => !now.has(`${p.ifindex} ${p.address}`)));
    this.hold();
  }

  /** Where the addresses are, or would be. */
  placed(): Placed[] {
    const { links } = this.#options;
    return this.#plan.instances.flatMap((instance, i) =>
      instance.addresses.flatMap(({ address, interface: name }): Placed[] => {
        const link = links.link(name);
        if (!link) return [];
        const macvlan = name === instance.interface ? this.#macvlans.get(i) : undefined;
        const mac = macvlan ? macFromBytes(virtualMacBytes(instance.family, instance.vrid)) : link.mac;
        return [{ ifindex: macvlan?.index ?? link.index, address, mac, loopback: link.loopback }];
      }),
    );
  }

  /** The link that the advertisements of an instance leave by: its macvlan, or undefined for the interface itself. */
  senderLink(instance: number): number | undefined {
    return this.#macvlans.get(instance)?.index;
  }

  /** Makes the macvlan links, down. Once, when the interfaces are there. */
  async prepare(): Promise<void> {
    if (!this.#plan.virtualMac) return;
    for (const [i, instance] of this.#plan.instances.entries()) {
      if (this.#macvlans.has(i)) continue;
      const parent = this.#options.links.link(instance.interface);
      if (!parent) continue;
      const name = macvlanName(instance, parent.index);
      try {
        const mac = macFromBytes(virtualMacBytes(instance.family, instance.vrid));
        const { rtnetlink } = this.#options;
        // One that a predecessor left is as good as ours.
        const link =
          (await rtnetlink.link(name)) ??
          // Not a private one: with the same MAC up on two nodes, the parent of a private macvlan never
          // hears the other node, and two Actives would stay two.
          (await rtnetlink.createMacvlan({ name, parent: parent.index, mode: "bridge", mac }));
        // IPv6's own chatter from the virtual MAC of a Backup would teach switches the wrong port.
        if (instance.family === 4 && readSysctl(`net/ipv6/conf/${name}/disable_ipv6`) !== undefined)
          writeSysctl(`net/ipv6/conf/${name}/disable_ipv6`, "1");
        let restore = (): void => {};
        if (instance.family === 4) {
          // Clients' packets come in here, and the way back is by the parent: no strict reverse path filter.
          writeSysctl(`net/ipv4/conf/${name}/rp_filter`, "2");
          // The parent would answer for the macvlan's address with its own MAC, and ask for others in its name:
          // both teach the LAN the wrong MAC.
          const settings = [
            [`net/ipv4/conf/${instance.interface}/arp_ignore`, "1"],
            [`net/ipv4/conf/${instance.interface}/arp_announce`, "2"],
          ] as const;
          const before = settings.map(([name, value]) => [name, writeSysctl(name, value)] as const);
          restore = () => {
            for (const [name, value] of before) if (value !== undefined) writeSysctl(name, value);
          };
        }
        this.#macvlans.set(i, { index: link.index, name, restore });
      } catch (error) {
        this.#options.onProblem(`virtual MAC on ${instance.interface}`, messageOf(error));
      }
    }
  }

  /** Installs what is missing and renews what is there. Answers where the addresses are. */
  hold(lease: DurationMs = this.#plan.lease): readonly Placed[] {
    const first = !this.#held;
    if (first) {
      this.#held = true;
      this.#raise(true);
    }
    const placed = this.placed();
    const plans = placed.map(({ ifindex, address }) => addressPlan(ifindex, address, lease));
    if (plans.length === 0) return placed;
    this.#options.rtnetlink.putAddresses(plans).then(
      (refused) => {
        for (const each of refused)
          this.#options.onProblem("installing an address", `the kernel answered errno ${each.errno}`);
      },
      (error: unknown) => this.#options.onProblem("installing addresses", messageOf(error)),
    );
    if (first) this.#deliverAtOnce(placed);
    return placed;
  }

  release(): void {
    this.#held = false;
    this.#delete(this.placed());
    this.#raise(false);
  }

  /** Puts one address back that somebody else removed; false where it is none of ours. */
  restore(ifindex: number, address: IpAddress): boolean {
    if (!this.#held || !this.placed().some((p) => p.ifindex === ifindex && p.address === address))
      return false;
    this.#deliverAtOnce(this.hold().filter((p) => p.ifindex === ifindex && p.address === address));
    return true;
  }

  /**
   * Neighbours may send at once; what a new Active does not take as its own it would forward, to the old one, and the
   * answers to its own solicitations among it: the next one follows a second later.
   */
  #deliverAtOnce(placed: readonly Placed[]): void {
    const six = placed.filter(({ address, loopback }) => ipFamily(address) === 6 && !loopback);
    if (six.length === 0) return;
    // Where the kernel refuses it, its worker does it in a moment.
    this.#options.rtnetlink.deliverAtOnce(six, ADDRESS_ORIGIN).catch(() => undefined);
  }

  /** Whether leases of an earlier process of this node are still there. */
  leftovers(): boolean {
    const own = new Set(this.all);
    return this.#options.links.addresses.some(
      (a) => own.has(a.address) && a.validFor !== undefined && !a.duplicate,
    );
  }

  /** At the end of the router on this node: nothing of it stays. */
  async dispose(): Promise<void> {
    for (const { index, restore } of this.#macvlans.values()) {
      restore();
      await this.#options.rtnetlink.deleteLink(index).catch(() => false);
    }
    this.#macvlans.clear();
  }

  #delete(placed: readonly Placed[]): void {
    if (placed.length === 0) return;
    const six = placed.filter(({ address }) => ipFamily(address) === 6);
    if (six.length > 0) this.#options.rtnetlink.endDelivery(six, ADDRESS_ORIGIN).catch(() => undefined);
    this.#options.rtnetlink
      .deleteAddresses(placed)
      .catch((error: unknown) => this.#options.onProblem("removing addresses", messageOf(error)));
  }
  #raise(up: boolean): void {
    for (const { index, name } of this.#macvlans.values())
      this.#options.rtnetlink
        .changeLink(index, { up })
        .catch((error: unknown) => this.#options.onProblem(`setting ${name}`, messageOf(error)));
  }
}

/**
 * As /32 and /128, beside no base address: a lease that runs out must not take a prefix route with it. IPv6
 * with a preferred lifetime of 0, so that the node's own traffic never comes from it.
 */
function addressPlan(ifindex: number, address: IpAddress, lease: DurationMs): AddressPlan {
  const inet6 = ipFamily(address) === 6;
  return {
    ifindex,
    address,
    validFor: lease,
    noPrefixRoute: true,
    noDad: true,
    origin: ADDRESS_ORIGIN,
    ...(inet6 ? { preferredFor: 0 as DurationMs } : {}),
  };
}
