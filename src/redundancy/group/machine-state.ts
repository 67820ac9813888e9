/** A virtual router of the site on one node: VRRP instances that move together. Its state, events and effects. */
import type { IpAddress } from "../../base/addresses.ts";
import { type DurationMs, type MonotonicMs, NEVER, instant, ms, seconds } from "../../base/time.ts";
import { MAINTENANCE, type RouterPlan, type RouterState } from "../../contracts/redundancy.ts";
import { type VrrpConfig, type VrrpCounter, type VrrpState, initialVrrp } from "../vrrp/machine.ts";

/** Every timer of a group, beside those of its instances. */
export const GROUP_TIMERS = {
  start: "Initialize: the start delay is over, and the node joins the election.",
  again: "Active: the second burst of announcements, for those who lost the first.",
  lease: "Active: one lease after the takeover the addresses of a dead predecessor are gone; announce again.",
  refresh: "Active: the periodic announcement.",
  handover: "A hand-over has not come about by now and is given up.",
  offer:
    "Giving: the offer is sent (again); first, when the connections have waited long enough to be acknowledged.",
  gate: "Active with the addresses closed: the connections are still arriving, and are waited for no longer.",
  yield:
    "Active and heard a better one: it is followed now, whether the connections are acknowledged or not.",
  heal: "Active and announcing again: done now, whether the other's connections have arrived or not.",
  watch: "Active with something failing: look again whether a healthier node is heard.",
} as const;
export type GroupTimer = keyof typeof GROUP_TIMERS;

/** An offer is repeated this often until the other node is heard as Active. */
export const OFFER_EVERY = ms(100);
/** How long a hand-over may take, unless the interval makes three advertisements longer. */
export const HANDOVER_WITHIN = seconds(1);
/** Nodes say hello once a second; after three missed ones nothing is concluded from the last. */
export const PEER_FRESH = seconds(3);
export const WATCH_EVERY = seconds(1);
/**
 * An Active that is lowered hands over when it has been the weaker one for this long. What lowers one node may lower
 * the others a moment later: both brains killed are told of within a second, and hello once a second.
 */
export const WEAK_FOR = seconds(3);
/** Healing re-runs the hooks, at most this often. */
export const REHOOK_EVERY = seconds(10);

export interface Failing {
  readonly name: string;
  readonly reason: string;
  readonly lower?: number | undefined;
}

/** What another node's hello said about this router. */
export interface Peer {
  readonly at: MonotonicMs;
  readonly state: RouterState;
  readonly priority: number;
  /** Could become Active now: nothing fails, its links are up, its start delay is over. */
  readonly eligible: boolean;
  /** Grows with each start of that node's process. */
  readonly life: number;
  /** How often it became Active in this life. */
  readonly claims: number;
}

export interface Link {
  readonly up: boolean;
  readonly reason: string;
  /** The address that advertisements are sent from; undefined while the link is not up. */
  readonly source: IpAddress | undefined;
  readonly vrrp: VrrpState;
}

/** How this node's connections stand, as the flows process says; absent where it says nothing. */
export interface FlowsState {
  /** Nodes whose connections are all here. */
  readonly synced: readonly string[];
  /** Nodes that are connected and whose connections are still arriving. */
  readonly arriving: readonly string[];
}

/** Who waits for the outcome of a hand-over. */
export type Requester =
  | { readonly kind: "command"; readonly id: number }
  /** Another node's operator asked; it is answered by message. */
  | { readonly kind: "node"; readonly node: string; readonly id: number }
  | { readonly kind: "stop" }
  /** This node found itself failing, or weaker than the other. */
  | { readonly kind: "self" };

export type Handover =
  | { readonly kind: "none" }
  | {
      readonly kind: "giving";
      readonly to: string;
      readonly id: number;
      readonly requester: Requester;
      /** Not yet while the connections are being acknowledged. */
      readonly offered: boolean;
    }
  | { readonly kind: "taking"; readonly from: string; readonly id: number }
  | { readonly kind: "asking"; readonly of: string; readonly id: number; readonly command: number };

