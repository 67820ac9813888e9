/** How many backends the peak needs, and what is left of a pool after anything it shares has failed. */
import type { Site } from "../../contracts/site.ts";

export interface CapacityLoss {
  readonly without: string;
  readonly left: number;
  /** Whether what is left carries the peak. */
  readonly enough: boolean;
}

export interface PoolCapacity {
  readonly pool: string;
  readonly backends: number;
  readonly total: number;
  readonly peak: number | undefined;
  /** Backends that the peak needs, the largest first. */
  readonly needed: number;
  /** `N`, `N+1`, `N+2`, `2N`; `short` where not even all carry the peak. */
  readonly redundancy: string;
  /** The worst backend, and every zone and domain. */
  readonly losses: readonly CapacityLoss[];
}

export function planCapacity(site: Site): PoolCapacity[] {
  const used = Object.entries(site.pools);
  return used.map(([pool, { backends }]): PoolCapacity => {
    const stated = site.availability.capacity[pool];
    const members = Object.entries(backends)
      .filter(([, backend]) => backend.weight > 0 && !backend.maintenance)
      .map(([name, { at, zone }]) => {
        const node = Object.values(site.nodes).find(({ address }) => address === at.address);
        return { name, zone: zone ?? node?.zone, carries: stated?.backends[name] ?? stated?.each ?? 1 };
      })
      .sort((a, b) => b.carries - a.carries);
    const total = members.reduce((sum, member) => sum + member.carries, 0);
    const peak = stated?.peak;
    const wanted = peak ?? members.at(-1)?.carries ?? 0;
    let needed = 0;
    for (let sum = 0; sum < wanted - 1e-9 && needed < members.length; needed++)
      sum += members[needed]!.carries;
    const left = (gone: (member: (typeof members)[number]) => boolean): number =>
      members.reduce((sum, member) => sum + (gone(member) ? 0 : member.carries), 0);
    const loss = (without: string, rest: number): CapacityLoss => ({
      without,
      left: rest,
      enough: rest >= wanted - 1e-9,
    });
    const losses: CapacityLoss[] = [];
    if (members[0]) losses.push(loss(`backend ${members[0].name}`, total - members[0].carries));
    for (const zone of new Set(members.map((member) => member.zone)))
      if (zone !== undefined)
        losses.push(
          loss(
            `zone ${zone}`,
            left((member) => member.zone === zone),
          ),
        );
    for (const kind of ["power", "network"] as const) {
      const domains = Object.entries(site.availability[kind]);
      for (const [domain, { members: fed }] of domains)
        losses.push(
          loss(
            `${kind} ${domain}`,
            // Who has a second feed stays.
            left(
              ({ name }) =>
                fed.includes(name) &&
                !domains.some(([other, { members: also }]) => other !== domain && also.includes(name)),
            ),
          ),
        );
    }
    // How many of the largest may fail before the rest is too little.
    let spare = -1;
    for (let rest = total; rest >= wanted - 1e-9 && spare < members.length;) {
      spare++;
      rest -= members[spare]?.carries ?? Number.POSITIVE_INFINITY;
    }
    const redundancy = spare < 0 ? "short" : spare === 0 ? "N" : spare >= needed ? "2N" : `N+${spare}`;
    return { pool, backends: members.length, total, peak, needed, redundancy, losses };
  });
}
