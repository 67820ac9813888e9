/** What the service is made of: its options, and a node that it replicates with. */
import type { TLSSocket } from "node:tls";
import type { IpAddress } from "../../base/addresses.ts";
import type { Log } from "../../base/log.ts";
import type { Clock, DurationMs, MonotonicMs, Timer } from "../../base/time.ts";
import type { SiteKeys } from "../../linux/site-tls.ts";
import type { PeerAddress } from "./connection.ts";
import type { AffinityEvents } from "./machine-affinity.ts";
import type { PeerMachine } from "./machine-peer.ts";

export interface FlowsOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly site: string;
  readonly node: string;
  /** Random: of this process. */
  readonly instance: string;
  readonly listen: { readonly address: IpAddress; readonly port: number };
  readonly peers: readonly PeerAddress[];
  readonly tls: SiteKeys;
  /** How long a change may wait for others to travel with it. */
  readonly delay: DurationMs;
  /** A peer came, went, or is in sync now. */
  readonly changed?: () => void;
  readonly affinity?: AffinityEvents;
}

export interface Peer extends PeerAddress {
  readonly machine: PeerMachine;
  readonly dial: (() => TLSSocket) | undefined;
  socket: TLSSocket | undefined;
  gone: boolean;
  dialing: boolean;
  timer: Timer | undefined;
  /** When the timer fires. */
  timerAt: MonotonicMs;
  /** What `changed` was told of: connected, has sent all, has received all. */
  told: number;
  retry: Timer | undefined;
  /** Deliveries that wait for the kernel, and how many were carried out since the last acknowledgement. */
  waiting: number;
  silent: number;
  /** Nobody listens at its port: its process does not run. */
  absent: boolean;
}
