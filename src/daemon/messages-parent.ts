/** What the parent and its children say to each other, over Node's own channel between the two. */

import type { ProcessStatus } from "../contracts/api.ts";

/** A descriptor that the parent has opened for a child, already listening or bound. */
export interface InheritedListener {
  /** As in the table of children, e.g. `web 10.0.0.1:443/tcp`. */
  readonly name: string;
  readonly fd: number;
}

/** Given to a child in the environment variable NINES_CHILD, as JSON. */
export interface ChildSetup {
  /** `brain`, `redundancy`, `proxy` ... */
  readonly name: string;
  /** Counts from 0 where there are several of a name. */
  readonly index: number;
  readonly site: string;
  readonly node: string;
  readonly runtime: string;
  readonly state: string;
  /** True where it replaces one that still served a moment ago: what that one held in the kernel is ours. */
  readonly successor: boolean;
  /** Where the site file is wrong, the one accepted last runs, and an alarm says so. */
  readonly lastGood: boolean;
  /** Says `warm` with the site prepared, as every worker does, and waits for `go` with the place that it takes. */
  readonly spare?: boolean;
  /**
   * Random, of this run of the node, in base64: what the proxies make the keys of session tickets from where the site
   * has no secret for them. Given to proxies alone.
   */
  readonly ticketSecret?: string;
  readonly listeners: readonly InheritedListener[];
}

/**
 * How a child ends.
 * - `release`: the node stops for good. Nothing of it stays: addresses go (to a peer, make-before-break,
 *   where one is heard), tables are deleted.
 * - `leave`: a successor goes on in a moment. Everything stays in the kernel as it is; no priority 0.
 * - `orphaned`: the parent died, nobody restarts this process, and a restarted node may come at any time or
 *   never. Hand addresses over where a peer can take them, otherwise leave them to their lease; leave tables.
 */
export type StopMode = "release" | "leave" | "orphaned";

export type ParentMessage =
  /** `index` to a spare: whose place it takes. */
  | { readonly type: "go"; readonly index?: number }
  /** Comes with a socket's handle: a listener that the site asks for since the process was started. */
  | { readonly type: "listener"; readonly name: string }
  /** The parent has closed it: the site does not ask for it any more, or it comes again as another socket. */
  | { readonly type: "listener_closed"; readonly name: string }
  | { readonly type: "stop"; readonly mode: StopMode }
  | { readonly type: "reload" }
  /** To the brain, on every change: for status and metrics. */
  | { readonly type: "processes"; readonly list: readonly ProcessStatus[] };

/** A kind of child that the site asks for, in addition to the brain. */
export interface ChildWish {
  readonly name: string;
  /** How many; 0 ends them. */
  readonly count: number;
  /** Sockets that every one of them gets, each its own (SO_REUSEPORT). */
  readonly listen: readonly ListenWish[];
}

export interface ListenWish {
  /** Tells it from the others of its process; a socket whose name stays is kept, so that address and port belong in it. */
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly protocol: "tcp" | "udp";
  /** The address may not be on this host yet (IP_FREEBIND): a virtual one. */
  readonly freebind: boolean;
}

export type ChildMessage =
  /** Loaded; waits for `go`. */
  | { readonly type: "warm" }
  | { readonly type: "ready" }
  /** The event loop turns. */
  | { readonly type: "alive" }
  /** Said just before the process ends with this status. */
  | { readonly type: "failed"; readonly status: number; readonly reason: string }
  /** From the brain: what runs beside it. The parent keeps the last answer over a crash of the brain. */
  | { readonly type: "children"; readonly wishes: readonly ChildWish[] }
  /** From the brain: a reload began or ended, for the service manager. */
  | { readonly type: "reloading"; readonly done: boolean }
  /** One line for `systemctl status`. */
  | { readonly type: "summary"; readonly text: string }
  /** From the brain, on an operator's behalf: the same as SIGUSR2. */
  | { readonly type: "upgrade" };
