import type { MonotonicMs } from "../../base/time.ts";
import { unreachable } from "../../base/result.ts";
import type { Trailer } from "../http1/machine.ts";
import { FAULTS, type Fault } from "../http1/wire-faults.ts";
import { Framing, type Head } from "../http1/wire-head.ts";
import { Field } from "../http1/wire-names.ts";
import type { KeyKind, RoutePlan, ServicePlan } from "../plan.ts";
import { type MatchInput, cookieValue } from "../routing/policy-match.ts";
import { normalPath } from "../routing/policy-path.ts";
import { redirectTarget } from "../routing/policy-rewrite.ts";
import type { BackendState } from "./backend.ts";
import { clientOf, type ClientInfo } from "./client-info.ts";
import { type CompressTarget, Compressor, chooseEncoding } from "./compress.ts";
import type { Downstream } from "./downstream.ts";
import { keptLines } from "./lines.ts";
import { count } from "./metrics.ts";
import { type MiddlewareHost, type MiddlewareView, runMiddleware } from "./middleware.ts";
import { phraseOf, replyFor } from "./replies.ts";
import { RequestBody, requestFields } from "./request.ts";
import { grpcStatusOf, grpcTimeout, isGrpc } from "../http2/policy-grpc.ts";
import type { EngineCore, Upstream, UpstreamFailure } from "./ports.ts";
import { Tries, type TriesHost } from "./tries.ts";

const BODILESS_LENGTH = -1;

/** One request and its response: which route, and what goes to whom. Where it is tried is `Tries`' to know. */
export class Exchange implements TriesHost, MatchInput, MiddlewareHost, CompressTarget {
  readonly head: Head;
  readonly downstream: Downstream;
  readonly service: ServicePlan;
  readonly connection: ClientInfo;
  readonly started: number;
  readonly #engine: EngineCore;
  readonly #tries: Tries;
  readonly #body = new RequestBody();

  host = "";
  path = "";
  query = "";
  /** As it goes to the backend. */
  target = "";
  client = "";
  id = "";
  route: RoutePlan | undefined;
  upstream: Upstream | undefined;
  upgrading = false;
  /** gRPC: streams may be silent for long, and errors are told in its own way. */
  grpc = false;
  /** A final response's head has gone to the client. */
  responding = false;
  finished = false;
  status = 0;
  bytesOut = 0;
  reason = "";
  totalDeadline = Number.POSITIVE_INFINITY;
  view: MiddlewareView | undefined;
  #compressor: Compressor | undefined;

  constructor(
    engine: EngineCore,
    service: ServicePlan,
    connection: ClientInfo,
    downstream: Downstream,
    head: Head,
  ) {
    this.#engine = engine;
    this.service = service;
    this.connection = connection;
    this.downstream = downstream;
    this.head = head;
    this.started = engine.now;
    this.#tries = new Tries(engine, this);
  }

  get method(): string {
    return this.head.method;
  }
  get scheme(): "http" | "https" {
    return this.connection.https ? "https" : "http";
  }
  /** The request's last byte has come. */
  get requestDone(): boolean {
    return this.#body.done;
  }
  field(id: number): string | undefined {
    return this.head.all(id);
  }

