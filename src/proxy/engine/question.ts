import type { MonotonicMs } from "../../base/time.ts";
import { Framing, type Head } from "../http1/wire-head.ts";
import { Field } from "../http1/wire-names.ts";
import { grpcTimeout, isGrpc } from "../http2/policy-grpc.ts";
import type { RoutePlan, ServicePlan } from "../plan.ts";
import { type KeyKind, keyOf } from "../routing/policy-key.ts";
import type { MatchInput } from "../routing/policy-match.ts";
import { mergedSlashes, normalPath } from "../routing/policy-path.ts";
import { redirectTarget } from "../routing/policy-rewrite.ts";
import { type ClientInfo, clientOf, schemeOf } from "./client-info.ts";
import type { EngineCore } from "./ports.ts";

/** Ids of trusted proxies are kept up to this length. */
const ID_MOST = 128;

/** An answer that needs no backend. */
export interface OwnAnswer {
  readonly status: number;
  /** Why, for the log and the counter; empty where the site asks for this answer. */
  readonly reason: string;
  readonly lines?: string;
  readonly body?: string;
}

/** What a client asks: where to, on whose behalf, by which route, and whether it may. */
export class Question implements MatchInput {
  readonly head: Head;
  readonly service: ServicePlan;
  readonly connection: ClientInfo;
  host = "";
  path = "";
  query = "";
  /** As it goes to the backend. */
  target = "";
  client = "";
  id = "";
  route: RoutePlan | undefined;
  upgrading = false;
  /** gRPC: streams may be silent for long, and errors are told in its own way. */
  grpc = false;
  totalDeadline = Number.POSITIVE_INFINITY;

  constructor(service: ServicePlan, connection: ClientInfo, head: Head) {
    this.service = service;
    this.connection = connection;
    this.head = head;
  }

  get method(): string {
    return this.head.method;
  }
  get scheme(): "http" | "https" {
    return schemeOf(this.connection, this.head);
  }
  field(id: number): string | undefined {
    return this.head.all(id);
  }

  /** Reads all of it and finds the route. An answer where it goes no further. */
  admit(engine: EngineCore): OwnAnswer | undefined {
    const { head, service, connection } = this;
    this.host = engine.splitHost(head.authority);
    this.#splitTarget(head.target);
    this.client = clientOf(connection, service, head);
    this.id = this.#givenId() ?? engine.nextId();
    const proof = engine.challenges.answer(this.path);
    if (proof !== undefined)
      return { status: 200, reason: "", lines: "Content-Type: application/octet-stream\r\n", body: proof };
    const route = service.router.find(this);
    if (route === undefined) return { status: 404, reason: "no-route" };
    this.route = route;
    if (head.method === "CONNECT") return { status: 405, reason: "connect-refused" };
    if (head.framing === Framing.length && head.length > route.bodyLimit)
      return { status: 413, reason: "body-too-large" };
    const { settings, limiter } = route;
    const http2 = settings.upstream.protocol === "http2";
    // Backends over HTTP/2 are not asked for a WebSocket: the request goes on without its Upgrade.
    if (head.upgrade === "websocket" && settings.upgrade && !http2) this.upgrading = true;
    this.grpc = http2 && isGrpc(head.get(Field.contentType));
    if (limiter !== undefined) {
      const wait = limiter.buckets.take(this.keyOf(limiter.key), engine.now as MonotonicMs);
      if (wait > 0) {
        const after = Math.max(1, Math.ceil(wait / 1000));
        return { status: limiter.status, reason: "rate-limited", lines: `Retry-After: ${after}\r\n` };
      }
    }
    if (settings.timeouts.total !== undefined) this.totalDeadline = engine.now + settings.timeouts.total;
    if (this.grpc) {
      const limit = grpcTimeout(head.get(engine.names.idOf("grpc-timeout")));
      if (limit !== undefined) this.totalDeadline = Math.min(this.totalDeadline, engine.now + limit);
    }
    return undefined;
  }

  /** What the route answers by itself, after the middleware; undefined where a backend answers. */
  answered(route: RoutePlan): OwnAnswer | undefined {
    const { redirect, respond } = route.settings;
    if (redirect !== undefined) {
      const { scheme, host, path, query } = this;
      const to = redirectTarget(redirect.to, { scheme, host, path, query });
      return { status: redirect.status, reason: "", lines: `Location: ${to}\r\n`, body: "" };
    }
    if (respond !== undefined) {
      const lines = Object.entries(respond.headers).map(([name, value]) => `${name}: ${value}\r\n`);
      return { status: respond.status, reason: "", lines: lines.join(""), body: respond.body };
    }
    return route.pools.length === 0 ? { status: 500, reason: "no-pool" } : undefined;
  }

  #splitTarget(raw: string): void {
    const at = raw.indexOf("?");
    let path = at < 0 ? raw : raw.slice(0, at);
    this.query = at < 0 ? "" : raw.slice(at);
    this.target = raw;
    if (path.includes("/.") || path.includes("%")) {
      const normal = normalPath(path);
      if (normal !== path) this.target = normal + this.query;
      path = normal;
    }
    this.path = mergedSlashes(path);
  }

  /** The request id of a trusted proxy. */
  #givenId(): string | undefined {
    const { service, connection } = this;
    if (service.requestIdField === 0 || !connection.trusted) return undefined;
    const given = this.head.get(service.requestIdField);
    return given !== undefined && given.length > 0 && given.length <= ID_MOST ? given : undefined;
  }

  /** The part of the request that is hashed or counted by. */
  keyOf(key: KeyKind): string {
    return keyOf(key, this);
  }
}
