/**
 * Does anybody else answer for an address that this node holds? Asked when nobody rightly can any more: the
 * predecessor serves on until it hears its successor, and a dead one's kernel answers until its lease has run
 * out. Asked before a takeover, too, where nobody was heard: then a foreign host has the address already.
 */
import type { IpAddress, MacAddress } from "../base/addresses.ts";
import { type MonotonicMs, addTime, ms, seconds } from "../base/time.ts";
import type { DurationMs } from "../base/time.ts";
import type { RouterState } from "../contracts/redundancy.ts";
import type { Placed } from "./addresses.ts";
import type { GroupState } from "./group/machine-state.ts";

/** After the predecessor's lease, and for its last packets. */
const SETTLE = ms(500);
/** One answer may have been on its way: a second is asked for. */
const CONFIRM = seconds(1);
const AGAIN = seconds(60);
/** While one is known, until it is gone. */
const AGAIN_KNOWN = seconds(5);

export interface DuplicateFacts {
  readonly state: RouterState;
  readonly since: MonotonicMs;
  readonly lease: DurationMs;
  /** Whether any other router of this VRID has been heard. */
  readonly heard: boolean;
  readonly placed: readonly Placed[];
}

/**
 * By an advertisement, or by what a node says to nodes: one that hands over at once to a node that has just started
 * does so before that node has heard an advertisement, and still answers for the address.
 */
export const heardOf = ({
  links,
  seenIds,
  peers,
}: Pick<GroupState, "links" | "seenIds" | "peers">): boolean =>
  links.some(({ vrrp }) => vrrp.heard !== undefined) ||
  Object.keys(seenIds).length > 0 ||
  Object.values(peers).some(({ state }) => state === "active");

export interface DuplicatePorts {
  /** Who answers for it, if anybody does. */
  ask(placed: Placed): Promise<MacAddress | undefined>;
  found(address: IpAddress, mac: MacAddress, when: string): void;
  gone(address: IpAddress): void;
}

/** One virtual router's. `look` is called every 100 ms. */
export class DuplicateWatch {
  readonly #ports: DuplicatePorts;
  readonly #known = new Map<IpAddress, MacAddress>();
  /** Who answered before this node took over from nobody. */
  readonly #before = new Map<IpAddress, MacAddress>();
  #askedBefore = false;
  #suspects = new Map<IpAddress, MacAddress>();
  #activeSince: MonotonicMs | undefined;
  #nextAt: MonotonicMs | undefined;
  #asking = false;

  constructor(ports: DuplicatePorts) {
    this.#ports = ports;
  }

  look(now: MonotonicMs, facts: DuplicateFacts): void {
    if (facts.state !== "active") {
      this.#nextAt = undefined;
      this.end();
      if (facts.state === "backup" && !facts.heard && !this.#askedBefore) {
        this.#askedBefore = true;
        void this.#ask(facts.placed).then((answers) => {
          for (const [address, mac] of answers) this.#before.set(address, mac);
        });
      }
      return;
    }
    if (this.#activeSince !== facts.since) {
      this.#activeSince = facts.since;
      this.#nextAt = addTime(addTime(facts.since, facts.lease), SETTLE);
      if (!facts.heard)
        for (const [address, mac] of this.#before) this.#found(address, mac, "before the takeover");
      this.#before.clear();
    }
    if (this.#asking || this.#nextAt === undefined || now < this.#nextAt) return;
    this.#asking = true;
    const held = facts.since;
    void this.#ask(facts.placed).then((answers) => {
      this.#asking = false;
      if (this.#activeSince === held) this.#answered(now, answers);
    });
  }

  /** The address is not this node's any more. */
  end(): void {
    this.#activeSince = undefined;
    for (const address of this.#known.keys()) this.#ports.gone(address);
    this.#known.clear();
  }

  #answered(now: MonotonicMs, answers: ReadonlyMap<IpAddress, MacAddress>): void {
    for (const [address, mac] of answers)
      if (this.#suspects.has(address)) this.#found(address, mac, "while Active");
    for (const address of this.#known.keys()) {
      if (answers.has(address)) continue;
      this.#known.delete(address);
      this.#ports.gone(address);
    }
    const fresh = [...answers.keys()].some((address) => !this.#known.has(address));
    this.#suspects = new Map(answers);
    this.#nextAt = addTime(now, fresh ? CONFIRM : this.#known.size > 0 ? AGAIN_KNOWN : AGAIN);
  }
  #found(address: IpAddress, mac: MacAddress, when: string): void {
    if (this.#known.get(address) === mac) return;
    this.#known.set(address, mac);
    this.#ports.found(address, mac, when);
  }

  async #ask(placed: readonly Placed[]): Promise<Map<IpAddress, MacAddress>> {
    const answers = new Map<IpAddress, MacAddress>();
    await Promise.all(
      placed.map(async (each) => {
        if (each.loopback) return;
        const mac = await this.#ports.ask(each);
        if (mac !== undefined && mac !== each.mac) answers.set(each.address, mac);
      }),
    );
    return answers;
  }
}
