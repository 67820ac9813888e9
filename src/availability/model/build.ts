/**
 * The site as a fault tree. Every service has two tops: the naive one, that multiplies the availabilities of
 * machines, and the honest one, that also counts takeovers, takeovers that fail, shared zones, power and
 * network, common causes and dead backends that the checks have not noticed yet.
 */
import { poolReferences } from "../../config/checks/services.ts";
import type { Site } from "../../contracts/site.ts";
import { dependencyPart } from "./dependencies.ts";
import { Machines } from "./machines.ts";
import { poolPart } from "./pools.ts";
import { routerPart } from "./routers.ts";
import type { Part, ServiceTops, SiteModel } from "./site-model.ts";
import { type BuildOptions, Workbook } from "./workbook.ts";

export function buildSiteModel(site: Site, options: BuildOptions = {}): SiteModel {
  const book = new Workbook(site, options);
  const machines = new Machines(book);
  const made = new Map<string, Part>();
  /** What several services use is one part of the tree. */
  const once = (key: string, make: () => Part): Part => {
    let part = made.get(key);
    if (part === undefined) made.set(key, (part = make()));
    return part;
  };
  const services = Object.entries(site.services).map(([service, definition]): ServiceTops => {
    const { on } = definition;
    const pools = [...new Set(poolReferences(service, definition).map(({ pool }) => pool))];
    const parts = [
      on === undefined ? machines.anyNode() : once(`router ${on}`, () => routerPart(book, machines, on)),
    ];
    for (const name of pools) {
      const pool = site.pools[name];
      if (pool !== undefined) parts.push(once(`pool ${name}`, () => poolPart(book, machines, name, pool)));
    }
    for (const [name, one] of Object.entries(site.availability.dependencies))
      if (one.services?.includes(service) ?? true)
        parts.push(once(`dependency ${name}`, () => dependencyPart(book, name, one)));
    return {
      service,
      honest: book.tree.or(`${service} is down`, ...parts.flatMap(({ honest }) => honest)),
      naive: book.tree.or(`${service} is down (naive)`, ...parts.map(({ naive }) => naive)),
      router: on,
      pools,
    };
  });
  return { site, tree: book.tree, services, events: book.events, inputs: book.inputs };
}
