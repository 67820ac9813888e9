import type { MonotonicMs } from "../../base/time.ts";
import { FAULTS, type Fault } from "../http1/wire-faults.ts";
import { Framing, type Head } from "../http1/wire-head.ts";
import { Field } from "../http1/wire-names.ts";
import type { Trailer } from "../http1/wire-trailers.ts";
import { isGrpc } from "../http2/policy-grpc.ts";
import type { ServicePlan } from "../plan.ts";
import { passedLines, sendAnswer, sendOwn, sendOwnGrpc } from "./answer.ts";
import type { ClientInfo } from "./client-info.ts";
import { type CompressTarget, Compressor } from "./compress.ts";
import type { Downstream } from "./downstream.ts";
import { Hedge, type HedgeHost } from "./hedge.ts";
import { keptLines } from "./lines.ts";
import { count } from "./metrics.ts";
import { type MiddlewareHost, type MiddlewareView, runMiddleware } from "./middleware.ts";
import type { EngineCore, Upstream, UpstreamFailure } from "./ports.ts";
import { type OwnAnswer, Question } from "./question.ts";
import { replyFor } from "./replies.ts";
import { RequestBody, requestFields } from "./request.ts";
import { IDEMPOTENT, Tries, type TriesHost } from "./tries.ts";
import { misnamed } from "./upstream-tls.ts";

/**
 * One request and its response: what goes to whom, and what where something fails. What is asked is `Question`'s
 * to know, where it is tried `Tries`'.
 */
export class Exchange extends Question implements TriesHost, HedgeHost, MiddlewareHost, CompressTarget {
  readonly downstream: Downstream;
  readonly started: number;
  readonly #engine: EngineCore;
  readonly #tries: Tries;
  readonly #body = new RequestBody();

  upstream: Upstream | undefined;
  /** A final response's head has gone to the client. */
  responding = false;
  finished = false;
  status = 0;
  bytesOut = 0;
  reason = "";
  view: MiddlewareView | undefined;
  #compressor: Compressor | undefined;
  #hedge: Hedge | undefined;

  constructor(
    engine: EngineCore,
    service: ServicePlan,
    connection: ClientInfo,
    downstream: Downstream,
    head: Head,
  ) {
    super(service, connection, head);
    this.#engine = engine;
    this.downstream = downstream;
    this.started = engine.now;
    this.#tries = new Tries(engine, this);
  }

  /** The request's last byte has come. */
  get requestDone(): boolean {
    return this.#body.done;
  }