export interface GroupState {
  readonly name: RouterState;
  readonly reason: string;
  readonly since: MonotonicMs;
  readonly transitions: number;
  readonly links: readonly Link[];
  readonly failing: readonly Failing[];
  readonly peers: Readonly<Record<string, Peer>>;
  readonly handover: Handover;
  readonly flows: FlowsState | undefined;
  /** Active with the addresses closed, since connections are still arriving. */
  readonly gated: boolean;
  /** Active, sending its connections to the better one that it heard, whose advertisement is kept. */
  readonly yielding:
    | {
        readonly id: number;
        /** Flushes not answered yet. */
        readonly left: number;
        readonly event: Extract<GroupEvent, { type: "advertisement" }>;
      }
    | undefined;
  /** Why the addresses are to be announced again, once the other's connections are here. */
  readonly healing: string | undefined;
  /** The last id of its own offers and questions, and of each other node's. */
  readonly lastId: number;
  /** Told to the others in hello: see `Peer`. */
  readonly life: number;
  readonly claims: number;
  readonly seenIds: Readonly<Record<string, number>>;
  readonly deadlines: Readonly<Record<GroupTimer, MonotonicMs>>;
  /** This process was Active before a restart, and its leases may still run. */
  readonly resume: boolean;
  readonly stopping: boolean;
  readonly rehookedAt: MonotonicMs;
  /** Active: since when a healthier node has been heard; NEVER while none is. */
  readonly weakSince: MonotonicMs;
  /** Since when a tie has been heard on other links than the first only; NEVER while it is not. */
  readonly tieSince: MonotonicMs;
}

/** Between nodes, besides hello. All carry the router's name and an id that the sender counts up. */
export type NodeMessage =
  /** The Active asks the other to become Active; it serves on until it hears it. */
  | { readonly type: "offer"; readonly router: string; readonly id: number }
  | { readonly type: "refuse"; readonly router: string; readonly id: number; readonly reason: string }
  /** Too late: whoever took it follows the election again. */
  | { readonly type: "cancel"; readonly router: string; readonly id: number }
  /** A Backup's operator asks the Active to hand over to `to`. */
  | { readonly type: "ask"; readonly router: string; readonly id: number; readonly to: string }
  /** The outcome; empty `error` where it came about. */
  | { readonly type: "answer"; readonly router: string; readonly id: number; readonly error: string };

export type GroupEvent =
  | { readonly type: "start"; readonly resume?: boolean | undefined }
  | {
      readonly type: "link";
      readonly index: number;
      readonly up: boolean;
      readonly reason: string;
      readonly source?: IpAddress | undefined;
    }
  | { readonly type: "track"; readonly name: string; readonly good: boolean; readonly reason: string }
  /** Something not in the plan lowers the priority, such as the brain's silence. */
  | { readonly type: "lower"; readonly name: string; readonly by: number; readonly reason: string }
  | {
      readonly type: "advertisement";
      readonly index: number;
      readonly source: IpAddress;
      readonly priority: number;
      readonly interval: DurationMs;
    }
  | { readonly type: "timer" }
  /** A timer fired late by this much; comes before the packets that queued, and those before `timer`. */
  | { readonly type: "woke"; readonly late: DurationMs }
  | { readonly type: "peer"; readonly node: string; readonly peer: Peer }
  | { readonly type: "message"; readonly from: string; readonly message: NodeMessage }
  /** Another process of that node speaks now: its ids may begin anywhere, should its clock have been set back. */
  | { readonly type: "restarted"; readonly node: string }
  | { readonly type: "switchover"; readonly id: number; readonly to?: string | undefined }
  | { readonly type: "flows"; readonly flows: FlowsState | undefined }
  /** The answer to the effect `flush`. */
  | { readonly type: "flushed"; readonly id: number }
  /** The plan in the context is another one, with the same instances. */
  | { readonly type: "planned" }
  | { readonly type: "stop" };

export type GroupCounter =
  | VrrpCounter
  | "takeovers"
  | "handovers_given"
  | "handovers_taken"
  | "handovers_failed"
  | "faults"
  | "releases"
  | "flows_gates"
  | "flows_gates_expired";

