import { z } from "zod";
import { ConfigError } from "../base/errors.ts";
import { name } from "../config/schema/common.ts";
import { poolSchema } from "../config/schema/pools.ts";
import { serviceSchema } from "../config/schema/services.ts";
import { formatMetrics } from "./engine/metrics.ts";
import type { ExplainRequest, Explanation } from "./explain.ts";
import { Proxy, type ProxyOptions, type ProxySite } from "./proxy.ts";

const embeddedSchema = z.object({
  pools: z.record(name(), poolSchema).default({}),
  services: z.record(name(), serviceSchema).default({}),
});

/** The part of a site file that the proxy reads: pools and services. A whole site will do as well. */
export type EmbeddedSite = z.input<typeof embeddedSchema>;

/** A proxy in your own program: for tests of routing, or beside other code. */
export interface EmbeddedProxy {
  /** Opens the listening sockets. */
  listen(): Promise<void>;
  /** Changes to another site; what both have in common lives on. */
  reload(site: EmbeddedSite): Promise<void>;
  /** What would happen to a request, and why. Needs no `listen`. */
  explain(service: string, request: ExplainRequest): Explanation;
  /** Prometheus text. */
  metrics(): string;
  close(): Promise<void>;
}

export function parseEmbeddedSite(input: EmbeddedSite): ProxySite {
  const parsed = embeddedSchema.safeParse(input);
  if (parsed.success) return parsed.data;
  throw new ConfigError(
    parsed.error.issues.map((issue) => ({
      file: "createProxy",
      line: 1,
      column: 1,
      path: issue.path.join("."),
      message: issue.message,
    })),
  );
}

/** Throws a ConfigError with every mistake of the site. */
export function createProxy(site: EmbeddedSite, options: ProxyOptions = {}): EmbeddedProxy {
  let current = parseEmbeddedSite(site);
  const proxy = new Proxy(options);
  let listening = false;
  return {
    async listen() {
      listening = true;
      await proxy.apply(current);
    },
    async reload(next) {
      current = parseEmbeddedSite(next);
      if (listening) await proxy.apply(current);
      else proxy.prepare(current);
    },
    explain(service, request) {
      if (!listening) proxy.prepare(current);
      return proxy.explain(service, request);
    },
    metrics: () => formatMetrics(proxy.metrics()),
    close: () => proxy.close(),
  };
}
