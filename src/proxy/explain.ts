import type { BackendState } from "./engine/backend.ts";
import { Affinity } from "./engine/affinity.ts";
import { Http1Reader, Signal } from "./http1/machine.ts";
import { FAULTS } from "./http1/wire-faults.ts";
import type { Head } from "./http1/wire-head.ts";
import type { FieldNames } from "./http1/wire-names.ts";
import { latin1 } from "./engine/channel.ts";
import type { RoutePlan, ServicePlan } from "./plan.ts";
import { keyOf } from "./routing/policy-key.ts";
import type { MatchInput } from "./routing/policy-match.ts";
import { mergedSlashes, normalPath } from "./routing/policy-path.ts";
import { redirectTarget } from "./routing/policy-rewrite.ts";

/** A request to be explained; nothing is sent. */
export interface ExplainRequest {
  readonly method?: string;
  /** Path and query. */
  readonly target: string;
  readonly host: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly client?: string;
}

export interface Explanation {
  readonly service: string;
  /** Why the request is refused before any route is asked; undefined for a good one. */
  readonly refused?: string;
  /** Every route that was tried, in order; the last one took the request where `failed` is undefined. */
  readonly tried: readonly { readonly route: string; readonly failed?: string }[];
  readonly route?: string;
  /** What the route does: `pool apps`, `redirect to ...`, `respond 200`. */
  readonly action?: string;
  /** The target as the backend gets it. */
  readonly target?: string;
  /** Of a sticky route: where this client belongs, and why. */
  readonly sticky?: string;
  /** Backends that may get it now, with their shares; and the others with the reason. */
  readonly backends?: readonly {
    readonly backend: string;
    readonly share: number;
    readonly reason: string;
  }[];
}

/** What the proxy would do with a request, and why. */
export function explainRequest(
  service: ServicePlan,
  names: FieldNames,
  request: ExplainRequest,
  now: number,
): Explanation {
  const { limits } = service.settings;
  const reader = new Http1Reader(
    "request",
    names,
    { head: limits.head, fields: limits.headers, bodyOnGet: limits.bodyOnGet },
    latin1,
  );
  const lines = Object.entries(request.headers ?? {}).map(([name, value]) => `${name}: ${value}\r\n`);
  const text = `${request.method ?? "GET"} ${request.target} HTTP/1.1\r\nHost: ${request.host}\r\n${lines.join("")}\r\n`;
  const bytes = Buffer.from(text, "latin1");
  reader.feed(bytes, 0, bytes.length);
  if (reader.next() !== Signal.head) {
    const fault = reader.fault ?? "truncated";
    return {
      service: service.name,
      refused: `${FAULTS[fault][0]}: ${FAULTS[fault][1]} (${fault})`,
      tried: [],
    };
  }
  const { head } = reader;
  const at = head.target.indexOf("?");
  const sent = normalPath(at < 0 ? head.target : head.target.slice(0, at));
  const path = mergedSlashes(sent);
  const query = at < 0 ? "" : head.target.slice(at);
  const host = head.authority.toLowerCase().replace(/:\d+$/, "");
  const input: MatchInput = {
    host,
    path,
    query,
    method: head.method,
    client: request.client ?? "127.0.0.1",
    field: (id) => head.all(id),
  };
  const steps = service.router.explain(input);
  const tried = steps.map(({ route, failed }) => ({
    route: route.name,
    ...(failed === undefined ? {} : { failed }),
  }));
  const last = steps.at(-1);
  if (last === undefined || last.failed !== undefined) {
    return { service: service.name, refused: "404: no route takes it", tried };
  }
  const { route } = last;
  const { redirect, respond } = route.settings;
  const base = { service: service.name, tried, route: route.name };
  if (redirect !== undefined) {
    const to = redirectTarget(redirect.to, {
      scheme: service.settings.tls ? "https" : "http",
      host,
      path,
      query,
    });
    return { ...base, action: `${redirect.status} redirect to ${to}` };
  }
  if (respond !== undefined) return { ...base, action: `respond ${respond.status}` };
  const target = route.rewrite === undefined ? sent + query : route.rewrite(sent + query);
  return {
    ...base,
    action: `pool ${route.pools.map(({ pool, weight }) => (route.pools.length > 1 ? `${pool.name} (${weight})` : pool.name)).join(", ")} by ${route.settings.balance.scheduler}`,
    target,
    ...explainSticky(route, head, input, now),
    backends: describeBackends(route, now),
  };
}

function explainSticky(route: RoutePlan, head: Head, input: MatchInput, now: number): { sticky?: string } {
  const { sticky } = route;
  if (sticky === undefined) return {};
  const affinity = new Affinity(sticky, route.pools, { head, keyOf: (key) => keyOf(key, input) });
  const { cookie, key } = affinity;
  const first = cookie === undefined ? "no cookie that it signed" : `its cookie names ${cookie.backend}`;
  if (affinity.home(now) !== undefined) return { sticky: `${first}, which keeps its clients` };
  const gone = cookie === undefined ? first : `${first}, which takes nobody now`;
  if (key === "") return { sticky: `${gone}: the scheduler chooses` };
  const by =
    cookie !== undefined && cookie.client !== "" ? "the client in the cookie" : route.settings.sticky?.by;
  const pool = affinity.pool(now) ?? route.pools[0]?.pool;
  const backend = pool?.place(now, route.pick, key, undefined);
  return { sticky: `${gone}: rendezvous hashing of ${by} gives ${backend?.id ?? "nobody"}` };
}

function describeBackends(route: RoutePlan, now: number): NonNullable<Explanation["backends"]> {
  const well = (backend: BackendState): boolean => backend.serving && !backend.outlier.ejected(now);
  return route.pools.flatMap(({ pool }) =>
    pool.backends.map((backend) => {
      const reason = !backend.serving
        ? backend.health === "down"
          ? "its check fails"
          : backend.admin === "enabled"
            ? "its weight is 0"
            : backend.admin
        : backend.outlier.ejected(now)
          ? `ejected for another ${Math.ceil((backend.outlier.until - now) / 1000)} s`
          : backend.backup && pool.backends.some((one) => !one.backup && well(one))
            ? "backup: waits until no other is healthy"
            : backend.inflight >= route.pick.requests
              ? "at its limit of requests"
              : "serves";
      return { backend: backend.id, share: reason === "serves" ? backend.weight : 0, reason };
    }),
  );
}
