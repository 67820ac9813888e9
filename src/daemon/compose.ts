import { readFileSync } from "node:fs";
import { describeChange, siteDifference } from "../config/difference.ts";
import { loadSite } from "../config/load.ts";
import { formatConfigIssue } from "../base/errors.ts";
import { takesPart } from "../forwarding/flows/plan.ts";
import { listenKeys } from "../proxy/listen-keys.ts";
import { planFor } from "../redundancy/plan.ts";
import { forwarderPort } from "./forwarder-port.ts";
import { healthPort } from "./health-port.ts";
import { proxyWishes, withProxyTrack } from "./proxy-wishes.ts";
import type { BrainPorts } from "./ports.ts";

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
    plan: (site, node, digest) => withProxyTrack(planFor(site, node, digest), site, node),
    differences: (before, after) => siteDifference(before, after).map(describeChange),
    children: (site, node) => [
      { name: "flows", count: takesPart(site, node) ? 1 : 0, listen: [] },
      ...proxyWishes(site, node, listenKeys),
    ],
    health: healthPort,
    forwarder: forwarderPort,
  };
}
