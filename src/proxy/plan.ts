import type { Clock } from "../base/time.ts";
import type { Middleware, ProxyService, ProxySettings, RouteSettings } from "../contracts/site.ts";
import { AccessLog } from "./engine/access-log.ts";
import { REQUEST_DROP, RESPONSE_DROP, bitOf } from "./engine/lines.ts";
import { type Counters, newCounters } from "./engine/metrics.ts";
import { HedgeDelay } from "./engine/policy-hedge.ts";
import { RetryBudget } from "./engine/policy-retry.ts";
import type { PickOptions, PoolState } from "./engine/pool.ts";
import { prepareTls } from "./engine/upstream-tls.ts";
import { Field, type FieldNames } from "./http1/wire-names.ts";
import { type Condition, Router, compileConditions, hostMatches } from "./routing/policy-match.ts";
import { RateLimiter } from "./routing/policy-rate.ts";
import { compileRewrite } from "./routing/policy-rewrite.ts";
import type { Certificates } from "./tls/certificates.ts";
import { type KeyKind, compileKey } from "./routing/policy-key.ts";
import { type Sticky, compileSticky } from "./sticky.ts";

/** Fields removed and added in one direction. */
export interface Edits {
  /** Bits of ids below 31. */
  readonly drop: number;
  readonly others: ReadonlySet<number> | undefined;
  readonly lines: string;
}

/** A route, ready for the engine. Its counters live on through reloads by its name. */
export interface RoutePlan {
  readonly name: string;
  readonly service: string;
  readonly hosts: readonly string[] | undefined;
  readonly conditions: readonly Condition[];
  readonly settings: RouteSettings;
  readonly pools: readonly { readonly pool: PoolState; readonly weight: number }[];
  readonly request: Edits;
  readonly response: Edits;
  readonly rewrite: ((target: string) => string) | undefined;
  readonly key: KeyKind;
  readonly hashes: boolean;
  readonly pick: PickOptions;
  readonly sticky: Sticky | undefined;
  readonly budget: RetryBudget;
  readonly hedge: HedgeDelay | undefined;
  readonly limiter:
    { readonly buckets: RateLimiter; readonly key: KeyKind; readonly status: number } | undefined;
  readonly mirror: { readonly pool: PoolState; readonly share: number } | undefined;
  readonly middleware: readonly Middleware[];
  readonly bodyLimit: number;
  readonly counters: Counters;
  /** The number of Cache-Control. */
  readonly cacheControl: number;
  /** Whether a response to this route may be passed on without looking further: the hot path. */
  readonly plain: boolean;
}

/** Streams instead of HTTP. */
export interface TcpPlan {
  readonly name: string;
  /** Whether the client's first bytes are needed to choose a pool. */
  readonly peeks: boolean;
  /** The pool for a TLS server name; for an empty one, and for those that nothing matches, the one for the rest. */
  find(serverName: string): PoolState | undefined;
  readonly pick: PickOptions;
  /** Milliseconds. */
  readonly connect: number;
  readonly idle: number;
  readonly proxyProtocol: false | 1 | 2;
  readonly counters: Counters;
}

function compileTcp(service: string, tcp: NonNullable<ProxySettings["tcp"]>, context: PlanContext): TcpPlan {
  const name = `${service}-tcp`;
  const exact = new Map<string, PoolState>();
  const below: { readonly pattern: string; readonly pool: PoolState }[] = [];
  for (const [key, pool] of Object.entries(tcp.serverNames)) {
    const pattern = key.toLowerCase();
    if (pattern.startsWith("*.")) below.push({ pattern, pool: context.pool(pool) });
    else exact.set(pattern, context.pool(pool));
  }
  // The longest of several that match says most.
  below.sort((a, b) => b.pattern.length - a.pattern.length);
  const rest = tcp.pool === undefined ? undefined : context.pool(tcp.pool);
  return {
    name,
    peeks: exact.size + below.length > 0,
    find: (serverName) =>
      exact.get(serverName) ?? below.find(({ pattern }) => hostMatches(pattern, serverName))?.pool ?? rest,
    pick: {
      scheduler: tcp.balance.scheduler,
      panic: 0,
      slowStart: 0,
      requests: tcp.limits.connections,
      connections: Number.POSITIVE_INFINITY,
    },
    connect: tcp.connect,
    idle: tcp.idle,
    proxyProtocol: tcp.proxyProtocol,
    counters: context.routeState(service, name).counters,
  };
}

