/** conntrackd.conf and the notify script that a pair of keepalived's users has beside it. Pure. */
import type { IpAddress } from "../../base/addresses.ts";
import { ipFamily } from "../../base/addresses.ts";
import type { Site } from "../../contracts/site.ts";
import type { LabHost } from "../topology.ts";

/** The link of the nodes' own addresses stands for the dedicated one. */
function channel(
  site: Site,
  node: string,
  hosts: readonly LabHost[],
): { readonly device: string; readonly own: IpAddress; readonly other: IpAddress } {
  const own = site.nodes[node]?.address ?? ("" as IpAddress);
  const other = Object.entries(site.nodes).find(([name]) => name !== node)?.[1].address ?? own;
  const device =
    hosts
      .find(({ name }) => name === node)
      ?.interfaces.find(({ addresses }) => addresses.some(({ address }) => address === own))?.name ?? "eth0";
  return { device, own, other };
}

export function conntrackdConfig(
  site: Site,
  node: string,
  hosts: readonly LabHost[],
  directory: string,
): string {
  const { device, own, other } = channel(site, node, hosts);
  const host = hosts.find(({ name }) => name === node);
  const ignored = (host?.interfaces ?? [])
    .flatMap(({ addresses }) => addresses)
    .map(({ address }) => `      IPv${ipFamily(address)}_address ${address}\n`)
    .join("");
  return `Sync {
  Mode FTFW {
    ResendQueueSize 131072
    ACKWindowSize 300
  }
  UDP {
    IPv${ipFamily(own)}_address ${own}
    IPv${ipFamily(other)}_Destination_Address ${other}
    Port 3780
    Interface ${device}
    SndSocketBuffer 1249280
    RcvSocketBuffer 1249280
    Checksum on
  }
}
General {
  HashSize 32768
  HashLimit 131072
  LogFile ${directory}/log
  LockFile ${directory}/lock
  UNIX {
    Path ${directory}/ctl
  }
  NetlinkBufferSize 2097152
  NetlinkBufferSizeMaxGrowth 8388608
  Filter From Userspace {
    Protocol Accept {
      TCP
      UDP
    }
    Address Ignore {
      IPv4_address 127.0.0.1
${ignored}    }
  }
}
`;
}

/** The steps of conntrackd's own primary-backup script. */
export function notifyScript(program: string, config: string): string {
  const steps = (options: string): string =>
    options
      .split("")
      .map((option) => `    ${program} -C ${config} -${option}`)
      .join("\n");
  return `#!/bin/sh
case "$1" in
  primary)
${steps("cfRB")}
    ;;
  backup)
${steps("tn")}
    ;;
  fault)
${steps("t")}
    ;;
esac
exit 0
`;
}
