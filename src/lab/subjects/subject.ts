/** What is drilled: nines, or a peer in its place on the same nodes, wires and backends. */
export interface RoleEvent {
  readonly at: number;
  readonly node: string;
  /** `active`, `backup`, `fault`, `initialize`, `off`. */
  readonly role: string;
}

export interface Subject {
  readonly name: "nines" | "keepalived";
  /** Why it cannot run here, in a sentence. */
  unavailable(): string | undefined;
  /** Starts it on a node; ready or not, the lab waits for roles itself. */
  start(node: string): Promise<void>;
  /** Hands the virtual addresses over as planned, as its users do it. */
  switchover(from: string, to: string): Promise<void>;
  /** Undoes what `switchover` left behind on the old Active. */
  afterSwitchover(from: string): Promise<void>;
  /** The process of a node that does one job, where the subject has such: `brain`, `redundancy`. */
  process(node: string, job: "brain" | "redundancy"): number | undefined;
  /** Asks the node for its role, where it does not tell by itself. */
  roles(): readonly RoleEvent[];
  /** The last lines that a node's processes wrote, for a report of failure. */
  said(node: string): readonly string[];
}
