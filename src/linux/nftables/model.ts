/**
 * nf_tables as values: what a table should be, and what was read back. Both sides are compared, so
 * everything here has one canonical form.
 *
 * Registers are numbered in words of 4 bytes, 0..15; a value of n bytes takes ceil(n/4) of them.
 */
export type NftFamily = "ip" | "ip6" | "inet" | "arp" | "netdev";

export const FAMILY_NUMBERS: Readonly<Record<NftFamily, number>> = {
  inet: 1,
  ip: 2,
  arp: 3,
  netdev: 5,
  ip6: 10,
};

/** Data types by the numbers that `nft` uses to show them; the kernel knows only the length. */
export const NFT_TYPES = {
  ipv4: { id: 7, length: 4 },
  ipv6: { id: 8, length: 16 },
  ether: { id: 9, length: 6 },
  proto: { id: 12, length: 1 },
  port: { id: 13, length: 2 },
  /** In the host's byte order. */
  mark: { id: 19, length: 4 },
  ifindex: { id: 20, length: 4 },
  direction: { id: 27, length: 1 },
} as const;
export type NftType = keyof typeof NFT_TYPES;

export type Verdict =
  | { readonly code: "accept" | "drop" | "return" | "continue" | "break" }
  | { readonly code: "jump" | "goto"; readonly chain: string };

export type MetaKey =
  "protocol" | "mark" | "iif" | "oif" | "iifname" | "oifname" | "nfproto" | "l4proto" | "pkttype";
export type CtKey =
  | "state"
  | "direction"
  | "status"
  | "mark"
  | "eventmask"
  | "src-ip"
  | "dst-ip"
  | "src-ip6"
  | "dst-ip6"
  | "protocol"
  | "proto-src"
  | "proto-dst";
export type CmpOp = "eq" | "neq" | "lt" | "lte" | "gt" | "gte";

export type Expression =
  | { readonly kind: "immediate"; readonly register: number; readonly value: Uint8Array }
  | { readonly kind: "verdict"; readonly verdict: Verdict }
  | {
      readonly kind: "payload";
      readonly base: "link" | "network" | "transport";
      readonly offset: number;
      readonly length: number;
      readonly register: number;
    }
  | { readonly kind: "meta"; readonly key: MetaKey; readonly register: number }
  | { readonly kind: "meta-set"; readonly key: MetaKey; readonly register: number }
  | {
      readonly kind: "ct";
      readonly key: CtKey;
      readonly register: number;
      readonly direction?: "original" | "reply";
    }
  | { readonly kind: "ct-set"; readonly key: CtKey; readonly register: number }
  | { readonly kind: "cmp"; readonly register: number; readonly op: CmpOp; readonly value: Uint8Array }
  | {
      readonly kind: "range";
      readonly register: number;
      readonly negate: boolean;
      readonly from: Uint8Array;
      readonly to: Uint8Array;
    }
  | {
      readonly kind: "bitwise";
      readonly from: number;
      readonly to: number;
      readonly mask: Uint8Array;
      readonly xor: Uint8Array;
    }
  | {
      readonly kind: "lookup";
      readonly set: string;
      readonly register: number;
      /** Where a map's value goes; "verdict" for a verdict map; absent for a set. */
      readonly into?: number | "verdict";
      readonly negate?: boolean;
    }
  | {
      readonly kind: "nat";
      readonly type: "snat" | "dnat";
      readonly family: 4 | 6;
      readonly address?: number;
      /** First and last port, in registers; the same register for a single port. */
      readonly ports?: readonly [number, number];
      readonly flags?: readonly NatFlag[];
    }
  | {
      readonly kind: "masquerade";
      readonly ports?: readonly [number, number];
      readonly flags?: readonly NatFlag[];
    }
  | {
      readonly kind: "jhash";
      readonly from: number;
      readonly length: number;
      readonly to: number;
      readonly modulus: number;
      readonly seed: number;
      readonly offset?: number;
    }
  | {
      readonly kind: "numgen";
      readonly to: number;
      readonly modulus: number;
      readonly type: "incremental" | "random";
      readonly offset?: number;
    }
  | {
      readonly kind: "dynset";
      readonly op: "add" | "update" | "delete";
      readonly set: string;
      readonly key: number;
      readonly data?: number;
      /** Milliseconds. */
      readonly timeout?: number;
      readonly expressions?: readonly Expression[];
    }
  | { readonly kind: "counter" }
  | {
      readonly kind: "limit";
      /** Packets per `unit` seconds. */
      readonly rate: number;
      readonly unit: number;
      readonly burst: number;
      /** Matches what is over the rate instead of what is within. */
      readonly over: boolean;
    }
  | { readonly kind: "connlimit"; readonly count: number; readonly over: boolean }
  /** `code` is ICMP's or ICMPv6's; icmpx (family inet only) has its own: 1 port, 2 host unreachable. */
  | { readonly kind: "reject"; readonly type: "icmp" | "tcp-reset" | "icmpx"; readonly code: number }
  | { readonly kind: "fib"; readonly of: "saddr" | "daddr"; readonly register: number }
  | { readonly kind: "fwd"; readonly device: number; readonly address: number; readonly family: 4 | 6 }
  | { readonly kind: "notrack" }
  /** Read back, but not one of the above. */
  | { readonly kind: "unknown"; readonly name: string };

