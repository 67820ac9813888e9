import { readFileSync } from "node:fs";
import { loadSite } from "../config/load.ts";
import { OperationalError, formatConfigIssue } from "../base/errors.ts";
import { planFor } from "../redundancy/plan.ts";
import type { BackendStatus } from "../contracts/forwarding.ts";
import type { BrainPorts } from "./ports.ts";
import { ms } from "../base/time.ts";

/** The rooms of this program as the brain's ports. */
export function brainPorts(): BrainPorts {
  const manifest = new URL("../../package.json", import.meta.url);
  const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };
  return {
    version,
    loadSite: async (file) => {
      const { site, digest, warnings } = await loadSite(file);
      return { site, digest, warnings: warnings.map(formatConfigIssue) };
    },
    plan: planFor,
    differences: () => [],
    children: () => [],
    health: () => {
      let statuses: BackendStatus[] = [];
      return {
        update: (site) => {
          statuses = Object.entries(site.pools).flatMap(([pool, { backends }]) =>
            Object.entries(backends).map(([backend, { weight }]) => ({
              pool,
              backend,
              health: "up" as const,
              admin: "enabled" as const,
              reason: "not checked",
              effectiveWeight: weight,
              since: ms(0),
            })),
          );
        },
        stop: () => {},
        statuses: () => statuses,
        setAdmin: () => Promise.reject(new OperationalError("NOT_FOUND", "not yet")),
        metrics: () => [],
      };
    },
    forwarder: () => ({
      apply: () => {},
      problem: () => "",
      metrics: () => [],
      stop: () => Promise.resolve(),
    }),
  };
}
