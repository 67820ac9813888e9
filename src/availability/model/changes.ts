/**
 * What one change would buy. A change is an edited site, planned again; only those that apply are tried.
 */
import { ms, seconds } from "../../base/time.ts";
import type { IpAddress } from "../../base/addresses.ts";
import type { Pool, Site, VirtualRouter } from "../../contracts/site.ts";
import { HOUR, sayMilliseconds } from "./words.ts";

export interface Change {
  /** `a second zone for the backends of apps`. */
  readonly what: string;
  readonly site: Site;
}

const DAY = 24 * HOUR;
const withPool = (site: Site, name: string, pool: Pool): Site => ({
  ...site,
  pools: { ...site.pools, [name]: pool },
});
const withRouter = (site: Site, name: string, router: VirtualRouter): Site => ({
  ...site,
  virtualRouters: { ...site.virtualRouters, [name]: router },
});
const withAvailability = (site: Site, part: Partial<Site["availability"]>): Site => ({
  ...site,
  availability: { ...site.availability, ...part },
});
const withFailover = (site: Site, part: Partial<Site["availability"]["failover"]>): Site =>
  withAvailability(site, { failover: { ...site.availability.failover, ...part } });

/** An address of the documentation prefix: nobody's machine. */
const elsewhere = (i: number): IpAddress => `192.0.2.${i}` as IpAddress;

/** For one service: only its router, its pools, its dependencies. `drilled`: coverage is measured, not assumed. */
export function possibleChanges(
  site: Site,
  router: string | undefined,
  pools: readonly string[],
  service: string,
  drilled: boolean,
): Change[] {
  const changes: Change[] = [];
  if (router !== undefined) changes.push(...routerChanges(site, router, drilled));
  for (const pool of pools) changes.push(...poolChanges(site, pool));
  for (const kind of ["power", "network"] as const)
    for (const [name, domain] of Object.entries(site.availability[kind])) {
      const others = Object.values(site.availability[kind]).filter((other) => other !== domain);
      if (domain.members.some((member) => others.some((other) => other.members.includes(member)))) continue;
      const twin = { ...site.availability[kind], [`second-${name}`]: domain };
      const thing = kind === "power" ? "power feed" : "switch";
      changes.push({
        what: `a second ${thing} beside ${name}`,
        site: withAvailability(site, kind === "power" ? { power: twin } : { network: twin }),
      });
    }
  for (const [name, one] of Object.entries(site.availability.dependencies)) {
    if (one.services !== undefined && !one.services.includes(service)) continue;
    if (one.copies > one.needed) continue;
    const dependencies = {
      ...site.availability.dependencies,
      [name]: { ...one, copies: one.copies + 1, failover: one.failover === 0 ? seconds(30) : one.failover },
    };
    changes.push({
      what: `a standby of ${name} that takes over in ${sayMilliseconds(dependencies[name]!.failover)}`,
      site: withAvailability(site, { dependencies }),
    });
  }
  return changes;
}

function routerChanges(site: Site, name: string, drilled: boolean): Change[] {
  const router = site.virtualRouters[name];
  if (router === undefined) return [];
  const changes: Change[] = [];
  const nodes = Object.keys(router.priorities).filter((node) => site.nodes[node] !== undefined);
  const zones = new Set(nodes.map((node) => site.nodes[node]?.zone));
  const [zone] = zones;
  const last = nodes.at(-1);
  if (nodes.length > 1 && zones.size === 1 && zone !== undefined && last !== undefined) {
    const moved = { ...site.nodes[last]!, zone: "another-zone" };
    changes.push({
      what: `${last} in a zone of its own`,
      site: { ...site, nodes: { ...site.nodes, [last]: moved } },
    });
  }
  const lowest = Math.min(...Object.values(router.priorities));
  const grown = withRouter(site, name, {
    ...router,
    priorities: { ...router.priorities, another: Math.max(1, lowest - 10) },
  });
  changes.push({
    what: `${nodes.length === 1 ? "a second" : nodes.length === 2 ? "a third" : "another"} node in ${name}`,
    site: {
      ...grown,
      nodes: {
        ...site.nodes,
        another: { ...site.nodes[nodes[0]!]!, address: elsewhere(1), zone: "another-zone" },
      },
    },
  });
  if (nodes.length < 2) return changes;
  if (router.interval > 100 && router.version === 3)
    changes.push({
      what: `advertisements of ${name} every 100 ms instead of ${sayMilliseconds(router.interval)}`,
      site: withRouter(site, name, { ...router, interval: ms(100) }),
    });
  const { failover } = site.availability;
  if (failover.drillEvery > 7 * DAY)
    changes.push({
      what: `a takeover drill every week instead of every ${Math.round(failover.drillEvery / DAY)} days`,
      site: withFailover(site, { drillEvery: ms(7 * DAY) }),
    });
  if (!drilled && (failover.coverage ?? 0) < 0.99)
    changes.push({
      what: "takeovers that work 99 times of 100, shown by drills",
      site: withFailover(site, { coverage: 0.99 }),
    });
  if (failover.manual > HOUR / 4)
    changes.push({
      what: "somebody at hand within 15 min when a takeover fails",
      site: withFailover(site, { manual: ms(HOUR / 4) }),
    });
  if ((failover.beta ?? 1) > 0.01)
    changes.push({
      what: "members that differ (versions, makers, roll-outs apart): common causes 1 %",
      site: withFailover(site, { beta: 0.01 }),
    });
  return changes;
}

function poolChanges(site: Site, name: string): Change[] {
  const pool = site.pools[name];
  if (pool === undefined) return [];
  const changes: Change[] = [];
  const backends = Object.entries(pool.backends);
  const first = backends[0];
  if (first === undefined) return [];
  const zones = new Set(backends.map(([, { zone }]) => zone));
  const [zone] = zones;
  if (backends.length > 1 && zones.size === 1 && zone !== undefined) {
    const half = Math.ceil(backends.length / 2);
    const spread = backends.map(
      ([key, backend], i) => [key, i < half ? backend : { ...backend, zone: "another-zone" }] as const,
    );
    changes.push({
      what: `a second zone for the backends of ${name}`,
      site: withPool(site, name, { ...pool, backends: Object.fromEntries(spread) }),
    });
  }
  const more = {
    ...first[1],
    at: { ...first[1].at, address: elsewhere(2) },
    zone: zone === undefined ? undefined : "another-zone",
  };
  changes.push({
    what: `${backends.length === 1 ? "a second" : "one more"} backend in ${name}`,
    site: withPool(site, name, { ...pool, backends: { ...pool.backends, another: more } }),
  });
  const { check } = pool;
  if (check !== undefined && check.interval > 500)
    changes.push({
      what: `checks of ${name} every 500 ms with a timeout of 500 ms`,
      site: withPool(site, name, {
        ...pool,
        check: { ...check, interval: ms(500), timeout: ms(Math.min(500, check.timeout)) },
      }),
    });
  if (check === undefined && backends.length > 1)
    changes.push({
      what: `health checks for ${name}, every 2 s`,
      site: withPool(site, name, {
        ...pool,
        check: {
          kind: "tcp",
          tcp: true,
          hex: false,
          tls: false,
          verify: true,
          interval: ms(2000),
          timeout: ms(1000),
          rise: 2,
          fall: 3,
          jitter: 0.1,
        },
      }),
    });
  return changes;
}