/** A service, ready for the engine. */
export interface ServicePlan {
  readonly name: string;
  readonly settings: ProxySettings;
  readonly router: Router<RoutePlan>;
  readonly tcp: TcpPlan | undefined;
  readonly log: AccessLog | undefined;
  readonly certificates: Certificates | undefined;
  /** 0 for none. */
  readonly requestIdField: number;
  readonly requestIdName: string;
  readonly xForwarded: boolean;
  readonly forwarded: boolean;
  readonly realIp: boolean;
}

/** What lives on over a reload: counters always, the others while their settings are the same. */
export interface RouteState {
  readonly counters: Counters;
  budget?: { readonly share: number; readonly is: RetryBudget };
  limiter?: { readonly rate: number; readonly burst: number; readonly is: RateLimiter };
}

/** What a plan takes over from the one before it. */
export interface PlanContext {
  readonly clock: Clock;
  readonly names: FieldNames;
  pool(name: string): PoolState;
  /** By route and service name; new where there is none. */
  routeState(service: string, route: string): RouteState;
  log(file: string, format: "json" | "combined"): AccessLog;
  /** The same object as before where the settings are the same. */
  certificates(service: string, settings: NonNullable<ProxySettings["tls"]>): Certificates;
  secret(from: { file: string } | { env: string }): Uint8Array;
  /** Whether health questions are answered with a failure: the proxy is about to stop. */
  failing(): boolean;
}

type EditSettings = RouteSettings["requestHeaders"];

function compileEdits(
  settings: EditSettings,
  base: readonly number[],
  drop: number,
  names: FieldNames,
): Edits {
  const named = settings === undefined ? [] : [...settings.remove, ...Object.keys(settings.set)];
  const ids = [...base, ...named.map((name) => names.idOf(name))];
  const others = ids.filter((id) => id >= 31);
  const lines =
    settings === undefined ? [] : [...Object.entries(settings.set), ...Object.entries(settings.add)];
  return {
    drop: ids.reduce((bits, id) => bits | bitOf(id), drop),
    others: others.length === 0 ? undefined : new Set(others),
    lines: lines.map(([name, value]) => `${name}: ${value}\r\n`).join(""),
  };
}

function limiterOf(state: RouteState, rate: number, burst: number): RateLimiter {
  const known = state.limiter;
  if (known?.rate === rate && known.burst === burst) return known.is;
  const is = new RateLimiter(rate, burst);
  state.limiter = { rate, burst, is };
  return is;
}

