import { type Family, type IpAddress, ipBytes, ipFamily } from "../../base/addresses.ts";
import { type Clock, type DurationMs, ms } from "../../base/time.ts";
import { AF } from "../constants.ts";
import { KernelError } from "../native.ts";
import { type NftChange, diffTables } from "./diff.ts";
import {
  addressElements,
  destinationAddress,
  hostU32,
  isEqual,
  lookup,
  notIn,
  payload,
  u16Bytes,
  verdict,
} from "./expressions.ts";
import type { Expression, NftRule, NftSet, NftTable } from "./model.ts";
import { NftablesService, probePersist } from "./service.ts";

/**
 * What lets the kernel answer for virtual addresses only while their process is alive.
 *
 * - The fence: ARP requests and neighbour solicitations for an address are answered only while it is fresh.
 * - The gate: traffic to an address passes prerouting (before connection tracking) only while it is fresh.
 *
 * And, for a moment after a takeover, settling: TCP packets to an address that belong to no known connection and begin
 * none are dropped. Their connection's entry may be on its way here; unknown, it would be reset, while a packet that is
 * lost comes again.
 *
 * Freshness is a set element with a timeout of the kernel's own clock. The tables outlive the process, so
 * that a killed one falls silent within the timeout; the next process adopts them.
 */
export interface Fence {
  /**
   * Covers exactly these addresses from now on: closed until renewed, those that were fresh stay so. Fails
   * with PERMISSION while another living process owns the tables. Also repairs what somebody changed. `settles`: some
   * addresses will settle, which needs connection tracking in this namespace.
   */
  install(addresses: readonly IpAddress[], settles: boolean): Promise<void>;
  /**
   * One datagram, carried out by the kernel before it returns: `answering` passes the fence and `passing` the
   * gate for one more timeout, or for `lasting`. What is not named runs out.
   */
  renew(answering: readonly IpAddress[], passing: readonly IpAddress[], lasting?: DurationMs): void;
  /** These addresses settle for so long from now on; only where `install` was told of them. */
  settle(addresses: readonly IpAddress[], lasting: DurationMs): void;
  /** Closes gate and fence at once. */
  close(addresses: readonly IpAddress[]): void;
  /** Closes the gate alone: addresses are answered for, traffic waits. */
  closeGate(addresses: readonly IpAddress[]): void;
  /** At a planned stop, after the addresses are gone: deletes the tables. */
  uninstall(): Promise<void>;
  /** Ends the netlink socket. The tables stay where the kernel has persistent ones. */
  dispose(): void;
}

export interface FenceOptions {
  readonly clock: Clock;
  /** Tables are called this, so that several may live side by side. */
  readonly name?: string;
  /** How long one renewal lasts; 400 ms by default, renewed every 100 ms. */
  readonly timeout?: DurationMs;
  /** A renewal that the kernel refused, e.g. since the table was deleted: install again. */
  readonly onError: (error: Error) => void;
}

const FENCED = { 4: "fenced", 6: "fenced6" } as const;
const ANSWER = { 4: "answering", 6: "answering6" } as const;
const PASS = { 4: "passing", 6: "passing6" } as const;
const SETTLE = { 4: "settling", 6: "settling6" } as const;
/** Before connection tracking (-200): what is dropped here leaves no entry. */
const RAW = -300;
/** Behind connection tracking, before destinations are translated. */
const MANGLE = -150;

export class NftFence implements Fence {
  readonly #nftables: NftablesService;
  readonly #options: FenceOptions;
  readonly #name: string;
  readonly #timeout: DurationMs;
  #owned = false;

  constructor(options: FenceOptions) {
    this.#nftables = NftablesService.open(options.clock);
    this.#options = options;
    this.#name = options.name ?? "nines-fence";
    this.#timeout = options.timeout ?? ms(400);
  }

