/** What is drilled: nines, or a peer in its place on the same nodes, wires and backends. */
export interface RoleEvent {
  readonly at: number;
  readonly node: string;
  /** `active`, `backup`, `fault`, `initialize`, `off`. */
  readonly role: string;
}

export type Job = "brain" | "redundancy" | "flows";

export interface Subject {
  /** `conntrackd`, `haproxy`: keepalived with it. */
  readonly name: "nines" | "keepalived" | "conntrackd" | "haproxy";
  /** Why it cannot run here, in a sentence. */
  unavailable(): string | undefined;
  /** Starts it on a node; ready or not, the lab waits for roles itself. */
  start(node: string): Promise<void>;
  /** Hands the virtual addresses over as planned, as its users do it. */
  switchover(from: string, to: string): Promise<void>;
  /** Undoes what `switchover` left behind on the old Active. */
  afterSwitchover(from: string): Promise<void>;
  /** Takes a node out for maintenance as its users do it, and brings it back; absent where the subject knows no such thing. */
  readonly drain?: (node: string) => Promise<void>;
  readonly enable?: (node: string) => Promise<void>;
  /** Stops it in order and starts it again, as an upgrade does. */
  restart(node: string): Promise<void>;
  /** Waits until the node has the others' connections and all its proxies, where the subject tells that. */
  synced(node: string): Promise<void>;
  /** The nodes read their site file again, where the subject has one. */
  reload(node: string): Promise<void>;
  /** The process of a node that does one job, where the subject has such. */
  process(node: string, job: Job): number | undefined;
  /** The processes of a node that proxy, where the subject has such. */
  proxies(node: string): readonly number[];
  /** Asks the node for its role, where it does not tell by itself. */
  roles(): readonly RoleEvent[];
  /** The last lines that a node's processes wrote, for a report of failure. */
  said(node: string): readonly string[];
}
