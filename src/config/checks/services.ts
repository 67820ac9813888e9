import { formatIpPort, ipFamily } from "../../base/addresses.ts";
import type { Listen } from "../schema/services.ts";
import { SHARED_CERTIFICATES } from "../schema/tls.ts";
import type { Site } from "../schema/site.ts";
import type { Path } from "../source/positions.ts";
import { routerAddresses, unusable } from "./addresses.ts";
import type { Check } from "./context.ts";

type Service = Site["services"][string];

const servicesOf = (site: Site) => Object.entries(site.services);

export const formatListen = (listen: Listen): string => {
  const [low, high] = listen.ports;
  const at = formatIpPort({ address: listen.address, port: low });
  return `${at}${high === low ? "" : `-${high}`}/${listen.protocol}`;
};

/** A single listen may be written without a list; its position is then the key's own. */
const listenPath = (name: string, index: number) => ["services", name, "listen", index];

export interface PoolReference {
  readonly pool: string;
  readonly path: Path;
}

/** Every pool that a service sends something to, and where it says so. */
export function poolReferences(name: string, service: Service): PoolReference[] {
  const base = ["services", name];
  if (service.forward) return [{ pool: service.forward.pool, path: [...base, "forward", "pool"] }];
  const { proxy } = service;
  const found: PoolReference[] = [];
  const add = (pool: string | undefined, ...path: (string | number)[]): void => {
    if (pool !== undefined) found.push({ pool, path: [...base, "proxy", ...path] });
  };
  add(proxy.pool, "pool");
  add(proxy.tcp?.pool, "tcp", "pool");
  for (const [server, pool] of Object.entries(proxy.tcp?.serverNames ?? {}))
    add(pool, "tcp", "serverNames", server);
  for (const [index, route] of (proxy.routes ?? []).entries()) {
    add(route.mirror?.pool, "routes", index, "mirror", "pool");
    if (typeof route.pool === "string") add(route.pool, "routes", index, "pool");
    else for (const pool of Object.keys(route.pool ?? {})) add(pool, "routes", index, "pool", pool);
  }
  return found;
}

export const routeWeights: Check = ({ site, error }) => {
  for (const [name, service] of servicesOf(site)) {
    for (const [index, route] of (service.proxy?.routes ?? []).entries()) {
      if (typeof route.pool !== "object") continue;
      const total = Object.values(route.pool).reduce((sum, weight) => sum + weight, 0);
      if (total === 0)
        error(
          ["services", name, "proxy", "routes", index, "pool"],
          "the weights of this route's pools sum to 0",
        );
    }
  }
};

export const serviceAddresses: Check = ({ site, error }) => {
  for (const [name, service] of servicesOf(site)) {
    const router = service.on === undefined ? undefined : site.virtualRouters[service.on];
    if (!router || service.on === undefined) continue;
    const addresses = routerAddresses(router, service.on).map((entry) => entry.address);
    for (const [index, listen] of service.listen.entries()) {
      if (!addresses.includes(listen.address))
        error(
          listenPath(name, index),
          `${listen.address} is no virtual address of ${service.on}`,
          `its addresses: ${addresses.join(", ")}`,
        );
    }
    const masquerade = service.forward?.masquerade ?? false;
    if (masquerade === false) continue;
    const path = ["services", name, "forward", "masquerade"];
    if (!addresses.includes(masquerade))
      error(
        path,
        `${masquerade} is no virtual address of ${service.on}`,
        `its addresses: ${addresses.join(", ")}`,
      );
    const other = service.listen.find((listen) => ipFamily(listen.address) !== ipFamily(masquerade));
    if (other)
      error(
        path,
        `${masquerade} cannot stand for clients of ${formatListen(other)}`,
        "IPv4 and IPv6 need a service each",
      );
  }
};

export const overlappingListens: Check = ({ site, error }) => {
  const seen: { readonly service: string; readonly listen: Listen }[] = [];
  for (const [name, service] of servicesOf(site)) {
    for (const [index, listen] of service.listen.entries()) {
      const other = seen.find(
        (entry) =>
          entry.listen.address === listen.address &&
          entry.listen.protocol === listen.protocol &&
          entry.listen.ports[0] <= listen.ports[1] &&
          listen.ports[0] <= entry.listen.ports[1],
      );
      if (other)
        error(
          listenPath(name, index),
          `${formatListen(listen)} overlaps with ${formatListen(other.listen)} of service ${other.service}`,
        );
      seen.push({ service: name, listen });
    }
  }
};

/** Forwarding keeps the family: there is no NAT64 in the kernel's nat. */
export const families: Check = ({ site, error }) => {
  for (const [name, service] of servicesOf(site)) {
    if (!service.forward) continue;
    const pool = site.pools[service.forward.pool];
    if (!pool) continue;
    const available = new Set(Object.values(pool.backends).map((backend) => ipFamily(backend.at.address)));
    if (available.size === 0) continue;
    for (const [index, listen] of service.listen.entries()) {
      const family = ipFamily(listen.address);
      if (!available.has(family))
        error(
          listenPath(name, index),
          `pool ${service.forward.pool} has no IPv${family} backend for ${formatListen(listen)}`,
          "forwarding does not change the family",
        );
    }
  }
};

/** What a service's backends answer from, as far as a packet of theirs tells: address, port, protocol. */
const answersFrom = (site: Site, { listen, forward }: Service): Set<string> =>
  new Set(
    Object.values(site.pools[forward?.pool ?? ""]?.backends ?? {}).flatMap(({ at }) =>
      listen.map(({ protocol }) => `${formatIpPort(at)}/${protocol}`),
    ),
  );

/**
 * Without replication a connection lives on only where every node picks the same backend by itself, and where a
 * backend's packet tells by itself which service it belongs to.
 */
