import { Counter, Gauge, Registry } from "prom-client";
import { prometheusText } from "../base/prometheus.ts";
import type { MetricSample } from "../contracts/metrics.ts";

/** Samples as Prometheus reads them. A registry per scrape: what is gone leaves no stale series behind. */
export async function renderMetrics(
  samples: readonly MetricSample[],
): Promise<{ type: string; text: string }> {
  const registry = new Registry();
  const known = new Map<string, Counter | Gauge>();
  for (const { name, help, kind, labels, value } of samples) {
    // The library's own histogram takes single observations only; ours are counted already.
    if (kind === "histogram") continue;
    let metric = known.get(name);
    if (metric === undefined) {
      const options = { name, help, labelNames: Object.keys(labels), registers: [registry] };
      metric = kind === "counter" ? new Counter(options) : new Gauge(options);
      known.set(name, metric);
    }
    metric.inc(labels, value);
  }
  return {
    type: registry.contentType,
    text: (await registry.metrics()) + prometheusText(samples.filter(({ kind }) => kind === "histogram")),
  };
}
