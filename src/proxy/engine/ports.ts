import type { Random } from "../../base/random.ts";
import type { Challenges } from "../acme/challenges.ts";
import type { Clock } from "../../base/time.ts";
import type { ReaderLimits } from "../http1/machine.ts";
import type { Trailer } from "../http1/wire-trailers.ts";
import type { Head } from "../http1/wire-head.ts";
import type { FieldNames } from "../http1/wire-names.ts";
import type { RoutePlan, ServicePlan } from "../plan.ts";
import type { BackendState } from "./backend.ts";
import type { ClientInfo } from "./client-info.ts";
import type { Downstream } from "./downstream.ts";
import type { PoolState, Waiter } from "./pool.ts";
import type { Sweep } from "./sweep.ts";

/** Why a try at a backend failed: the label in metrics and the log. */
export type UpstreamFailure =
  | "connect"
  | "connect-timeout"
  | "lost"
  | "response-timeout"
  | "idle-timeout"
  | "invalid"
  | "unsendable"
  | "request-timeout";

/** A connection to a backend, or a stream of one, as the exchange that has it sees it. */
export interface Upstream {
  readonly backend: BackendState;
  /** Connected, so that writes go out. */
  readonly ready: boolean;
  /** Whether a byte of the current request has been written. */
  readonly sent: boolean;
  /** Exchanges finished on it before this one. */
  readonly uses: number;
  deadline: number;
  /** The request's head; `fields` are lines without Host and without those that frame the message. */
  head(head: Head, target: string, host: string, fields: string): void;
  /** A piece of the body. False: no more until `downstream.resumeRequest`. */
  body(bytes: Uint8Array, start: number, end: number, stable: boolean): boolean;
  /** The same from text, one character a byte. */
  text(body: string): void;
  /** The body is whole. */
  end(trailers: readonly Trailer[]): void;
  /** What was given goes out. False: pause the client. */
  flush(): boolean;
  resumeResponse(): void;
  tunnelWrite(bytes: Uint8Array, stable: boolean): boolean;
  tunnelEnd(): void;
  close(): void;
}

/** An exchange as the connection to its backend sees it. */
export interface UpstreamOwner {
  readonly head: Head;
  readonly downstream: Downstream;
  readonly route: RoutePlan | undefined;
  readonly service: ServicePlan;
  readonly connection: ClientInfo;
  readonly upgrading: boolean;
  readonly requestDone: boolean;
  readonly responding: boolean;
  readonly method: string;
  readonly host: string;
  readonly target: string;
  readonly client: string;
  readonly id: string;
  connected(upstream: Upstream): void;
  patience(): number;
  /** How long a response may bring nothing. */
  quiet(): number;
  interim(head: Head): void;
  responseHead(head: Head, upstream: Upstream): boolean;
  responseBody(bytes: Uint8Array, start: number, end: number, stable: boolean): boolean;
  responseEnd(trailers: readonly Trailer[]): void;
  switched(head: Head, rest: Uint8Array): void;
  tunnelled(now: number): void;
  tunnelClosed(): void;
  upstreamFailed(upstream: Upstream, why: UpstreamFailure, detail: string | undefined): void;
}

/** Who waits in a pool's queue. */
export interface QueuedExchange extends Waiter {
  readonly queueDeadline: number;
  fail(status: number, reason: string): void;
  flushRequest(): void;
}

/** What a copy of a request is made from, besides its fields. */
export interface MirroredRequest {
  readonly host: string;
  readonly target: string;
  readonly client: string;
  readonly upgrading: boolean;
}

/** What the fields of a request to a backend are made of. */
export interface RequestSource {
  readonly head: Head;
  readonly service: ServicePlan;
  readonly connection: ClientInfo;
  readonly client: string;
  readonly id: string;
  readonly view: { readonly dropped: string[] | undefined; readonly lines: string } | undefined;
}

/** The engine as connections and exchanges see it. */
export interface EngineCore {
  readonly clock: Clock;
  readonly random: Random;
  readonly names: FieldNames;
  readonly sweep: Sweep;
  readonly challenges: Challenges;
  readonly responseLimits: ReaderLimits;
  /** The monotonic clock as of the last `tick`. */
  readonly now: number;
  tick(): void;
  event(name: string): void;
  nextId(): string;
  traceId(): string;
  splitHost(authority: string): string;
  weightedPool(route: RoutePlan): PoolState;
  acquire(exchange: UpstreamOwner, backend: BackendState, route: RoutePlan): Upstream;
  freed(backend: BackendState): void;
  /** Someone has begun to wait in this pool's queue. */
  waits(pool: PoolState): void;
  /** Those who wait in this pool's queue try again, in turn. */
  serveQueue(pool: PoolState): void;
  failed(backend: BackendState, route: RoutePlan): void;
  middlewareFailed(route: string, error: unknown): void;
  /** Sends a copy where the route asks for one. */
  mirror(original: RequestSource & MirroredRequest, route: RoutePlan): void;
  faulty(service: ServicePlan, info: ClientInfo, status: number, reason: string, bytes: number): void;
}

/** What a listener keeps of each connection. */
export interface Closable {
  drain(): void;
  destroy(): void;
}

/** The listener as its connections see it. */
export interface ListenerCore {
  readonly service: ServicePlan;
  readonly draining: boolean;
  readonly clients: Set<Closable>;
  closed(client: Closable): void;
}
