import { formatIpPort } from "../../base/addresses.ts";
import { formatDuration } from "../../base/units.ts";
import type { Site } from "../schema/site.ts";
import { unusable } from "./addresses.ts";
import type { Check } from "./context.ts";
import { poolReferences } from "./services.ts";

const poolsOf = (site: Site) => Object.entries(site.pools);

export const backends: Check = ({ site, error, warning }) => {
  for (const [name, pool] of poolsOf(site)) {
    const path = ["pools", name, "backends"];
    const entries = Object.entries(pool.backends);
    if (entries.length === 0) error(path, `pool ${name} has no backend`, "backends: { NAME: ADDRESS:PORT }");
    const seen = new Map<string, string>();
    for (const [backend, { at }] of entries) {
      const text = formatIpPort(at);
      const reason = unusable(at.address);
      if (reason !== undefined && !reason.includes("loopback"))
        error([...path, backend], `${at.address} is ${reason}`, "no backend can be there");
      const other = seen.get(text);
      if (other === undefined) seen.set(text, backend);
      else error([...path, backend], `${text} is already backend ${other} of this pool`);
    }
    if (entries.length > 0 && entries.every(([, { weight, maintenance }]) => weight === 0 || maintenance))
      warning(
        path,
        `no backend of ${name} takes new connections`,
        "all have weight 0 or are in maintenance",
        "key",
      );
  }
};

export const checksOfPools: Check = ({ site, error, warning }) => {
  for (const [name, pool] of poolsOf(site)) {
    const path = ["pools", name];
    const { check } = pool;
    if (!check) {
      warning(
        path,
        `pool ${name} has no check: a dead backend goes on getting connections`,
        "check: { tcp: true }",
        "key",
      );
      continue;
    }
    if (check.timeout > check.interval)
      warning(
        [...path, "check", "timeout"],
        `a timeout of ${formatDuration(check.timeout)} is longer than the interval of ${formatDuration(check.interval)}`,
        "checks of a silent backend then come less often than the interval says",
      );
    if (check.kind !== "http" && check.kind !== "tcp") continue;
    if (check.sni !== undefined && !check.tls)
      warning([...path, "check", "sni"], "sni has no effect without tls: true", undefined, "key");
    if (check.kind === "tcp") continue;
    for (const range of check.status.split(",")) {
      const [low, high] = range.split("-").map(Number);
      if ((low ?? 0) < 100 || (high ?? low ?? 0) > 599 || (high ?? low ?? 0) < (low ?? 0))
        error(
          [...path, "check", "status"],
          `"${range}" is not a range of HTTP statuses`,
          "100 to 599, the lower first",
        );
    }
  }
};

export const unusedPools: Check = ({ site, warning }) => {
  const used = new Set(
    Object.entries(site.services).flatMap(([name, service]) =>
      poolReferences(name, service).map((reference) => reference.pool),
    ),
  );
  for (const router of Object.values(site.virtualRouters))
    for (const track of router.track) if ("pool" in track) used.add(track.pool);
  for (const [name] of poolsOf(site))
    if (!used.has(name)) warning(["pools", name], `nothing uses pool ${name}`, undefined, "key");
};
