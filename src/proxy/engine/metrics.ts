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
  readonly routes: Record<string, Counters & { service: string }>;
  readonly backends: Record<string, Counters>;
  /** Reasons of refusals, retries, ejections and so on: `refused.bare-lf`. */
  readonly events: Record<string, number>;
  readonly gauges: Record<string, number>;
}

const escape = (text: string): string => text.replaceAll(/[\\"\n]/g, (c) => (c === "\n" ? "\\n" : `\\${c}`));

/** The Prometheus text of a report. */
export function formatMetrics(metrics: ProxyMetrics): string {
  const out: string[] = [];
  const section = (
    what: "route" | "backend",
    labels: (name: string) => string,
    all: Record<string, Counters>,
  ): void => {
    out.push(`# TYPE nines_proxy_${what}_responses_total counter`);
    for (const [name, c] of Object.entries(all)) {
      c.statuses.forEach((value, i) => {
        if (value > 0)
          out.push(`nines_proxy_${what}_responses_total{${labels(name)},status="${i + 1}xx"} ${value}`);
      });
    }
    out.push(`# TYPE nines_proxy_${what}_response_bytes_total counter`);
    for (const [name, c] of Object.entries(all))
      out.push(`nines_proxy_${what}_response_bytes_total{${labels(name)}} ${c.bytesOut}`);
    out.push(`# TYPE nines_proxy_${what}_latency_seconds histogram`);
    for (const [name, c] of Object.entries(all)) {
      let sum = 0;
      c.latency.forEach((value, i) => {
        sum += value;
        const le = i < LATENCY_BOUNDS.length ? LATENCY_BOUNDS[i]! / 1000 : "+Inf";
        out.push(`nines_proxy_${what}_latency_seconds_bucket{${labels(name)},le="${le}"} ${sum}`);
      });
      out.push(`nines_proxy_${what}_latency_seconds_sum{${labels(name)}} ${c.latencySum / 1000}`);
      out.push(`nines_proxy_${what}_latency_seconds_count{${labels(name)}} ${sum}`);
    }
  };
  section(
    "route",
    (name) => `service="${escape(metrics.routes[name]!.service)}",route="${escape(name)}"`,
    metrics.routes,
  );
  section(
    "backend",
    (name) => {
      const [pool = "", backend = ""] = name.split("/");
      return `pool="${escape(pool)}",backend="${escape(backend)}"`;
    },
    metrics.backends,
  );
  out.push("# TYPE nines_proxy_events_total counter");
  for (const [name, value] of Object.entries(metrics.events))
    out.push(`nines_proxy_events_total{event="${escape(name)}"} ${value}`);
  for (const [name, value] of Object.entries(metrics.gauges)) {
    out.push(`# TYPE nines_proxy_${name} gauge`, `nines_proxy_${name} ${value}`);
  }
  return `${out.join("\n")}\n`;
}