/**
 * Carried out in the order in which they stand. That order is the design's: on takeover the advertisement
 * comes first, then the addresses, the announcements and the hooks; when taking over from a node that
 * serves on, the addresses and announcements come first and the advertisement last, since it is what makes
 * the other one let go. Leaving, priority 0 stands before the removal of the addresses.
 */
export type GroupEffect =
  | { readonly type: "advertise"; readonly index: number; readonly priority: number }
  /** Gate open, fence kept fresh, addresses installed and kept: until `release`. */
  | { readonly type: "hold" }
  /** Addresses removed, fence and gate closed. */
  | { readonly type: "release" }
  | { readonly type: "announce"; readonly why: string }
  | {
      readonly type: "hook";
      readonly hook: "active" | "backup" | "fault";
      readonly previous: RouterState;
      readonly reason: string;
    }
  | {
      readonly type: "changed";
      readonly from: RouterState;
      readonly to: RouterState;
      readonly reason: string;
    }
  | { readonly type: "message"; readonly to: string; readonly message: NodeMessage }
  | {
      readonly type: "result";
      readonly id: number;
      readonly ok: boolean;
      readonly error?: string | undefined;
    }
  /** The connections are to be acknowledged by `to`; answered by one `flushed` of that id for each. */
  | { readonly type: "flush"; readonly id: number; readonly to: string; readonly within: DurationMs }
  /** Worth a line in the log. */
  | { readonly type: "tell"; readonly event: string; readonly reason: string }
  | { readonly type: "count"; readonly counter: GroupCounter }
  /** Everything is released after `stop`. */
  | { readonly type: "stopped" };

export interface GroupContext {
  readonly now: MonotonicMs;
  readonly node: string;
  readonly plan: RouterPlan;
}
export interface GroupStep {
  readonly state: GroupState;
  readonly effects: readonly GroupEffect[];
}

/** Stands for the source of a link that is not up; nothing is sent or heard on it. */
const NOWHERE = "0.0.0.0" as IpAddress;

/** After everything that fails; a lowered owner is none any more, and nobody is lowered below 1. */
export function effectivePriority(plan: RouterPlan, failing: readonly Failing[]): number {
  const lowered = failing.reduce((sum, { lower = 0 }) => sum + lower, 0);
  return lowered === 0 ? plan.priority : Math.max(1, Math.min(254, plan.priority - lowered));
}

export const vrrpConfig = (
  plan: RouterPlan,
  failing: readonly Failing[],
  link: Link,
  preempt: boolean,
): VrrpConfig => ({
  version: plan.version,
  priority: effectivePriority(plan, failing),
  interval: plan.interval,
  preempt,
  preemptDelay: plan.preemptDelay,
  source: link.source ?? NOWHERE,
});

/** Could this node become Active now? Told to the others in hello. */
export const isEligible = (state: GroupState): boolean =>
  (state.name === "backup" || state.name === "active") &&
  !state.stopping &&
  state.links.every(({ up }) => up) &&
  state.failing.every(({ lower }) => lower !== undefined);

/** Taken out by an operator. */
export const isOut = ({ failing }: GroupState): boolean => failing.some(({ name }) => name === MAINTENANCE);

/** `firstId` is above every id of an earlier run of this node, so that its offers are not taken for old ones. */
export function initialGroup({ now, plan }: GroupContext, firstId: number): GroupState {
  const down = { up: false, reason: "not looked at yet", source: undefined };
  const never = Object.fromEntries(Object.keys(GROUP_TIMERS).map((timer) => [timer, NEVER]));
  return {
    name: "initialize",
    reason: "not started",
    since: now,
    transitions: 0,
    links: plan.instances.map(() => ({
      ...down,
      vrrp: initialVrrp({ ...plan, source: NOWHERE }, now),
    })),
    failing: [],
    peers: {},
    handover: { kind: "none" },
    flows: undefined,
    gated: false,
    yielding: undefined,
    healing: undefined,
    lastId: firstId,
    life: firstId,
    claims: 0,
    seenIds: {},
    deadlines: never as Record<GroupTimer, MonotonicMs>,
    resume: false,
    stopping: false,
    tieSince: NEVER,
    weakSince: NEVER,
    rehookedAt: instant(-Number(REHOOK_EVERY)),
  };
}
