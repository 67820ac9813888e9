/** The report of a drill: written by the lab, read by the planner, the benchmarks and people. */
export type Verdict = "passed" | "failed" | "skipped";

/** One probe stream's outcome. Times are milliseconds from the start of the run. */
export interface ProbeOutcome {
  readonly stream: string;
  readonly kind: "connect" | "established-client-first" | "established-server-first" | "http" | "udp";
  readonly sent: number;
  readonly good: number;
  /** Bad ones by class: refused, reset, timeout, wrong-server ... */
  readonly errors: Readonly<Record<string, number>>;
  /** First failed send to first good send, in ms; 0 where nothing failed. */
  readonly longestGap: number;
  readonly gaps: readonly { readonly from: number; readonly to: number; readonly error: string }[];
  /** Streams that were established before the fault and those of them that lived on. */
  readonly established?: { readonly before: number; readonly kept: number } | undefined;
}

export interface DrillRun {
  readonly drill: string;
  readonly repeat: number;
  readonly subject: "nines" | "keepalived";
  readonly verdict: Verdict;
  /** Why it failed or was skipped. */
  readonly reason?: string | undefined;
  readonly faultAt: number;
  readonly probes: readonly ProbeOutcome[];
  /** The worst lateness of the prober itself, discounted in no figure: a run with a large one says so. */
  readonly proberLag: number;
  /** ms with no node and with more than one node owning the address. */
  readonly noOwner: number;
  readonly twoOwners: number;
  readonly timeline: readonly {
    readonly at: number;
    readonly lane: string;
    readonly what: string;
    readonly until?: number | undefined;
  }[];
}

export interface DrillReport {
  readonly site: string;
  readonly date: string;
  readonly runs: readonly DrillRun[];
  readonly budget: Readonly<Record<string, number>>;
}
