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
import { latin1 } from "./channel.ts";
import { clientOf, forwardedLines, type ClientInfo } from "./client-info.ts";
import { type CompressTarget, Compressor, chooseEncoding } from "./compress.ts";
import type { Downstream } from "./downstream.ts";
import { keptLines } from "./lines.ts";
import { count } from "./metrics.ts";
import { type MiddlewareHost, type MiddlewareView, runMiddleware } from "./middleware.ts";
import { replyFor } from "./replies.ts";
import type { EngineCore, QueuedExchange, Upstream, UpstreamFailure, UpstreamOwner } from "./ports.ts";

const IDEMPOTENT = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);
const BODILESS_LENGTH = -1;

/** One request and its response: which route, which backend, and what was tried. */
export class Exchange implements QueuedExchange, MatchInput, UpstreamOwner, MiddlewareHost, CompressTarget {
  readonly head: Head;
  readonly downstream: Downstream;
  readonly service: ServicePlan;
  readonly connection: ClientInfo;
  readonly started: number;
  readonly #engine: EngineCore;

  host = "";
  path = "";
  query = "";
  /** As it goes to the backend. */
  target = "";
  client = "";
  id = "";
  route: RoutePlan | undefined;
  backend: BackendState | undefined;
  upstream: Upstream | undefined;
  upgrading = false;
  /** The request's last byte has come. */
  requestDone = false;
  /** A final response's head has gone to the client. */
  responding = false;
  finished = false;
  attempts = 0;
  status = 0;
  bytesOut = 0;
  reason = "";
  totalDeadline = Number.POSITIVE_INFINITY;
  queueDeadline = Number.POSITIVE_INFINITY;
  view: MiddlewareView | undefined;