  async install(addresses: readonly IpAddress[], settles: boolean): Promise<void> {
    this.#owned = await probePersist(this.#nftables);
    const changes: NftChange[] = [];
    for (const table of fenceTables(this.#name, this.#timeout, addresses, this.#owned, settles)) {
      changes.push(...diffTables(await this.#nftables.read(table.family, table.name), table));
    }
    await this.#nftables.apply(changes);
  }

  renew(answering: readonly IpAddress[], passing: readonly IpAddress[], lasting?: DurationMs): void {
    const changes = [
      ...this.#fresh("arp", ANSWER[4], answering.filter(is4), lasting),
      ...this.#fresh("inet", ANSWER[6], answering.filter(is6), lasting),
      ...this.#fresh("inet", PASS[4], passing.filter(is4), lasting),
      ...this.#fresh("inet", PASS[6], passing.filter(is6), lasting),
    ];
    this.#send(changes);
  }

  close(addresses: readonly IpAddress[]): void {
    this.#send([
      ...this.#stale("arp", ANSWER[4], addresses.filter(is4)),
      ...this.#stale("inet", ANSWER[6], addresses.filter(is6)),
      ...this.#stale("inet", PASS[4], addresses.filter(is4)),
      ...this.#stale("inet", PASS[6], addresses.filter(is6)),
    ]);
  }

  settle(addresses: readonly IpAddress[], lasting: DurationMs): void {
    this.#send([
      ...this.#fresh("inet", SETTLE[4], addresses.filter(is4), lasting),
      ...this.#fresh("inet", SETTLE[6], addresses.filter(is6), lasting),
    ]);
  }

  closeGate(addresses: readonly IpAddress[]): void {
    this.#send([
      ...this.#stale("inet", PASS[4], addresses.filter(is4)),
      ...this.#stale("inet", PASS[6], addresses.filter(is6)),
    ]);
  }

  async uninstall(): Promise<void> {
    for (const family of ["arp", "inet"] as const) {
      const place = { family, table: this.#name };
      if (await this.#nftables.tableInfo(place)) await this.#nftables.apply([{ place, op: "delete-table" }]);
    }
  }
  dispose(): void {
    this.#nftables.close();
  }

  #send(changes: readonly NftChange[]): void {
    if (changes.length === 0) return;
    this.#nftables.apply(changes).catch((error: unknown) => {
      this.#options.onError(error instanceof Error ? error : new KernelError("fence", 5, String(error)));
    });
  }

  // Adding what is there changes nothing (before kernel 6.12 not even its timeout) and deleting what is not
  // there fails: added, deleted, added is right whatever was there, and packets see one change.
  #fresh(
    family: "arp" | "inet",
    name: string,
    addresses: readonly IpAddress[],
    lasting: DurationMs | undefined,
  ): NftChange[] {
    if (addresses.length === 0) return [];
    const [add, remove] = this.#stale(family, name, addresses, lasting);
    return add && remove ? [add, remove, add] : [];
  }
  #stale(
    family: "arp" | "inet",
    name: string,
    addresses: readonly IpAddress[],
    lasting?: DurationMs,
  ): NftChange[] {
    if (addresses.length === 0) return [];
    const place = { family, table: this.#name };
    const set = freshSet(name, this.#timeout);
    const elements = addresses.map((address) => ({
      key: ipBytes(address),
      ...(lasting === undefined ? {} : { timeout: Math.ceil(lasting) }),
    }));
    return [
      { place, op: "add-elements", set, elements },
      { place, op: "delete-elements", set, elements },
    ];
  }
}

const is4 = (address: IpAddress): boolean => ipFamily(address) === 4;
const is6 = (address: IpAddress): boolean => ipFamily(address) === 6;

const freshSet = (name: string, timeout: DurationMs): NftSet => ({
  name,
  key: [name.endsWith("6") ? "ipv6" : "ipv4"],
  timeout,
  elements: new Map(),
  unmanaged: true,
});

/** Pure: the tables for these addresses. */
export function fenceTables(
  name: string,
  timeout: DurationMs,
  addresses: readonly IpAddress[],
  owned: boolean,
  settles: boolean,
): NftTable[] {
  const fenced4: NftSet = { name: FENCED[4], key: ["ipv4"], elements: addressElements(addresses, 4) };
  const fenced6: NftSet = { name: FENCED[6], key: ["ipv6"], elements: addressElements(addresses, 6) };
  const flags = owned ? { owner: true, persist: true } : {};
  const arp: NftTable = {
    family: "arp",
    name,
    ...flags,
    sets: [fenced4, freshSet(ANSWER[4], timeout)],
    chains: [
      {
        name: "fence",
        hook: { type: "filter", hook: "input", priority: 0, policy: "accept" },
        rules: [
          {
            comment: "requests for a virtual address that is not fresh; not its own announcements",
            expressions: [
              payload("network", 6, 2, 0),
              isEqual(0, u16Bytes(1)),
              payload("network", 24, 4, 0),
              lookup(FENCED[4], 0),
              notIn(ANSWER[4], 0),
              payload("network", 14, 4, 0),
              notIn(FENCED[4], 0),
              { kind: "counter" },
              verdict("drop"),
            ],
          },
        ],
      },
    ],
  };
  const solicitation = [
    { kind: "meta", key: "l4proto", register: 0 } as const,
    isEqual(0, Uint8Array.of(58)),
    payload("transport", 0, 1, 0),
  ];
  const inet: NftTable = {
    family: "inet",
    name,
    ...flags,
    sets: [
      fenced4,
      fenced6,
      freshSet(ANSWER[6], timeout),
      freshSet(PASS[4], timeout),
      freshSet(PASS[6], timeout),
      ...(settles ? [freshSet(SETTLE[4], timeout), freshSet(SETTLE[6], timeout)] : []),
    ],
    chains: [
      {
        name: "fence",
        hook: { type: "filter", hook: "input", priority: 0, policy: "accept" },
        rules: [
          {
            comment: "neighbour solicitations for a virtual address that is not fresh",
            expressions: [
              ...solicitation,
              isEqual(0, Uint8Array.of(135)),
              payload("transport", 8, 16, 0),
              lookup(FENCED[6], 0),
              notIn(ANSWER[6], 0),
              { kind: "counter" },
              verdict("drop"),
            ],
          },
        ],
      },
      {
        name: "gate",
        hook: { type: "filter", hook: "prerouting", priority: RAW, policy: "accept" },
        rules: [
          {
            comment: "neighbour discovery is the fence's",
            expressions: [
              ...solicitation,
              { kind: "range", register: 0, negate: false, from: Uint8Array.of(135), to: Uint8Array.of(136) },
              verdict("accept"),
            ],
          },
          notFresh(4),
          notFresh(6),
        ],
      },
      ...(settles
        ? [
            {
              name: "settling",
              hook: { type: "filter", hook: "prerouting", priority: MANGLE, policy: "accept" },
              rules: [unknown(4), unknown(6)],
            } as const,
          ]
        : []),
    ],
  };
  return [arp, inet];
}

const inFamily = (family: Family): readonly Expression[] => [
  { kind: "meta", key: "nfproto", register: 0 },
  isEqual(0, Uint8Array.of(family === 4 ? AF.INET : AF.INET6)),
];

function notFresh(family: Family): NftRule {
  return {
    comment: "traffic to a virtual address that is not fresh",
    expressions: [
      ...inFamily(family),
      destinationAddress(family, 0),
      lookup(FENCED[family], 0),
      notIn(PASS[family], 0),
      { kind: "counter" },
      verdict("drop"),
    ],
  };
}

/** NF_CT_STATE_BIT of IP_CT_NEW, and NF_CT_STATE_INVALID_BIT. */
const NEW_OR_INVALID = hostU32(8 | 1);
const SYN = 0x02;
const SYN_ACK_RST_FIN = 0x17;

function unknown(family: Family): NftRule {
  return {
    comment: "packets of connections whose entries may be on their way",
    expressions: [
      ...inFamily(family),
      { kind: "meta", key: "l4proto", register: 0 },
      isEqual(0, Uint8Array.of(6)),
      destinationAddress(family, 0),
      lookup(SETTLE[family], 0),
      payload("transport", 13, 1, 0),
      { kind: "bitwise", from: 0, to: 0, mask: Uint8Array.of(SYN_ACK_RST_FIN), xor: Uint8Array.of(0) },
      { kind: "cmp", register: 0, op: "neq", value: Uint8Array.of(SYN) },
      { kind: "ct", key: "state", register: 0 },
      { kind: "bitwise", from: 0, to: 0, mask: NEW_OR_INVALID, xor: hostU32(0) },
      { kind: "cmp", register: 0, op: "neq", value: hostU32(0) },
      { kind: "counter" },
      verdict("drop"),
    ],
  };
}
