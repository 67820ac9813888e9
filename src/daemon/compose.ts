import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { parse } from "yaml";
import { siteSchema } from "../config/schema/site.ts";
import { OperationalError } from "../base/errors.ts";
import { planFor } from "../redundancy/plan.ts";
import type { BackendStatus } from "../contracts/forwarding.ts";
import type { BrainPorts } from "./ports.ts";
import { createHash } from "node:crypto";
import { ms } from "../base/time.ts";

/** The rooms of this program as the brain's ports. */
export function brainPorts(): BrainPorts {
  const manifest = new URL("../../package.json", import.meta.url);
  const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };
  return {
    version,
    loadSite: async (file) => {
      const text = await readFile(file, "utf8");
      const parsed = siteSchema.safeParse(parse(text));
      if (!parsed.success) throw new OperationalError("FILE_UNREADABLE", parsed.error.message);
      return { site: parsed.data, digest: createHash("sha256").update(text).digest("hex"), warnings: [] };
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
        counters: () => ({}),
      };
    },
    forwarder: () => ({
      apply: () => {},
      problem: () => "",
      counters: () => ({}),
      stop: () => Promise.resolve(),
    }),
  };
}
