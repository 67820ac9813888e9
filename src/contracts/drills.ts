/** The report of a drill: written by the lab, read by the planner, the benchmarks and people. */
export type Verdict = "passed" | "failed" | "skipped";

/** `arriving`: connections that come and go throughout; those younger than the lag may die with a node. */
export type StreamKind =
  | "connect"
  | "established-client-first"
  | "established-server-first"
  | "arriving"
  | "http"
  | "udp"
  | "resolver";

/** One probe stream's outcome. Times are milliseconds from the injection of the fault. */
export interface ProbeOutcome {
  readonly stream: string;
  readonly kind: StreamKind;
  readonly sent: number;
  readonly good: number;
  /** Bad ones by class: refused, reset, timeout, wrong-server, truncated, unreachable, http-5xx ... */
  readonly errors: Readonly<Record<string, number>>;
  /** First failed send to first good send, in ms; 0 where nothing failed. */
  readonly longestGap: number;
  /** Sum of all gaps. */
  readonly badTime: number;
  readonly gaps: readonly { readonly from: number; readonly to: number; readonly error: string }[];
  /** Of the good ones, from when the probe was due; ms. */
  readonly latency: { readonly median: number; readonly p99: number; readonly max: number };
  /** Streams that were established before the fault and those of them that lived on. */
  readonly established?: EstablishedOutcome | undefined;
}

export interface EstablishedOutcome {
  readonly before: number;
  readonly kept: number;
  /** Those that did not live on, the first hundred of them. */
  readonly lost?: readonly LostConnection[] | undefined;
}
export interface LostConnection {
  /** The client's port. */
  readonly port: number;
  readonly backend: string;
  /** ms from the fault; negative before it. */
  readonly established: number;
  /** When it ended, or when its last line was seen. */
  readonly last: number;
  /** `silent`: nobody ended it, and nothing comes any more. */
  readonly error: string;
}

/** What a run may cost at most; what is absent is not judged. Times in ms, `kept` a share of 1. */
export interface DrillBudget {
  readonly gap?: number | undefined;
  readonly lost?: number | undefined;
  readonly kept?: number | undefined;
  readonly noOwner?: number | undefined;
  readonly twoOwners?: number | undefined;
  readonly takeovers?: number | undefined;
  /** From the injection until the last failed new connection. */
  readonly settled?: number | undefined;
}

export interface TimelineEntry {
  /** ms from the injection of the fault; negative before it. */
  readonly at: number;
  /** `fault`, `role lb1`, `owner 10.0.0.1`, `announce lb1` ... */
  readonly lane: string;
  readonly what: string;
  readonly until?: number | undefined;
}

export interface DrillRun {
  readonly drill: string;
  readonly repeat: number;
  readonly subject: "nines" | "keepalived" | "conntrackd" | "haproxy";
  readonly verdict: Verdict;
  /** Why it failed or was skipped: every missed line of the budget. */
  readonly reason?: string | undefined;
  /** The node that was hit. */
  readonly node?: string | undefined;
  /** When the fault was healed, in ms from its injection. */
  readonly healedAt: number;
  readonly budget: DrillBudget;
  readonly probes: readonly ProbeOutcome[];
  /** The worst lateness of the prober itself, discounted in no figure: a run with a large one says so. */
  readonly proberLag: number;
  /** ms with no node and with more than one node owning a virtual address, the worst address. */
  readonly noOwner: number;
  readonly twoOwners: number;
  /** Changes of the node that is Active, as the nodes report them. */
  readonly takeovers: number;
  readonly timeline: readonly TimelineEntry[];
}

export interface DrillReport {
  readonly site: string;
  readonly date: string;
  readonly machine: string;
  readonly runs: readonly DrillRun[];
}
