import { type IpAddress, ipBytes, ipFamily } from "../../base/addresses.ts";
import { allVirtualAddresses, unusable } from "./addresses.ts";
import type { Check } from "./context.ts";
import { formatListen } from "./services.ts";

export const nodeAddresses: Check = ({ site, error }) => {
  const owners = new Map<IpAddress, string>();
  for (const [name, node] of Object.entries(site.nodes)) {
    const path = ["nodes", name, "address"];
    const reason = unusable(node.address);
    if (reason !== undefined) error(path, `${node.address} is ${reason}`, "a node has an address of its own");
    const other = owners.get(node.address);
    if (other === undefined) owners.set(node.address, name);
    else error(path, `${node.address} is already the address of node ${other}`);
  }
};

/** A virtual address moves; a node's own must not. Only the address owner of RFC 9568 has both in one. */
export const nodeAddressesStay: Check = ({ site, error }) => {
  const owners = new Map(Object.entries(site.nodes).map(([name, node]) => [node.address, name]));
  for (const { address, router, path } of allVirtualAddresses(site)) {
    const node = owners.get(address);
    if (node !== undefined && site.virtualRouters[router]?.priorities[node] !== 255)
      error(path, `${address} is node ${node}'s own address`, "a virtual address belongs to no node");
  }
};

export const atLeastOneNode: Check = ({ declared, error }) => {
  if (declared.nodes.size === 0)
    error(["nodes"], "the site has no node", "nodes: { NAME: { address: ... } }");
};

export const idleNodes: Check = ({ site, warning }) => {
  const routers = Object.values(site.virtualRouters);
  if (routers.length === 0) return;
  const listening = Object.values(site.services).flatMap(({ proxy, listen }) =>
    proxy === undefined ? [] : listen.map(({ address }) => address),
  );
  for (const [name, { address }] of Object.entries(site.nodes)) {
    // One that proxies at its own address, behind others that forward to it, has its work.
    if (!routers.some((router) => name in router.priorities) && !listening.includes(address))
      warning(
        ["nodes", name],
        `node ${name} takes part in no virtual router`,
        "give it a priority there",
        "key",
      );
  }
};

/** Whether a socket at `listen` leaves no room for one at `own`. */
const takes = (listen: IpAddress, own: IpAddress): boolean =>
  listen === own || (isAny(listen) && ipFamily(listen) === ipFamily(own));
const isAny = (address: IpAddress): boolean => ipBytes(address).every((byte) => byte === 0);

/** Each node listens at its own address for all of these. */
export const nodePorts: Check = ({ site, error }) => {
  const seen = new Map<number, string>();
  for (const section of ["control", "flows", "certificates"] as const) {
    const port = site[section]?.port;
    if (port === undefined) continue;
    const other = seen.get(port);
    if (other === undefined) seen.set(port, section);
    else error([section, "port"], `${port} is already the port of ${other}`, "each needs one of its own");
  }
  for (const [name, { proxy, listen }] of Object.entries(site.services)) {
    for (const [index, one] of proxy === undefined ? [] : listen.entries()) {
      const node = Object.entries(site.nodes).find(([, { address }]) => takes(one.address, address))?.[0];
      if (node === undefined) continue;
      for (const [port, section] of seen)
        if (one.ports[0] <= port && port <= one.ports[1])
          error(
            ["services", name, "listen", index],
            `${formatListen(one)} is where ${node} listens for ${section} (port ${port})`,
            `another port here, or ${section}: { port: ... }`,
          );
    }
  }
};