export const hashedFlows: Check = ({ site, error }) => {
  for (const [name, service] of servicesOf(site)) {
    const { forward, listen } = service;
    if (forward?.flows !== "hashed" || forward.mode === "direct") continue;
    const refuse = (reason: string): void =>
      error(
        ["services", name, "forward", "flows"],
        `hashed is not possible here: ${reason}`,
        "replicated, or off",
      );
    const { scheduler, masquerade, pool } = forward;
    if (scheduler !== "maglev" && scheduler !== "source")
      refuse(
        `the scheduler ${scheduler} picks by what each node has seen; maglev and source pick alike on all`,
      );
    if (masquerade !== false) refuse("with masquerade every node picks source ports of its own");
    if (site.pools[pool]?.slowStart !== undefined && site.pools[pool].slowStart > 0)
      refuse(
        `slowStart of pool ${pool} runs on each node by itself, so that they pick differently meanwhile`,
      );
    const own = answersFrom(site, service);
    for (const [other, another] of servicesOf(site)) {
      // What a backend answers directly does not pass here.
      if (other === name || another.forward === undefined || another.forward.mode === "direct") continue;
      const shared = [...answersFrom(site, another)].find((from) => own.has(from));
      if (shared === undefined) continue;
      refuse(`backend ${shared} also serves ${other}, so that its packets do not tell which of the two`);
      break;
    }
    for (const family of [4, 6] as const)
      for (const protocol of ["tcp", "udp"] as const) {
        const these = listen.filter((one) => one.protocol === protocol && ipFamily(one.address) === family);
        if (these.length > 1)
          refuse(
            `backends answer for ${these.map(formatListen).join(" and ")}, and their packets do not tell for which`,
          );
      }
    const wide = listen.find(
      ({ ports: [low, high] }) =>
        low !== high &&
        (high - low >= 256 ||
          Object.values(site.pools[pool]?.backends ?? {}).some(({ at }) => at.port !== low)),
    );
    if (wide !== undefined)
      refuse(`the ports of ${formatListen(wide)} are not those of every backend, or more than 256`);
  }
};

/** The kernel forwards no packet of another host to a loopback address; a proxy can connect there. */
export const loopbackBackends: Check = ({ site, error }) => {
  const forwarded = new Set(servicesOf(site).flatMap(([, { forward }]) => (forward ? [forward.pool] : [])));
  for (const pool of forwarded) {
    for (const [backend, { at }] of Object.entries(site.pools[pool]?.backends ?? {})) {
      if (unusable(at.address)?.includes("loopback") === true)
        error(
          ["pools", pool, "backends", backend],
          `${at.address} cannot be forwarded to`,
          "an address on a network, or a proxy service",
        );
    }
  }
};

/** A backend that is the service itself would forward to itself for ever. */
export const loops: Check = ({ site, error }) => {
  for (const [name, service] of servicesOf(site)) {
    for (const pool of new Set(poolReferences(name, service).map((reference) => reference.pool))) {
      for (const [backend, { at }] of Object.entries(site.pools[pool]?.backends ?? {})) {
        const own = service.listen.find(
          (listen) =>
            listen.address === at.address && listen.ports[0] <= at.port && at.port <= listen.ports[1],
        );
        if (own)
          error(
            ["pools", pool, "backends", backend],
            `backend ${backend} is service ${name} itself (${formatListen(own)})`,
          );
      }
    }
  }
};

const listensOn = ({ listen }: Service, port: number): boolean =>
  listen.some(({ ports: [low, high] }) => low <= port && port <= high);

/** An authority comes to the standard ports only; something before the nodes may send it to others. */
export const challengePorts: Check = ({ site, warning }) => {
  const overHttp = servicesOf(site).some(
    ([, service]) =>
      service.proxy !== undefined &&
      service.proxy.tcp === undefined &&
      service.proxy.tls === undefined &&
      listensOn(service, 80),
  );
  for (const [name, service] of servicesOf(site)) {
    const acme = service.proxy?.tls?.acme;
    if (acme === undefined) continue;
    const path = ["services", name, "proxy", "tls", "acme", "challenge"];
    if (acme.challenge === "tls-alpn-01" && !listensOn(service, 443))
      warning(
        path,
        `the authority comes to port 443 for tls-alpn-01, and ${name} does not listen there`,
        "listen on 443, challenge: http-01, or have port 443 sent here",
      );
    if (acme.challenge === "http-01" && !overHttp)
      warning(
        path,
        "the authority comes to port 80 for http-01, and no HTTP proxy service listens there",
        "a proxy service on port 80, such as one that redirects to https",
      );
  }
};

/** Nodes that do not share them order the same certificate each, and the Backup has none at its first takeover. */
export const sharedCertificates: Check = ({ site, warning, error }) => {
  if (site.certificates !== undefined) {
    const count = servicesOf(site).filter(([, { proxy }]) => proxy?.tls?.acme !== undefined).length;
    if (count > SHARED_CERTIFICATES)
      error(
        ["certificates"],
        `${count} services have certificates that are ordered, and nodes share ${SHARED_CERTIFICATES} at most`,
        "one certificate may have 100 names",
        "key",
      );
    return;
  }
  for (const [name, { on, proxy }] of servicesOf(site)) {
    const nodes = Object.keys(site.virtualRouters[on ?? ""]?.priorities ?? {});
    if (proxy?.tls?.acme === undefined || nodes.length < 2) continue;
    warning(
      ["services", name, "proxy", "tls", "acme"],
      `each of ${nodes.join(", ")} orders its own certificate, when it becomes Active and has none`,
      "`certificates: { keys: keys }` lets them share it",
      "key",
    );
  }
};
