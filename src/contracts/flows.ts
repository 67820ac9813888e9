/**
 * What the flows process and the redundancy process say to each other, over the same unix socket as the brain.
 * Either may be absent: the flows process replicates on, and the redundancy process waits for nobody longer
 * than its plan says.
 */

/** Replication with one other node. */
export interface FlowsPeer {
  readonly node: string;
  readonly connected: boolean;
  /** It has acknowledged everything that was ours when it connected, or has gone on from there. */
  readonly sentAll: boolean;
  /** All its flows, as of when it connected, are in our kernel. */
  readonly receivedAll: boolean;
  /** Entries that it has not acknowledged yet. */
  readonly unacknowledged: number;
  /** From a change to its acknowledgement, the last batch; ms. */
  readonly lag: number;
  readonly snapshots: number;
  readonly resumes: number;
  readonly entriesSent: number;
  readonly entriesReceived: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

export interface FlowsReport {
  readonly peers: readonly FlowsPeer[];
  /** Entries that this node tells the others of, and those that it holds for others. */
  readonly own: number;
  readonly others: number;
  /** Events by kind: overruns, refusedPeers, injected ... */
  readonly counters: Readonly<Record<string, number>>;
}

export type FlowsToRedundancy =
  /** On every change of what is in sync, and once a second: its absence for 3 s counts as silence. */
  | { readonly type: "flows"; readonly report: FlowsReport }
  /** Of one `flush`; `reason` says what was not acknowledged. */
  | { readonly type: "flushed"; readonly id: number; readonly ok: boolean; readonly reason: string };

/**
 * Before a hand-over to `to`: send what there is, and from then on without delay, for `within` ms. Answered when
 * `to` has acknowledged everything, at the latest after `within` ms.
 */
export interface FlushRequest {
  readonly type: "flush";
  readonly id: number;
  readonly to: string;
  readonly within: number;
}