export type NatFlag = "random" | "fully-random" | "persistent";

export interface NftElement {
  /** Fields of a concatenation are each padded to a multiple of 4 bytes. */
  readonly key: Uint8Array;
  /** The last of an interval; absent for a single key. */
  readonly keyEnd?: Uint8Array;
  readonly data?: Uint8Array | Verdict;
  /** Milliseconds; absent for the set's own. */
  readonly timeout?: number;
  /** Milliseconds that are left of it; all of it where absent. Not compared. */
  readonly expires?: number;
  readonly comment?: string;
  /** Stateful expressions beyond the set's counter, e.g. a connection limit. */
  readonly connlimit?: number;
}

export interface NftSet {
  readonly name: string;
  readonly key: readonly NftType[];
  /** Makes it a map. */
  readonly data?: readonly NftType[] | "verdict";
  readonly interval?: boolean;
  /** Elements may have timeouts; milliseconds, 0 for none by default. */
  readonly timeout?: number;
  /** Rules add elements: what it holds is the kernel's and is neither compared nor changed. */
  readonly dynamic?: boolean;
  readonly size?: number;
  /** Every element counts packets and bytes. */
  readonly counter?: boolean;
  /** Elements may have a connection limit; needs `counter`. */
  readonly limits?: boolean;
  /** Keyed by `elementKey`. */
  readonly elements: ReadonlyMap<string, NftElement>;
  /** Renewed by somebody else: elements are neither compared nor changed. */
  readonly unmanaged?: boolean;
}

export interface NftHook {
  readonly type: "filter" | "nat" | "route";
  readonly hook: "prerouting" | "input" | "forward" | "output" | "postrouting" | "ingress";
  readonly priority: number;
  readonly policy: "accept" | "drop";
  /** netdev only. */
  readonly devices?: readonly string[];
}

export interface NftRule {
  /** Given by the kernel; not compared. */
  readonly handle?: bigint;
  readonly expressions: readonly Expression[];
  readonly comment?: string;
}

export interface NftChain {
  readonly name: string;
  readonly hook?: NftHook;
  readonly rules: readonly NftRule[];
}

export interface NftTable {
  readonly family: NftFamily;
  readonly name: string;
  /** Bound to the netlink socket that made it: others cannot change it. */
  readonly owner?: boolean;
  /** Stays when its owner's socket closes (kernel 6.9 and later). */
  readonly persist?: boolean;
  readonly sets: readonly NftSet[];
  readonly chains: readonly NftChain[];
}

/** The identity of an element within its set. */
export function elementKey(element: { readonly key: Uint8Array; readonly keyEnd?: Uint8Array }): string {
  const end = element.keyEnd;
  const key = String.fromCharCode(...element.key);
  return end === undefined ? key : `${key}-${String.fromCharCode(...end)}`;
}
