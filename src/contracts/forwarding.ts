/** What the health room, the forwarder and the control API exchange about backends. */
import type { IpPrefix } from "../base/addresses.ts";
import type { DurationMs } from "../base/time.ts";

/** What an operator asked for; kept over a restart where asked. */
export type AdminState = "enabled" | "drain" | "maintenance";

/** What the checks say. `unknown` until `rise` or `fall` is reached for the first time. */
export type HealthState = "unknown" | "up" | "down";

export interface BackendStatus {
  readonly pool: string;
  readonly backend: string;
  readonly health: HealthState;
  readonly admin: AdminState;
  /** Of the last check, in a sentence: `HTTP 503 in 12 ms`. */
  readonly reason: string;
  /** Share of new connections after health and admin state; 0 takes none. */
  readonly effectiveWeight: number;
  readonly since: DurationMs;
  /** Since it came back, from being down or out of maintenance; absent where it was never away. */
  readonly back?: DurationMs | undefined;
}

/** A network that this host is on, and by which link. */
export interface LocalPrefix extends IpPrefix {
  readonly device?: string;
}

/** A backend as the forwarder of this node uses it in one service. */
export interface ForwardedBackend {
  readonly backend: string;
  /** `10.1.0.11:8080`. */
  readonly at: string;
  /** Of the service's new connections, 0..1. */
  readonly share: number;
  /** Why it has this share, in a sentence. */
  readonly reason: string;
}

/** `nines explain` and `nines status` about a service. */
export interface ForwardedService {
  readonly service: string;
  readonly pool: string;
  /** As in the site file: `10.0.0.1:80/tcp`. */
  readonly listen: readonly string[];
  readonly scheduler: string;
  /** `rejecting` answers new connections with a RST or port unreachable. */
  readonly state: "forwarding" | "rejecting";
  readonly reason: string;
  readonly backends: readonly ForwardedBackend[];
  /** What does not work as the site file may suggest. */
  readonly notes: readonly string[];
}

/** Counts since the table was made; they survive a restart of the brain and go back to 0 with the table. */
export interface ForwardedCounters {
  readonly service: string;
  readonly backend: string;
  /** New connections that were sent to it. */
  readonly connections: number;
  readonly packetsIn: number;
  readonly bytesIn: number;
  readonly packetsOut: number;
  readonly bytesOut: number;
}
