/** The control API: what `nines status --json` prints and what the dashboard reads. Versioned by its path, /v1. */
import type { AdminState, BackendStatus } from "./forwarding.ts";
import type { FlowsReport } from "./flows.ts";
import type { RouterStatus } from "./redundancy.ts";

export interface ProcessStatus {
  readonly name: string;
  readonly index: number;
  readonly phase: "off" | "starting" | "running" | "stopping" | "waiting";
  readonly pid?: number | undefined;
  readonly restarts: number;
}

/** Something that a person should look at. It goes when its cause goes. */
export interface Alarm {
  /** One of ALARMS in src/daemon/brain/policy-alarms.ts. */
  readonly name: string;
  /** `critical`: service is lost or one more failure loses it. */
  readonly severity: "warning" | "critical";
  /** What it is about: a router, a pool, a node; empty for the whole node. */
  readonly about: string;
  readonly message: string;
}

export interface PoolStatus {
  readonly pool: string;
  readonly healthy: number;
  readonly total: number;
  readonly backends: readonly BackendStatus[];
}

export interface ServiceStatus {
  readonly service: string;
  readonly router: string;
  readonly listen: readonly string[];
  readonly kind: "forward" | "proxy";
  readonly pool?: string | undefined;
  /** Whether this node is the one that serves it now. */
  readonly here: boolean;
}

/** The layer-7 side of a node. */
export interface ProxyStatus {
  readonly workers: readonly {
    readonly pid: number;
    readonly index: number;
    /** `spare` takes the place of one that crashes; `leaving` finishes what it has. */
    readonly state: "serving" | "starting" | "leaving" | "spare";
    /** Open connections of clients. */
    readonly connections: number;
    /** Under way at backends. */
    readonly requests: number;
    /** Of the site that it runs. */
    readonly digest: string;
  }[];
  /** Backends that passive health keeps out, and in how many workers. */
  readonly ejected: readonly { readonly backend: string; readonly workers: number }[];
  /** By service, since the brain started. */
  readonly responses: Readonly<Record<string, number>>;
}

/** What an operator asked of the node itself; kept over a restart. */
export interface NodeAdminStatus {
  readonly state: AdminState;
  /** Wall clock, ISO 8601; absent while it is enabled. */
  readonly since?: string | undefined;
  /**
   * Of taking it out: health answers fail, virtual routers are handed over, connections of its own addresses end.
   * `done` also where something stayed, which `left` then says.
   */
  readonly phase: "announcing" | "moving" | "finishing" | "done";
  /** What did not come about, a sentence each. */
  readonly left: readonly string[];
}

/** GET /v1/status */
export interface NodeStatus {
  readonly site: string;
  readonly node: string;
  readonly version: string;
  readonly siteFile: string;
  /** Of what the site file said when it was last accepted. */
  readonly digest: string;
  /** Wall clock, ISO 8601. */
  readonly startedAt: string;
  readonly lastReload?: ReloadOutcome | undefined;
  readonly admin: NodeAdminStatus;
  readonly processes: readonly ProcessStatus[];
  readonly redundancy: { readonly connected: boolean; readonly counters: Readonly<Record<string, number>> };
  /** `good`, or why the forwarding tables are not as they should be. */
  readonly forwarding: { readonly good: boolean; readonly reason: string };
  /** Replication of connections; absent where the site has none, or while its process says nothing. */
  readonly flows?: FlowsReport | undefined;
  readonly routers: readonly RouterStatus[];
  readonly pools: readonly PoolStatus[];
  readonly services: readonly ServiceStatus[];
  /** Where the site has proxy services on this node. */
  readonly proxy?: ProxyStatus | undefined;
  readonly alarms: readonly Alarm[];
}

/** POST /v1/reload */
export interface ReloadOutcome {
  readonly at: string;
  readonly ok: boolean;
  /** The mistakes, one per line as `file:line:column: path: message`; empty where it was accepted. */
  readonly errors: readonly string[];
  /** What is different, a sentence each; empty where nothing is. */
  readonly changes: readonly string[];
  /** Why proxy workers go on with what they ran before although the site was accepted; absent where none does. */
  readonly refused?: readonly string[] | undefined;
}

/** POST /v1/switchover */
export interface SwitchoverRequest {
  /** Default: the only router of this node. */
  readonly router?: string | undefined;
  /** Default: the healthiest other node. */
  readonly to?: string | undefined;
}
export interface SwitchoverOutcome {
  readonly router: string;
  readonly message: string;
  /** Who is Active afterwards, as this node sees it. */
  readonly active?: string | undefined;
}

/** POST /v1/backends */
export interface BackendRequest {
  readonly pool: string;
  readonly backend: string;
  readonly state: AdminState;
  /** Keep over a restart. */
  readonly persist: boolean;
}

/** POST /v1/node: answered at once; GET /v1/status tells how far it is. */
export interface NodeRequest {
  /** The name of the node that is asked: a mistaken host takes nothing out. */
  readonly node: string;
  readonly state: AdminState;
  /** Also where no other node can take over. */
  readonly force: boolean;
  /** How long connections to addresses that do not move are waited for, ms. */
  readonly within: number;
}

/** GET /v1/explain: sentences from facts. */
export interface Explanation {
  readonly about: string;
  readonly sentences: readonly string[];
}

/** Every error of the API. */
export interface ApiError {
  readonly error: { readonly code: string; readonly message: string; readonly retryable: boolean };
}
