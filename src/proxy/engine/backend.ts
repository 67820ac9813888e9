import { PeakEwma } from "../../balancing/peak-ewma.ts";
import type { AdminState, HealthState } from "../../contracts/forwarding.ts";
import { type Counters, newCounters } from "./metrics.ts";
import { Outlier } from "./policy-outlier.ts";

/** A connection that waits for its next exchange. */
export interface KeptConnection {
  readonly closed: boolean;
  close(): void;
}

/** A backend as the engine knows it. It lives on through reloads as long as its pool, name and address do. */
export class BackendState {
  readonly pool: string;
  readonly name: string;
  readonly id: string;
  readonly address: string;
  readonly port: number;
  configuredWeight = 1;
  health: HealthState = "unknown";
  admin: AdminState = "enabled";
  /** Share after the brain's word (checks, admin state); undefined while nobody spoke. */
  reported: number | undefined;
  upSince = 0;
  /** Waits until no other of its pool is healthy. */
  backup = false;
  /** Out of the site since the last reload: finishes what it has. */
  gone = false;

  inflight = 0;
  connections = 0;
  /** Kept connections, the one used last at the end. */
  readonly idle: KeptConnection[] = [];
  /** Connections over HTTP/2, each shared by many exchanges. */
  readonly sessions: KeptConnection[] = [];
  readonly outlier = new Outlier();
  readonly latency = new PeakEwma();
  readonly counters: Counters = newCounters();
  failures = 0;

  /** What the schedulers read: set by the pool before each pick where it changes. */
  weight = 1;
  /** Of smooth weighted round robin. */
  credit = 0;

  constructor(pool: string, name: string, address: string, port: number) {
    this.pool = pool;
    this.name = name;
    this.id = `${pool}/${name}`;
    this.address = address;
    this.port = port;
  }

  /** Whether health and admin state let new requests in; ejection is not asked here. */
  get serving(): boolean {
    return (
      this.health !== "down" &&
      this.admin === "enabled" &&
      (this.reported ?? this.configuredWeight) > 0 &&
      this.configuredWeight > 0
    );
  }

  /** Whether requests that stick to it may still come: draining backends keep their sessions. */
  get keepsSessions(): boolean {
    return this.health !== "down" && this.admin !== "maintenance" && !this.gone;
  }
}