  /** Finds the route and sets off. The answer may have been given when this returns. */
  begin(): void {
    const refused = this.admit(this.#engine);
    if (refused !== undefined) {
      this.#own(refused);
      return;
    }
    if (this.head.expects) this.downstream.sendInterim(100, "Continue", "");
    const route = this.route!;
    if (route.middleware.length > 0) void runMiddleware(this, route, this.#engine);
    else this.proceed();
  }

  /** After the middleware: answer, or choose a backend. */
  proceed(): void {
    const route = this.route!;
    const own = this.answered(route);
    if (own !== undefined) {
      this.#own(own);
      return;
    }
    if (route.rewrite !== undefined) this.target = route.rewrite(this.target);
    if (route.mirror !== undefined) this.#engine.mirror(this, route);
    const delay = route.hedge?.delay;
    if (delay !== undefined && IDEMPOTENT.has(this.method) && !this.upgrading)
      this.#hedge = new Hedge(this.#engine, this, this.#tries, route, delay);
    this.#tries.start(route);
  }

  #own({ status, reason, lines, body }: OwnAnswer): void {
    this.reply(status, reason, lines, body);
  }

  /** To a backend: head and what has come of the body. The caller flushes, so that a small body goes with it. */
  send(upstream: Upstream): void {
    this.upstream = upstream;
    this.write(upstream);
    if (!upstream.ready) return;
    upstream.deadline = this.#engine.now + this.patience();
    if (this.requestDone || this.#tries.count > 1) this.#pass(upstream);
  }

  /** What the backend was given goes out; the client goes on, or waits until the backend takes more. */
  #pass(upstream: Upstream): void {
    if (upstream.flush()) this.downstream.resumeRequest();
    else this.downstream.pauseRequest();
  }

  write(upstream: Upstream): void {
    const route = this.route!;
    const { head } = this;
    const host =
      route.settings.upstream.host ?? (head.authority === "" ? upstream.backend.address : head.authority);
    upstream.head(head, this.target, host, requestFields(this, route, this.#engine));
    this.#body.replay(upstream);
  }

  adopt(upstream: Upstream): void {
    const before = this.upstream;
    this.upstream = upstream;
    before?.close();
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
    this.#pass(upstream);
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
      if (this.#hedge?.promote() === true) return false;
      if (route.settings.retries.on.includes(status) && tries.mayRetry(true)) {
        upstream.close();
        tries.again(backend);
        return false;
      }
    } else backend.outlier.success(now);
    backend.latency.observe(now - tries.sentAt, now as MonotonicMs);
    route.hedge?.observe(now - tries.sentAt);
    this.#hedge?.cancel();
    this.status = status;
    this.responding = true;
    this.#body.forget();
    const encoding = sendAnswer(this.downstream, this.head, head, route, {
      lines: tries.cookieLine(backend),
      view: this.view,
    });
    if (encoding !== undefined)
      this.#compressor = new Compressor(encoding, head.framing !== Framing.length, this);
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
    this.#tries.release();
    if (this.#compressor !== undefined) {
      this.#compressor.end(() => this.#finishResponse(trailers));
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
    this.status = 101;
    this.responding = true;
    this.downstream.sendSwitch(head.reason, passedLines(head, this.route!));
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
    if (why === "unsendable") {
      // The client's fault, which no other backend would mend.
      this.fail(400, `${why}: ${detail ?? ""}`);
      return;
    }
    upstream.close();
    this.upstream = undefined;
    if (this.finished) return;
    this.reason = detail === undefined ? why : `${why}: ${detail}`;
    this.#engine.event(`upstream.${why}`);
    const other = misnamed(this.route!.settings.upstream.tls, detail);
    // A kept connection that the backend closed meanwhile says nothing about its health.
    if (!other && (upstream.uses === 0 || why !== "lost")) this.#engine.failed(backend, this.route!);
    if (this.responding) {
      tries.release();
      this.#engine.event("broken-off");
      this.downstream.breakOff();
      this.complete();
      return;
    }
    if (this.#hedge?.promote() === true) return;
    const wanted = this.route!.settings.retries.on.includes(
      why === "connect" || why === "connect-timeout" ? "connect" : "lost",
    );
    const stale = upstream.uses > 0 && why === "lost";
    const again = (why === "connect" && !other) || why === "connect-timeout" || why === "lost";
    if (again && (wanted || stale) && tries.mayRetry(sent)) {
      tries.again(backend, stale);
      return;
    }
    tries.release();
    this.reply(why.endsWith("-timeout") ? 504 : 502, this.reason);
  }

  /** The client waits for a backend that takes nothing: then that is over. False while there is no backend yet. */
  stalled(): boolean {
    if (this.upstream === undefined) return false;
    this.upstreamFailed(this.upstream, "request-timeout", undefined);
    return true;
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
    this.#hedge?.cancel();
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
    const { downstream } = this;
    if (downstream.version === 2 && isGrpc(this.head.get(Field.contentType))) {
      sendOwnGrpc(downstream, status, reason);
    } else {
      const answer = replyFor(this.service.settings.errorPages, this.id, status, lines, body);
      this.bytesOut = sendOwn(downstream, this.head, status, answer, this.route?.response.lines ?? "");
    }
    this.complete();
    downstream.flush();
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
      attempts: this.#tries.count + (this.#hedge?.asked === true ? 1 : 0),
      id: this.id,
      agent: this.head.get(Field.userAgent) ?? "",
      referer: service.settings.accessLog?.format === "combined" ? (this.head.get(Field.referer) ?? "") : "",
      reason: this.reason,
    });
  }
}