function compileRoute(
  service: string,
  settings: RouteSettings,
  index: number,
  proxy: ProxySettings,
  context: PlanContext,
  replaced: readonly number[],
): RoutePlan {
  const { names } = context;
  const name = settings.name ?? `${service}-${index + 1}`;
  const state = context.routeState(service, name);
  const shares = typeof settings.pool === "string" ? { [settings.pool]: 1 } : (settings.pool ?? {});
  const request = compileEdits(settings.requestHeaders, replaced, REQUEST_DROP, names);
  const response = compileEdits(settings.responseHeaders, [], RESPONSE_DROP, names);
  const limit = settings.rateLimit;
  if (settings.upstream.tls !== false) prepareTls(settings.upstream.tls);
  const share = settings.retries.budget;
  if (state.budget?.share !== share) state.budget = { share, is: new RetryBudget(share) };
  const limiter = limit && limiterOf(state, limit.rate, limit.burst ?? Math.max(1, limit.rate));
  return {
    name,
    service,
    hosts: settings.match.host,
    conditions: compileConditions(settings.match, names),
    settings,
    pools: Object.entries(shares).map(([pool, weight]) => ({ pool: context.pool(pool), weight })),
    request,
    response,
    rewrite: compileRewrite(settings.rewrite),
    key: compileKey(settings.balance.key, names),
    hashes: settings.balance.scheduler === "maglev" || settings.balance.scheduler === "bounded",
    pick: {
      scheduler: settings.balance.scheduler,
      panic: settings.panic,
      slowStart: settings.slowStart,
      requests: settings.limits.requests,
      connections: settings.limits.connections,
    },
    sticky:
      settings.sticky &&
      compileSticky(
        settings.sticky,
        context.secret(settings.sticky.secret),
        settings.sticky.by === undefined ? undefined : compileKey(settings.sticky.by, names),
      ),
    budget: state.budget.is,
    hedge: settings.hedge && new HedgeDelay(settings.hedge),
    limiter:
      limit === undefined || limiter === undefined
        ? undefined
        : { buckets: limiter, key: compileKey(limit.key, names), status: limit.status },
    mirror: settings.mirror && { pool: context.pool(settings.mirror.pool), share: settings.mirror.share },
    middleware: settings.middleware,
    bodyLimit: settings.body ?? proxy.limits.body,
    counters: state.counters,
    cacheControl: names.idOf("cache-control"),
    plain: settings.compress === false && settings.middleware.length === 0,
  };
}

type RouteInput = { pool: string } | { name: string; match: { path: string }; middleware: Middleware[] };

/** Answers for the proxy itself, before every other route. */
const healthRoute = (path: string, context: PlanContext): RouteInput => ({
  name: "health",
  // Without a slash at its end a path is itself only.
  match: { path },
  middleware: [
    () =>
      context.failing()
        ? { status: 503, headers: { "Cache-Control": "no-store" }, body: "stopping\n" }
        : { status: 200, headers: { "Cache-Control": "no-store" }, body: "serving\n" },
  ],
});

/** A service's settings with everything that can be worked out once. Throws an OperationalError for files only: the schema has checked the rest. */
export function compileService(
  name: string,
  service: ProxyService,
  context: PlanContext,
  defaults: (input: RouteInput) => RouteSettings,
): ServicePlan {
  const proxy = service.proxy;
  const { names } = context;
  const xForwarded = proxy.forwarded.includes("x-forwarded");
  const requestIdField = proxy.requestId === false ? 0 : names.idOf(proxy.requestId);
  // What we write ourselves is never the client's.
  const replaced = [
    Field.xForwardedFor,
    Field.xForwardedProto,
    Field.xForwardedHost,
    Field.xForwardedPort,
    Field.xRealIp,
    Field.forwarded,
    ...(requestIdField === 0 ? [] : [requestIdField]),
  ];
  const own = proxy.routes ?? (proxy.pool === undefined ? [] : [defaults({ pool: proxy.pool })]);
  const routes =
    proxy.health === undefined ? own : [defaults(healthRoute(proxy.health.path, context)), ...own];
  return {
    name,
    settings: proxy,
    router: new Router(routes.map((route, i) => compileRoute(name, route, i, proxy, context, replaced))),
    tcp: proxy.tcp && compileTcp(name, proxy.tcp, context),
    log: proxy.accessLog && context.log(proxy.accessLog.file, proxy.accessLog.format),
    certificates: proxy.tls && context.certificates(name, proxy.tls),
    requestIdField,
    requestIdName: proxy.requestId === false ? "" : proxy.requestId,
    xForwarded,
    forwarded: proxy.forwarded.includes("forwarded"),
    realIp: proxy.forwarded.includes("x-real-ip"),
  };
}

export const emptyRouteState = (): RouteState => ({ counters: newCounters() });
