/** What the flows process and the brain say to each other about clients and the backends that they stay with. */
import type { IpAddress } from "../base/addresses.ts";

/** One client's affinity, in terms that are the same on every node. */
export interface AffinityEntry {
  readonly service: string;
  /** The client's address, or the first of its network. */
  readonly source: IpAddress;
  /** Where the client's connections go. Port 0 where the service's ports are kept. */
  readonly backend: IpAddress;
  readonly port: number;
  /** Milliseconds until it is forgotten, unless the client comes again. */
  readonly expires: number;
}

/** What a peer told: the brain alone may write into its tables. */
export interface FlowsToBrain {
  readonly type: "affinity";
  readonly entries: readonly AffinityEntry[];
}
/** The kernel's memory was lost: tell everything again. */
export interface BrainToFlows {
  readonly type: "again";
}