  #received = 0;
  #tried: Set<BackendState> | undefined;
  /** The body so far, framed for the backend, while it may have to be sent again. */
  #replay: string | undefined = "";
  /** What came while there was no backend yet. */
  #held = "";
  #chunked = false;
  #stuck: BackendState | undefined;
  #stickyLine = "";
  #compressor: Compressor | undefined;
  #waitingFor: RoutePlan["pools"][number]["pool"] | undefined;
  #sentAt = 0;

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
  }

  get method(): string {
    return this.head.method;
  }
  field(id: number): string | undefined {
    return this.head.all(id);
  }

  /** Finds the route and sets off. The answer may have been given when this returns. */
  begin(): void {
    const { head, service } = this;
    this.#chunked = head.framing === Framing.chunked;
    this.requestDone = false;
    const split = this.#engine.splitHost(head.authority);
    this.host = split;
    this.#splitTarget(head.target);
    this.client = clientOf(this.connection, head);
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
    if (head.upgrade !== "" && head.upgrade === "websocket" && route.settings.upgrade) this.upgrading = true;
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
    route.budget.request(this.#engine.now);
    if (!this.retry()) this.#enqueue();
  }

  get scheme(): "http" | "https" {
    return this.connection.https ? "https" : "http";
  }

  /** One try: false where every usable backend is at its limit and the request should wait. */
  retry(): boolean {
    if (this.finished) return true;
    const engine = this.#engine;
    const route = this.route!;
    const backend = this.#choose(route);
    if (backend === undefined) {
      const pool = this.#pool(route);
      if (
        this.#tried === undefined &&
        pool.full(engine.now) &&
        pool.queue.length < route.settings.limits.queue
      ) {
        return false;
      }
      if (this.#tried !== undefined) this.reply(502, this.reason === "" ? "lost" : this.reason);
      else this.reply(503, pool.full(engine.now) ? "queue-full" : "no-backend");
      return true;
    }
    this.#leaveQueue();
    this.backend = backend;
    backend.inflight++;
    this.attempts++;
    this.upstream = engine.acquire(this, backend, route);
    this.#send(this.upstream);
    return true;
  }

  #pool(route: RoutePlan): RoutePlan["pools"][number]["pool"] {
    if (route.pools.length === 1) return route.pools[0]!.pool;
    this.#canary ??= this.#engine.weightedPool(route);
    return this.#canary;
  }
  #canary: RoutePlan["pools"][number]["pool"] | undefined;

  #choose(route: RoutePlan): BackendState | undefined {
    const engine = this.#engine;
    const { sticky } = route;
    if (sticky !== undefined && this.#tried === undefined) {
      const cookie = cookieValue(this.head.all(Field.cookie), sticky.cookie);
      const id = cookie === undefined ? undefined : sticky.read(cookie);
      if (id !== undefined) {
        for (const { pool } of route.pools) {
          const wanted = pool.backends.find((backend) => backend.id === id);
          if (wanted?.keepsSessions && !wanted.outlier.ejected(engine.now)) {
            this.#stuck = wanted;
            return wanted.inflight < route.pick.requests ? wanted : undefined;
          }
        }
      }
    }
    const key = route.hashes ? this.keyOf(route.key) : "";
    return this.#pool(route).pick(engine.now, route.pick, key, this.#tried);
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

  #enqueue(): void {
    const pool = this.#pool(this.route!);
    pool.queue.push(this);
    this.#waitingFor = pool;
    this.queueDeadline = this.#engine.now + this.route!.settings.limits.wait;
    this.#engine.event("queued");
  }

  #leaveQueue(): void {
    const pool = this.#waitingFor;
    if (pool === undefined) return;
    this.#waitingFor = undefined;
    this.queueDeadline = Number.POSITIVE_INFINITY;
    const at = pool.queue.indexOf(this);
    if (at >= 0) pool.queue.splice(at, 1);
  }

  /** The request's head, as text. The caller flushes, so that a small body goes with it. */
  #send(upstream: Upstream): void {
    this.#sentAt = this.#engine.now;
    upstream.out += this.#requestHead(upstream) + (this.attempts > 1 ? (this.#replay ?? "") : this.#held);
    this.#held = "";
    if (upstream.ready && (this.requestDone || this.attempts > 1)) upstream.flush();
  }

  #requestHead(upstream: Upstream): string {
    const { head, service, view } = this;
    const route = this.route!;
    const host =
      route.settings.upstream.host ?? (head.authority === "" ? upstream.backend.address : head.authority);
    let out =
      `${head.method} ${this.target} HTTP/1.1\r\nHost: ${host}\r\n` +
      keptLines(head, route.request.drop, route.request.others, view?.dropped);
    if (head.framing === Framing.length) out += `Content-Length: ${head.length}\r\n`;
    else if (this.#chunked) out += "Transfer-Encoding: chunked\r\n";
    else if (head.method === "POST" || head.method === "PUT" || head.method === "PATCH")
      out += "Content-Length: 0\r\n";
    if (this.upgrading) out += "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    out += forwardedLines(this.connection, service, head);
    if (service.requestIdField !== 0) out += `${service.requestIdName}: ${this.id}\r\n`;
    if (service.settings.traceContext && !head.has(Field.traceparent)) {
      out += `traceparent: 00-${this.#engine.traceId()}-01\r\n`;
    }
    return `${out}${route.request.lines}${view?.lines ?? ""}\r\n`;
  }

  /** A piece of the request's body. False: pause until the backend takes more. */
  requestBody(bytes: Uint8Array, start: number, end: number, stable: boolean): boolean {
    if (this.finished) return true;
    const length = end - start;
    this.#received += length;
    if (this.route !== undefined && this.#received > this.route.bodyLimit) {
      this.fail(413, "body-too-large");
      return true;
    }
    const keep = this.route?.settings.retries.body ?? 0;
    if (this.#replay !== undefined) {
      if (this.#received > keep || this.responding) this.#replay = undefined;
      else this.#replay += this.#framed(bytes, start, end);
    }
    const { upstream } = this;
    if (upstream !== undefined) return upstream.body(bytes, start, end, this.#chunked, stable);
    this.#held += this.#framed(bytes, start, end);
    return this.#held.length < 65_536;
  }

  #framed(bytes: Uint8Array, start: number, end: number): string {
    const text = latin1(bytes, start, end);
    return this.#chunked ? `${(end - start).toString(16)}\r\n${text}\r\n` : text;
  }

  requestEnd(trailers: readonly Trailer[]): void {
    this.requestDone = true;
    if (!this.#chunked || this.finished) return;
    let last = "0\r\n";
    for (const { name, value } of trailers) last += `${name}: ${value}\r\n`;
    last += "\r\n";
    if (this.#replay !== undefined) this.#replay += last;
    if (this.upstream === undefined) this.#held += last;
    else this.upstream.out += last;
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
    const { status } = head;
    const backend = this.backend!;
    const now = this.#engine.now;
    if (status >= 500 && status <= 504) {
      if (status !== 500 && status !== 501) this.#engine.failed(backend, route);
      if (route.settings.retries.on.includes(status) && this.#mayRetry(true)) {
        upstream.close();
        this.#again(backend);
        return false;
      }
    } else backend.outlier.success(now);
    backend.latency.observe(now - this.#sentAt, now as MonotonicMs);
    this.status = status;
    this.responding = true;
    const { view } = this;
    let lines = keptLines(head, route.response.drop, route.response.others, undefined) + route.response.lines;
    if (route.sticky !== undefined && this.#stuck !== backend) {
      this.#stickyLine = `${route.sticky.line(backend.id, this.connection.https)}\r\n`;
      lines += this.#stickyLine;
    }
    if (view !== undefined && view.editors.length > 0) lines = view.editResponse(status, lines);
    let { framing } = head;
    let length =
      head.framing === Framing.length
        ? head.length
        : head.has(Field.contentLength)
          ? head.length
          : BODILESS_LENGTH;
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
    return true;
  }

  /** False: the upstream pauses until resumeResponse. */
  responseBody(bytes: Uint8Array, start: number, end: number, stable: boolean): boolean {
    if (this.#compressor !== undefined) return this.#compressor.write(bytes, start, end);
    this.bytesOut += end - start;
    return this.downstream.sendBody(bytes, start, end, stable);
  }

  responseEnd(trailers: readonly Trailer[]): void {
    this.upstream = undefined;
    this.#release();
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
    this.downstream.sendInterim(
      101,
      head.reason,
      `${lines}Connection: Upgrade\r\nUpgrade: ${this.head.upgrade}\r\n`,
    );
    this.downstream.tunnel(rest);
    this.tunnelled(this.#engine.now);
  }

  /** Bytes went through: both sides' patience starts anew. */
  tunnelled(now: number): void {
    if (this.upstream !== undefined) this.upstream.deadline = now + this.route!.settings.timeouts.tunnel;
  }

  tunnelClosed(): void {
    this.upstream = undefined;
    this.#release();
    this.downstream.breakOff();
    this.complete();
  }

  /** The connection to the backend failed in some way; another try where that is safe. */
  upstreamFailed(upstream: Upstream, why: UpstreamFailure, detail: string | undefined): void {
    const backend = this.backend!;
    const { sent } = upstream;
    const unsent = sent ? "" : upstream.out;
    upstream.close();
    this.upstream = undefined;
    if (this.finished) return;
    this.reason = detail === undefined ? why : `${why}: ${detail}`;
    this.#engine.event(`upstream.${why}`);
    // A kept connection that the backend closed meanwhile says nothing about its health.
    if (upstream.uses === 0 || why !== "lost") this.#engine.failed(backend, this.route!);
    if (this.responding) {
      this.#release();
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
    if (again && (wanted || stale) && this.#mayRetry(sent)) {
      if (this.#replay === undefined) this.#replay = unsent;
      this.#again(backend, stale);
      return;
    }
    this.#release();
    this.reply(
      why === "response-timeout" || why === "idle-timeout" || why === "connect-timeout" ? 504 : 502,
      this.reason,
    );
  }

  /** `sent`: the backend may have acted on it, so only what may happen twice is sent again. */
  #mayRetry(sent: boolean): boolean {
    if (this.attempts > this.route!.settings.retries.attempts) return false;
    if (sent && !IDEMPOTENT.has(this.head.method)) return false;
    if (this.#replay === undefined && (sent || this.#received > 0)) return false;
    if (this.upgrading && sent) return false;
    if (this.route!.budget.take(this.#engine.now)) return true;
    this.#engine.event("retry-budget-empty");
    return false;
  }

  #again(backend: BackendState, same = false): void {
    this.#release();
    this.#engine.event("retried");
    if (!same) (this.#tried ??= new Set()).add(backend);
    // With no other backend left, the same ones may be tried again.
    if (this.#tried !== undefined && this.#tried.size >= this.#pool(this.route!).backends.length)
      this.#tried = new Set();
    if (!this.retry()) this.#enqueue();
  }

  #release(): void {
    const { backend } = this;
    if (backend === undefined) return;
    this.backend = undefined;
    this.#lastBackend = backend;
    backend.inflight--;
    this.#engine.freed(backend);
  }
  #lastBackend: BackendState | undefined;

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
    this.#leaveQueue();
    this.#compressor?.destroy();
    const { upstream } = this;
    this.upstream = undefined;
    upstream?.close();
    this.#release();
  }

  /** The proxy's own answer. */
  reply(status: number, reason: string, lines = "", body?: string | Uint8Array): void {
    if (this.finished || this.responding) return;
    this.#dropUpstream();
    this.reason = reason;
    this.status = status;
    this.responding = true;
    if (reason !== "") this.#engine.event(`refused.${reason.split(":")[0]}`);
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

  /** Counts and logs. Once. */
  complete(): void {
    if (this.finished) return;
    this.finished = true;
    this.view?.settle();
    const { route, service } = this;
    const backend = this.#lastBackend;
    const took = this.#engine.now - this.started;
    if (route !== undefined) count(route.counters, this.status, took, this.bytesOut);
    if (backend !== undefined)
      count(backend.counters, this.status, this.#engine.now - this.#sentAt, this.bytesOut);
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
      attempts: this.attempts,
      id: this.id,
      agent: this.head.get(Field.userAgent) ?? "",
      referer: service.settings.accessLog?.format === "combined" ? (this.head.get(Field.referer) ?? "") : "",
      reason: this.reason,
    });
  }
}
