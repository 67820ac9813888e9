import { prometheusText } from "../../base/prometheus.ts";
import type { MetricSample } from "../../contracts/metrics.ts";

/** Upper bounds of the latency histogram, in milliseconds. */
export const LATENCY_BOUNDS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000] as const;

/** Counters of a route or a backend. Plain numbers: they are added up over the workers. */
export interface Counters {
  /** Index 0: 1xx ... 4: 5xx. */
  readonly statuses: number[];
  readonly latency: number[];
  latencySum: number;
  bytesIn: number;
  bytesOut: number;
}

export const newCounters = (): Counters => ({
  statuses: [0, 0, 0, 0, 0],
  latency: Array.from({ length: LATENCY_BOUNDS.length + 1 }, () => 0),
  latencySum: 0,
  bytesIn: 0,
  bytesOut: 0,
});

export function count(counters: Counters, status: number, took: number, bytesOut: number): void {
  const kind = Math.min(4, Math.max(0, Math.trunc(status / 100) - 1));
  counters.statuses[kind]!++;
  let bucket = 0;
  while (bucket < LATENCY_BOUNDS.length && took > LATENCY_BOUNDS[bucket]!) bucket++;
  counters.latency[bucket]!++;
  counters.latencySum += took;
  counters.bytesOut += bytesOut;
}

/** What a worker reports, and what the reports of all workers add up to. */
export interface ProxyMetrics {
  /** By `service/route`. */
  readonly routes: Record<string, Counters & { service: string }>;
  /** By `pool/backend`. */
  readonly backends: Record<string, Counters>;
  /** Reasons of refusals, retries, ejections and so on: `refused.bare-lf`. */
  readonly events: Record<string, number>;
  readonly gauges: Record<string, number>;
}

export const emptyMetrics = (): ProxyMetrics => ({ routes: {}, backends: {}, events: {}, gauges: {} });

function addCounters(into: Counters, more: Counters): void {
  more.statuses.forEach((value, i) => (into.statuses[i] = (into.statuses[i] ?? 0) + value));
  more.latency.forEach((value, i) => (into.latency[i] = (into.latency[i] ?? 0) + value));
  into.latencySum += more.latencySum;
  into.bytesIn += more.bytesIn;
  into.bytesOut += more.bytesOut;
}

const addNumbers = (into: Record<string, number>, more: Readonly<Record<string, number>>): void => {
  for (const [name, value] of Object.entries(more)) into[name] = (into[name] ?? 0) + value;
};

/** Adds a worker's report. `gauges` false for a worker that has ended: its counters stay, what it had open is gone. */
export function addMetrics(into: ProxyMetrics, more: ProxyMetrics, gauges = true): void {
  for (const [name, counters] of Object.entries(more.routes))
    addCounters((into.routes[name] ??= { ...newCounters(), service: counters.service }), counters);
  for (const [name, counters] of Object.entries(more.backends))
    addCounters((into.backends[name] ??= newCounters()), counters);
  addNumbers(into.events, more.events);
  if (gauges) addNumbers(into.gauges, more.gauges);
}

const GAUGES: Readonly<Record<string, string>> = {
  client_connections: "Connections of clients that are open.",
  upstream_connections: "Connections to backends that are open.",
  requests_in_flight: "Requests that have been given to a backend and are not answered yet.",
};

/** A report as samples of /metrics. */
export function proxySamples(metrics: ProxyMetrics): MetricSample[] {
  const out: MetricSample[] = [];
  const section = (
    what: "route" | "backend",
    labels: (name: string) => Record<string, string>,
    all: Record<string, Counters>,
  ): void => {
    for (const [name, c] of Object.entries(all)) {
      const own = labels(name);
      c.statuses.forEach((value, i) => {
        if (value === 0) return;
        out.push({
          name: `nines_proxy_${what}_responses_total`,
          help: `Responses by ${what} and class of status.`,
          kind: "counter",
          labels: { ...own, status: `${i + 1}xx` },
          value,
        });
      });
      out.push(
        {
          name: `nines_proxy_${what}_response_bytes_total`,
          help: `Bytes of responses by ${what}.`,
          kind: "counter",
          labels: own,
          value: c.bytesOut,
        },
        {
          name: `nines_proxy_${what}_latency_seconds`,
          help: `From the request's head to the response's last byte, by ${what}.`,
          kind: "histogram",
          labels: own,
          value: c.latencySum / 1000,
          buckets: c.latency.map((count, i) => ({
            to: i < LATENCY_BOUNDS.length ? LATENCY_BOUNDS[i]! / 1000 : Number.POSITIVE_INFINITY,
            count,
          })),
        },
      );
    }
  };
  section(
    "route",
    (name) => ({ service: metrics.routes[name]!.service, route: name.slice(name.indexOf("/") + 1) }),
    metrics.routes,
  );
  section(
    "backend",
    (name) => ({ pool: name.slice(0, name.indexOf("/")), backend: name.slice(name.indexOf("/") + 1) }),
    metrics.backends,
  );
  for (const [event, value] of Object.entries(metrics.events))
    out.push({
      name: "nines_proxy_events_total",
      help: "Refusals, retries, ejections and so on, by kind.",
      kind: "counter",
      labels: { event },
      value,
    });
  for (const [name, value] of Object.entries(metrics.gauges))
    out.push({
      name: `nines_proxy_${name}`,
      help: GAUGES[name] ?? "See the room's README.",
      kind: "gauge",
      labels: {},
      value,
    });
  return out;
}

/** The Prometheus text of a report. */
export const formatMetrics = (metrics: ProxyMetrics): string => prometheusText(proxySamples(metrics));
