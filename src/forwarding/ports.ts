/** What the forwarder needs of others, in its own words. */
import type { Family, IpAddress } from "../base/addresses.ts";

/** Connections to a backend, as conntrack knows them. */
export interface FlowSelector {
  readonly family: Family;
  readonly protocol: "tcp" | "udp";
  /** Connections whose mark has these bits under the mask belong to the service. */
  readonly mark: number;
  readonly mask: number;
  /** The source of replies. */
  readonly backend: IpAddress;
  /** First and last port of the backend; more than one where a range keeps its ports. */
  readonly ports: readonly [number, number];
}

/** How many connections of a service lead to an address and port. */
export interface FlowCount {
  /** The service's number, as in its mark. */
  readonly service: number;
  readonly backend: Uint8Array;
  readonly port: number;
  readonly flows: number;
}

/** The connection table. Without one, dead UDP backends keep their clients until the entries expire. */
export interface FlowTable {
  /** Deletes all that match any of these; answers how many. */
  cut(which: readonly FlowSelector[]): Promise<number>;
  /** All connections of services, counted in one pass. */
  count(): Promise<FlowCount[]>;
}
