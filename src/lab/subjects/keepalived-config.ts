/** keepalived.conf and the nftables rules that do for keepalived what nines does by itself. Pure. */
import { type Family, type IpAddress, ipFamily } from "../../base/addresses.ts";
import type { Site } from "../../contracts/site.ts";
import type { LabHost } from "../topology.ts";

type Router = Site["virtualRouters"][string];

const seconds = (interval: number): string => String(interval / 1000);

function ownAddress(host: LabHost, iface: string, family: Family): IpAddress | undefined {
  return host.interfaces
    .find(({ name }) => name === iface)
    ?.addresses.find(({ address }) => ipFamily(address) === family)?.address;
}

interface Instance {
  readonly name: string;
  readonly text: string;
}

/** What stands beside keepalived. */
interface Beside {
  /** A script that is called on every change of state. */
  readonly notify?: string | undefined;
  /** A file that holds 0 while the node can serve. */
  readonly tracked?: string | undefined;
}

function instances(
  router: string,
  virtual: Router,
  host: LabHost,
  hosts: readonly LabHost[],
  { tracked }: Beside,
): Instance[] {
  const families: Family[] = [4, 6];
  return virtual.members.flatMap((member, index) =>
    families.flatMap((family) => {
      const addresses = member.addresses
        .map((one) => (typeof one === "string" ? one : one.address))
        .filter((one) => ipFamily(one) === family);
      const iface = typeof member.interface === "string" ? member.interface : member.interface[host.name];
      if (addresses.length === 0 || iface === undefined) return [];
      const width = family === 4 ? 32 : 128;
      const peers = hosts.flatMap((other) => {
        const address = other.name === host.name ? undefined : ownAddress(other, iface, family);
        return address === undefined || other.kind !== "node" ? [] : [address];
      });
      const unicast =
        virtual.transport === "unicast"
          ? `  unicast_src_ip ${ownAddress(host, iface, family)}\n  unicast_peer {\n    ${peers.join("\n    ")}\n  }\n`
          : "";
      const name = `${router}-${index}-v${family}`;
      const text = `vrrp_instance ${name} {
  state BACKUP
  interface ${iface}
  version ${virtual.version}
  virtual_router_id ${member.vrid}
  priority ${virtual.priorities[host.name]}
  advert_int ${seconds(virtual.interval)}
${virtual.preempt === false ? "  nopreempt\n" : ""}${tracked === undefined ? "" : "  track_file {\n    served weight 0\n  }\n"}${unicast}  virtual_ipaddress {
    ${addresses.map((one) => `${one}/${width} dev ${iface}`).join("\n    ")}
  }
}
`;
      return [{ name, text }];
    }),
  );
}

export function keepalivedConfig(
  site: Site,
  host: LabHost,
  hosts: readonly LabHost[],
  beside: Beside = {},
): string {
  const { notify, tracked } = beside;
  const called =
    notify === undefined
      ? ""
      : `  notify_master "${notify} primary"\n  notify_backup "${notify} backup"\n  notify_fault "${notify} fault"\n`;
  const groups = Object.entries(site.virtualRouters)
    .filter(([, virtual]) => virtual.priorities[host.name] !== undefined)
    .map(([router, virtual]) => {
      const made = instances(router, virtual, host, hosts, beside);
      const names = made.map(({ name }) => `    ${name}`).join("\n");
      const grouped = made.length > 1 || notify !== undefined;
      const group = grouped ? `vrrp_sync_group ${router} {\n  group {\n${names}\n  }\n${called}}\n` : "";
      return group + made.map(({ text }) => text).join("");
    });
  const file = tracked === undefined ? "" : `track_file served {\n  file "${tracked}"\n  weight 0\n}\n`;
  return `global_defs {\n  router_id ${host.name}\n${notify === undefined ? "" : "  script_user root\n"}}\n${file}${groups.join("")}`;
}

/** The same static choice on every node, as keepalived's users without IPVS write it by hand. */
export function dnatRules(site: Site): string {
  const behind: string[] = [];
  const rules = Object.values(site.services).flatMap((service) => {
    if (!("forward" in service) || service.forward === undefined) return [];
    const pool = site.pools[service.forward.pool];
    return service.listen.flatMap(({ address, ports, protocol }) => {
      const family = ipFamily(address);
      const backends = Object.values(pool?.backends ?? {}).filter(
        ({ at }) => ipFamily(at.address) === family,
      );
      if (backends.length === 0) return [];
      const ip = family === 4 ? "ip" : "ip6";
      const map = backends.map(({ at }, slot) => `${slot} : ${at.address} . ${at.port}`).join(", ");
      const { masquerade } = service.forward;
      if (masquerade !== false && ipFamily(masquerade) === family)
        for (const { at } of backends)
          behind.push(
            `    ${ip} daddr ${at.address} ${protocol} dport ${at.port} ct status dnat snat ${ip} to ${masquerade}`,
          );
      const range = ports[0] === ports[1] ? String(ports[0]) : `${ports[0]}-${ports[1]}`;
      return [
        `    ${ip} daddr ${address} ${protocol} dport ${range} dnat ${ip} to jhash ${ip} saddr . ${protocol} sport mod ${backends.length} seed 0x9 map { ${map} }`,
      ];
    });
  });
  return `table inet peer {
  chain prerouting {
    type nat hook prerouting priority dstnat
${rules.join("\n")}
  }
${
  behind.length === 0
    ? ""
    : `  chain postrouting {
    type nat hook postrouting priority srcnat
${behind.join("\n")}
  }
`
}}
`;
}
