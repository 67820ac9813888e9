import type { Site } from "../contracts/site.ts";
import type { Promises } from "./drills/drill.ts";

/** What the protocol promises on this site, for default budgets. */
export function promisesOf(site: Site): Promises {
  const routers = Object.values(site.virtualRouters);
  const down = routers.map(({ interval, priorities }) => {
    // The owner (255) is no Backup's priority; the slowest Backup has the lowest one.
    const lowest = Math.min(...Object.values(priorities), 255);
    return 3 * interval + ((256 - lowest) * interval) / 256;
  });
  const checks = Object.values(site.pools).flatMap(({ check }) =>
    check === undefined ? [] : [check.fall * (check.interval * (1 + check.jitter) + check.timeout)],
  );
  return {
    interval: Math.max(0, ...routers.map(({ interval }) => interval)),
    activeDown: Math.round(Math.max(0, ...down)),
    // Not declared: ActiveDownInterval and a second for a restart, in whole seconds.
    lease: Math.max(
      0,
      ...routers.map(({ lease }, i) => lease ?? 1000 * Math.ceil((down[i] ?? 0) / 1000 + 1)),
    ),
    checkFall: Math.max(0, ...checks),
  };
}
