/** Kernel settings without which packets are not forwarded, or connections not kept. */
import { listSysctls, readSysctl, writeSysctl } from "../linux/sysctl.ts";

/**
 * Sets what is needed and answers what it changed, as `name = value`. Throws where it may not.
 * - ip_forward and its IPv6 sibling, only for the families that the site forwards.
 * - A router ignores router advertisements unless accept_ra is 2: interfaces that listened to them go on.
 * - be_liberal: after a takeover the kernel has not seen a connection's window and must not doubt its packets.
 */
export function ensureSettings(families: ReadonlySet<4 | 6>): string[] {
  const changed: string[] = [];
  const set = (name: string, value: string): void => {
    if (writeSysctl(name, value) !== value) changed.push(`${name} = ${value}`);
  };
  if (families.has(4)) set("net/ipv4/ip_forward", "1");
  if (families.has(6) && readSysctl("net/ipv6/conf/all/forwarding") !== "1") {
    for (const one of listSysctls("net/ipv6/conf")) {
      const name = `net/ipv6/conf/${one}/accept_ra`;
      if (readSysctl(name) === "1") set(name, "2");
    }
    set("net/ipv6/conf/all/forwarding", "1");
  }
  const liberal = "net/netfilter/nf_conntrack_tcp_be_liberal";
  // Absent until the first table with connection tracking is loaded.
  if (families.size > 0 && readSysctl(liberal) !== undefined) set(liberal, "1");
  return changed;
}