  /** Finds the route and sets off. The answer may have been given when this returns. */
  begin(): void {
    const { head, service } = this;
    const split = this.#engine.splitHost(head.authority);
    this.host = split;
    this.#splitTarget(head.target);
    this.client = clientOf(this.connection, service, head);
    this.id = this.#requestId();
    const route = service.router.find(this);
    if (route === undefined) {
      this.reply(404, "no-route");
      return;
    }
    this.route = route;
    if (head.method === "CONNECT") {
      this.reply(405, "connect-refused");
      return;
    }
    if (head.framing === Framing.length && head.length > route.bodyLimit) {
      this.reply(413, "body-too-large");
      return;
    }
    const http2 = route.settings.upstream.protocol === "http2";
    // Backends over HTTP/2 are not asked for a WebSocket: the request goes on without its Upgrade.
    if (head.upgrade === "websocket" && route.settings.upgrade && !http2) this.upgrading = true;
    this.grpc = http2 && isGrpc(head.get(Field.contentType));
    const { limiter } = route;
    if (limiter !== undefined) {
      const wait = limiter.buckets.take(this.keyOf(limiter.key), this.#engine.now as MonotonicMs);
      if (wait > 0) {
        this.reply(limiter.status, "rate-limited", `Retry-After: ${Math.max(1, Math.ceil(wait / 1000))}\r\n`);
        return;
      }
    }
    if (route.settings.timeouts.total !== undefined) {
      this.totalDeadline = this.#engine.now + route.settings.timeouts.total;
    }
    if (this.grpc) {
      const limit = grpcTimeout(head.get(this.#engine.names.idOf("grpc-timeout")));
      if (limit !== undefined) this.totalDeadline = Math.min(this.totalDeadline, this.#engine.now + limit);
    }
    if (head.expects) this.downstream.sendInterim(100, "Continue", "");
    if (route.middleware.length > 0) void runMiddleware(this, route, this.#engine);
    else this.proceed();
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
    this.path = path;
  }

  #requestId(): string {
    const { service, connection } = this;
    if (service.requestIdField !== 0 && connection.trusted) {
      const given = this.head.get(service.requestIdField);
      if (given !== undefined && given.length > 0 && given.length <= 128) return given;
    }
    return this.#engine.nextId();
  }

  /** After the middleware: answer, or choose a backend. */
  proceed(): void {
    const route = this.route!;
    const { redirect, respond } = route.settings;
    if (redirect !== undefined) {
      const to = redirectTarget(redirect.to, {
        scheme: this.scheme,
        host: this.host,
        path: this.path,
        query: this.query,
      });
      this.reply(redirect.status, "", `Location: ${to}\r\n`, "");
      return;
    }
    if (respond !== undefined) {
      const lines = Object.entries(respond.headers).map(([name, value]) => `${name}: ${value}\r\n`);
      this.reply(respond.status, "", lines.join(""), respond.body);
      return;
    }
    if (route.pools.length === 0) {
      this.reply(500, "no-pool");
      return;
    }
    if (route.rewrite !== undefined) this.target = route.rewrite(this.target);
    if (route.mirror !== undefined) this.#engine.mirror(this, route);
    this.#tries.start(route);
  }

  keyOf(key: KeyKind): string {
    switch (key.kind) {
      case "client":
        return this.client;
      case "uri":
        return this.host + this.path + this.query;
      case "path":
        return this.path;
      case "route":
        return "";
      case "header":
        return this.field(key.id) ?? "";
      case "cookie":
        return cookieValue(this.field(Field.cookie), key.name) ?? "";
      default:
        return unreachable(key);
    }
  }

  /** To a backend: head and what has come of the body. The caller flushes, so that a small body goes with it. */
  send(upstream: Upstream): void {
    this.upstream = upstream;
    const route = this.route!;
    const { head } = this;
    const host =
      route.settings.upstream.host ?? (head.authority === "" ? upstream.backend.address : head.authority);
    upstream.head(head, this.target, host, requestFields(this, route, this.#engine));
    this.#body.replay(upstream);
    if (upstream.ready && (this.requestDone || this.#tries.count > 1)) upstream.flush();
  }

  resendable(sent: boolean): boolean {
    return this.#body.resendable(sent);
  }

  /** A piece of the request's body. False: pause until the backend takes more. */
  requestBody(bytes: Uint8Array, start: number, end: number, stable: boolean): boolean {
    if (this.finished) return true;
    const { route } = this;
    if (route !== undefined && this.#body.received + end - start > route.bodyLimit) {
      this.fail(413, "body-too-large");
      return true;
    }
    return this.#body.take(bytes, start, end, stable, this.upstream, route?.settings.retries.body ?? 0);
  }

  requestEnd(trailers: readonly Trailer[]): void {
    this.#body.end(trailers, this.finished ? undefined : this.upstream);
  }

  /** Everything of the request that has come goes out. */
  flushRequest(): void {
    const { upstream } = this;
    if (upstream === undefined) return;
    if (!upstream.flush()) this.downstream.pauseRequest();
    if (!this.responding && upstream.ready) upstream.deadline = this.#engine.now + this.patience();
  }

  /** How long to wait for the response's head; while the client still sends, its own deadline rules. */
  patience(): number {
    return this.requestDone ? this.route!.settings.timeouts.response : Number.POSITIVE_INFINITY;
  }

  quiet(): number {
    const { timeouts } = this.route!.settings;
    return this.grpc ? timeouts.tunnel : timeouts.idle;
  }

  connected(upstream: Upstream): void {
    upstream.deadline = this.#engine.now + this.patience();
  }

  interim(head: Head): void {
    if (head.status !== 100 && this.downstream.version > 0) {
      this.downstream.sendInterim(
        head.status,
        head.reason,
        keptLines(head, this.route!.response.drop, undefined, undefined),
      );
    }
  }

  /** False where the exchange left this connection for another try. */
  responseHead(head: Head, upstream: Upstream): boolean {
    const route = this.route!;
    const tries = this.#tries;
    const { status } = head;
    const backend = tries.backend!;
    const { now } = this.#engine;
    if (status >= 500 && status <= 504) {
      if (status !== 500 && status !== 501) this.#engine.failed(backend, route);
      if (route.settings.retries.on.includes(status) && tries.mayRetry(true)) {
        upstream.close();
        tries.again(backend);
        return false;
      }
    } else backend.outlier.success(now);
    backend.latency.observe(now - tries.sentAt, now as MonotonicMs);
    this.status = status;
    this.responding = true;
    this.#body.forget();
    this.#answer(head, route, backend);
    return true;
  }

  #answer(head: Head, route: RoutePlan, backend: BackendState): void {
    const { status } = head;
    const { view } = this;
    let lines = keptLines(head, route.response.drop, route.response.others, undefined) + route.response.lines;
    if (route.sticky !== undefined && !this.#tries.stuckTo(backend)) {
      lines += `${route.sticky.line(backend.id, this.connection.https)}\r\n`;
    }
    if (view !== undefined && view.editors.length > 0) lines = view.editResponse(status, lines);
    let { framing } = head;
    let length = framing === Framing.length || head.has(Field.contentLength) ? head.length : BODILESS_LENGTH;
    if (!route.plain && framing !== Framing.none) {
      const encoding = chooseEncoding(route, this.head, head, this.downstream.version);
      if (encoding !== undefined) {
        this.#compressor = new Compressor(encoding, this);
        lines += `Content-Encoding: ${encoding}\r\nVary: Accept-Encoding\r\n`;
        framing = Framing.chunked;
        length = BODILESS_LENGTH;
      }
    }
    if (
      framing === Framing.none &&
      length < 0 &&
      status !== 204 &&
      status !== 304 &&
      this.head.method !== "HEAD"
    ) {
      length = 0;
    }
    this.downstream.sendHead(status, head.reason, lines, framing, length);
  }

  /** False: the upstream pauses until resumeResponse. */
  responseBody(bytes: Uint8Array, start: number, end: number, stable: boolean): boolean {
    if (this.#compressor !== undefined) return this.#compressor.write(bytes, start, end);
    this.bytesOut += end - start;
    return this.downstream.sendBody(bytes, start, end, stable);
  }

  responseEnd(trailers: readonly Trailer[]): void {
    this.upstream = undefined;
    this.#tries.release();
    if (this.#compressor !== undefined) {
      this.#compressor.end(() => this.#finishResponse([]));
      return;
    }
    this.#finishResponse(trailers);
  }

  #finishResponse(trailers: readonly Trailer[]): void {
    if (this.finished) return;
    this.downstream.sendEnd(trailers);
    this.complete();
    this.downstream.flush();
  }

  resumeResponse(): void {
    this.#compressor?.resume();
    this.upstream?.resumeResponse();
  }

  /** A 101: bytes from here on. */
  switched(head: Head, rest: Uint8Array): void {
    const route = this.route!;
    this.status = 101;
    this.responding = true;
    const lines =
      keptLines(head, route.response.drop, route.response.others, undefined) + route.response.lines;
    this.downstream.sendSwitch(head.reason, lines);
    this.downstream.tunnel(rest);
    this.tunnelled(this.#engine.now);
  }

  /** Bytes went through: both sides' patience starts anew. */
  tunnelled(now: number): void {
    if (this.upstream !== undefined) this.upstream.deadline = now + this.route!.settings.timeouts.tunnel;
  }

  tunnelClosed(): void {
    this.upstream = undefined;
    this.#tries.release();
    this.downstream.breakOff();
    this.complete();
  }

  /** The connection to the backend failed in some way; another try where that is safe. */
  upstreamFailed(upstream: Upstream, why: UpstreamFailure, detail: string | undefined): void {
    const tries = this.#tries;
    const backend = tries.backend!;
    const { sent } = upstream;
    upstream.close();
    this.upstream = undefined;
    if (this.finished) return;
    this.reason = detail === undefined ? why : `${why}: ${detail}`;
    this.#engine.event(`upstream.${why}`);
    // A kept connection that the backend closed meanwhile says nothing about its health.
    if (upstream.uses === 0 || why !== "lost") this.#engine.failed(backend, this.route!);
    if (this.responding) {
      tries.release();
      this.#engine.event("broken-off");
      this.downstream.breakOff();
      this.complete();
      return;
    }
    const wanted = this.route!.settings.retries.on.includes(
      why === "connect" || why === "connect-timeout" ? "connect" : "lost",
    );
    const stale = upstream.uses > 0 && why === "lost";
    const again = why === "connect" || why === "connect-timeout" || why === "lost";
    if (again && (wanted || stale) && tries.mayRetry(sent)) {
      tries.again(backend, stale);
      return;
    }
    tries.release();
    this.reply(
      why === "response-timeout" || why === "idle-timeout" || why === "connect-timeout" ? 504 : 502,
      this.reason,
    );
  }

  /** The client went away. */
  abort(): void {
    if (this.finished) return;
    this.reason ||= "client-gone";
    if (this.status === 0) this.status = 499;
    this.#engine.event("client-gone");
    this.#dropUpstream();
    this.complete();
  }

  /** The request is broken or too slow: answers where the response has not begun. */
  fail(status: number, reason: string): void {
    if (this.finished) return;
    this.#dropUpstream();
    if (this.responding) {
      this.reason = reason;
      this.downstream.breakOff();
      this.complete();
    } else this.reply(status, reason);
  }

  refuse(fault: Fault): void {
    this.fail(FAULTS[fault][0], fault);
  }

  #dropUpstream(): void {
    this.#tries.leaveQueue();
    this.#compressor?.destroy();
    const { upstream } = this;
    this.upstream = undefined;
    upstream?.close();
    this.#tries.release();
  }

  /** The proxy's own answer. */
  reply(status: number, reason: string, lines = "", body?: string | Uint8Array): void {
    if (this.finished || this.responding) return;
    this.#dropUpstream();
    this.reason = reason;
    this.status = status;
    this.responding = true;
    if (reason !== "") this.#engine.event(`refused.${reason.split(":")[0]}`);
    if (this.downstream.version === 2 && isGrpc(this.head.get(Field.contentType))) {
      this.#replyGrpc(status, reason);
      return;
    }
    const answer = replyFor(this.service.settings.errorPages, this.id, status, lines, body);
    this.bytesOut = answer.body.length;
    this.downstream.sendHead(
      status,
      answer.phrase,
      answer.lines + (this.route?.response.lines ?? ""),
      answer.body.length === 0 || this.head.method === "HEAD" ? Framing.none : Framing.length,
      answer.body.length,
    );
    if (answer.body.length > 0 && this.head.method !== "HEAD") {
      this.downstream.sendBody(answer.body, 0, answer.body.length, true);
    }
    this.downstream.sendEnd([]);
    this.complete();
    this.downstream.flush();
  }

  /** To a client of gRPC: a head alone, with the status in its fields ("Trailers-Only"). */
  #replyGrpc(status: number, reason: string): void {
    const text = `${phraseOf(status)}${reason === "" ? "" : ` (${reason.replaceAll(/[^ -$&-~]/g, "_")})`}`;
    const lines =
      "Content-Type: application/grpc\r\n" +
      `Grpc-Status: ${grpcStatusOf(status, reason)}\r\nGrpc-Message: ${text}\r\n`;
    this.downstream.sendHead(200, "", lines, Framing.none, BODILESS_LENGTH);
    this.downstream.sendEnd([]);
    this.complete();
    this.downstream.flush();
  }

  /** Counts and logs. Once. */
  complete(): void {
    if (this.finished) return;
    this.finished = true;
    this.view?.settle();
    const { route, service } = this;
    const backend = this.#tries.last;
    const took = this.#engine.now - this.started;
    if (route !== undefined) count(route.counters, this.status, took, this.bytesOut);
    if (backend !== undefined)
      count(backend.counters, this.status, this.#engine.now - this.#tries.sentAt, this.bytesOut);
    service.log?.add({
      service: service.name,
      route: route?.name ?? "",
      client: this.client,
      method: this.head.method,
      host: this.head.authority,
      target: this.head.target,
      version: this.downstream.version,
      status: this.status,
      bytes: this.bytesOut,
      took,
      backend: backend?.id ?? "",
      attempts: this.#tries.count,
      id: this.id,
      agent: this.head.get(Field.userAgent) ?? "",
      referer: service.settings.accessLog?.format === "combined" ? (this.head.get(Field.referer) ?? "") : "",
      reason: this.reason,
    });
  }
}
