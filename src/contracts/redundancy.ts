/**
 * What the brain and the redundancy process say to each other, over a unix socket in the runtime
 * directory, one JSON object per line. Either may restart alone: the redundancy process keeps its last
 * plan on disk and goes on without a brain; the brain learns all state anew from `status`.
 */
import type { Family, IpAddress } from "../base/addresses.ts";
import type { DurationMs } from "../base/time.ts";
import type { FlowsReport, FlushRequest } from "./flows.ts";

/** Under this name a node that an operator took out shows among what lowers a router's priority. */
export const MAINTENANCE = "nines maintenance";

/** RFC 9568, 6.4, and `fault`: out of the election until a tracked thing recovers. */
export type RouterState = "initialize" | "backup" | "active" | "fault";

/** One VRRP instance: one VRID on one link in one family. */
export interface InstancePlan {
  readonly interface: string;
  readonly vrid: number;
  readonly family: Family;
  /**
   * In the order of the site file, but for IPv6 a link-local one first, as RFC 9568 wants it: made from
   * the VRID where the site names none. Those not advertised come with their flag.
   */
  readonly addresses: readonly {
    readonly address: IpAddress;
    readonly interface: string;
    readonly advertise: boolean;
  }[];
  readonly unicast: boolean;
  /** Unicast: the own address that the peers expect; undefined for the interface's primary one. */
  readonly source?: IpAddress | undefined;
  /** Unicast peers by node; empty for multicast. */
  readonly peers: readonly { readonly node: string; readonly address: IpAddress }[];
}

/** Something whose failure lowers the priority (`lower`) or faults the router (`lower` absent). */
export type TrackPlan = {
  readonly name: string;
  readonly lower?: number;
  /** An Active that is lowered by it hands over without waiting: what fails is nothing that both nodes share. */
  readonly atOnce?: boolean | undefined;
} & (
  | { readonly kind: "interface"; readonly interface: string }
  | {
      readonly kind: "gateway";
      readonly targets: readonly IpAddress[];
      readonly interval: DurationMs;
      readonly timeout: DurationMs;
      readonly fall: number;
      readonly rise: number;
    }
  | { readonly kind: "process"; readonly process: string }
  /** Pools and scripts are watched by the brain, which reports them as facts under `name`. */
  | { readonly kind: "reported" }
);

/** What a router waits for, so that an address never comes before the connections to it. */
export interface RouterFlowsPlan {
  /** How long a hand-over waits for the other node's acknowledgement. */
  readonly handover: DurationMs;
  /** How long a takeover waits, with the addresses closed, for a table that is being received. */
  readonly takeover: DurationMs;
  /** Then: `promote` without it, or go on waiting. */
  readonly otherwise: "promote" | "wait";
  /**
   * Addresses at which a connection cannot be taken up without its entry, since another node would choose another
   * backend or port: what is not known there right after a takeover is dropped, and comes again, instead of reset.
   */
  readonly settle: readonly IpAddress[];
}

/** A virtual router of the site as this node runs it: instances that move together. */
export interface RouterPlan {
  readonly router: string;
  readonly version: 2 | 3;
  /** 1..255, of this node. */
  readonly priority: number;
  readonly interval: DurationMs;
  readonly preempt: boolean;
  readonly preemptDelay: DurationMs;
  readonly startDelay: DurationMs;
  readonly checksum: "auto" | "rfc" | "pseudo-header";
  /** Of what is received; 255 but for unicast between links. */
  readonly minHopLimit: number;
  /** Version 2's simple text password, 1 to 8 characters. */
  readonly password?: string | undefined;
  readonly virtualMac: boolean;
  readonly lease: DurationMs;
  readonly fence: boolean;
  readonly announce: {
    readonly count: number;
    readonly interval: DurationMs;
    readonly again: DurationMs;
    readonly refresh: DurationMs;
  };
  readonly tracks: readonly TrackPlan[];
  readonly hooks: {
    readonly active?: readonly string[] | undefined;
    readonly backup?: readonly string[] | undefined;
    readonly fault?: readonly string[] | undefined;
    readonly timeout: DurationMs;
  };
  readonly instances: readonly InstancePlan[];
  /** Present where connections of its services are replicated between the nodes. */
  readonly flows?: RouterFlowsPlan | undefined;
  /** All nodes of this router with their own addresses: hand-over messages go there. */
  readonly nodes: readonly {
    readonly node: string;
    readonly address: IpAddress;
    readonly priority: number;
  }[];
}

export interface RedundancyPlan {
  readonly site: string;
  readonly node: string;
  /** Of the site file; nodes compare theirs and raise an alarm where they differ. */
  readonly digest: string;
  /**
   * Why an operator took this node out: all its routers stand at priority 1, from the first moment on. It serves only
   * while no healthier node is heard.
   */
  readonly maintenance?: string | undefined;
  readonly routers: readonly RouterPlan[];
}

export type BrainToRedundancy =
  | { readonly type: "plan"; readonly plan: RedundancyPlan }
  /** Sent on change and at least once a second; its absence for 10 s counts as the brain's silence. */
  | {
      readonly type: "facts";
      readonly facts: readonly { readonly name: string; readonly good: boolean; readonly reason: string }[];
    }
  /** `id` is answered by exactly one `result`. `to` names the node that shall take over. */
  | {
      readonly type: "switchover";
      readonly id: number;
      readonly router: string;
      readonly to?: string | undefined;
    }
  /**
   * Exit. Without `keep`: for good, everything is handed over or released in order first. With it: a
   * successor starts at once, so that the addresses are left to their leases and nobody is told.
   */
  | { readonly type: "stop"; readonly keep?: boolean | undefined };

export interface RouterStatus {
  readonly router: string;
  readonly state: RouterState;
  /** Why it is in this state, in a sentence. */
  readonly reason: string;
  /** Effective, after everything tracked. */
  readonly priority: number;
  readonly basePriority: number;
  /** What lowers the priority or faults the router now. */
  readonly failing: readonly {
    readonly name: string;
    readonly reason: string;
    readonly lower?: number | undefined;
  }[];
  /** Who is Active as this node sees it, with its last advertised priority. */
  readonly active?:
    | { readonly node?: string | undefined; readonly address: IpAddress; readonly priority: number }
    | undefined;
  /** What the other nodes of this router said of themselves within the last seconds. */
  readonly others?:
    | readonly {
        readonly node: string;
        readonly state: RouterState;
        /** Effective; absent where that node's program does not tell. */
        readonly priority?: number | undefined;
      }[]
    | undefined;
  readonly addresses: readonly IpAddress[];
  readonly transitions: number;
  /** What it would do but for connections that are not in sync; absent where nothing waits. */
  readonly waiting?: string | undefined;
  /** Milliseconds since the last change of state. */
  readonly since: DurationMs;
  readonly counters: Readonly<Record<string, number>>;
}

export type RedundancyToBrain =
  | { readonly type: "ready"; readonly pid: number; readonly digest?: string | undefined }
  /** On every change, and once a second. */
  | {
      readonly type: "status";
      readonly routers: readonly RouterStatus[];
      readonly counters: Readonly<Record<string, number>>;
      /** What the flows process said last; absent where none is heard. */
      readonly flows?: FlowsReport | undefined;
    }
  /** To the flows process only. */
  | FlushRequest
  | { readonly type: "event"; readonly event: string; readonly fields: Readonly<Record<string, unknown>> }
  | {
      readonly type: "result";
      readonly id: number;
      readonly ok: boolean;
      readonly error?: string | undefined;
    };
