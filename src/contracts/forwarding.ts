/** What the health room, the forwarder and the control API exchange about backends. */
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
}
