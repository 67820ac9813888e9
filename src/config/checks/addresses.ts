import { type IpAddress, ipBytes, ipFamily, isMulticast } from "../../base/addresses.ts";
import type { Site } from "../schema/site.ts";
import type { Path } from "../source/positions.ts";

type Router = Site["virtualRouters"][string];
type Member = Router["members"][number];

/** One virtual address of the site and where it stands. */
export interface VirtualAddress {
  readonly address: IpAddress;
  readonly router: string;
  readonly member: number;
  /** Interface by node, the member's or the address's own. */
  readonly interfaceOf: (node: string) => string | undefined;
  readonly advertise: boolean;
  readonly path: Path;
}

export const interfaceOf = (member: Pick<Member, "interface">, node: string): string | undefined =>
  typeof member.interface === "string" ? member.interface : member.interface[node];

export function memberAddresses(member: Member, router: string, index: number): VirtualAddress[] {
  return member.addresses.map((entry, at) => {
    const path = ["virtualRouters", router, "members", index, "addresses", at];
    const own = typeof entry === "string" ? undefined : entry.interface;
    return {
      address: typeof entry === "string" ? entry : entry.address,
      router,
      member: index,
      interfaceOf: (node) => own ?? interfaceOf(member, node),
      advertise: typeof entry === "string" ? true : entry.advertise,
      path,
    };
  });
}

export const routerAddresses = (router: Router, name: string): VirtualAddress[] =>
  router.members.flatMap((member, index) => memberAddresses(member, name, index));

export const allVirtualAddresses = (site: Site): VirtualAddress[] =>
  Object.entries(site.virtualRouters).flatMap(([name, router]) => routerAddresses(router, name));

/** Why an address can be nobody's own: undefined where it can. */
export function unusable(address: IpAddress): string | undefined {
  if (isMulticast(address)) return "a multicast address";
  const bytes = ipBytes(address);
  if (bytes.every((byte) => byte === 0)) return "the unspecified address";
  if (ipFamily(address) === 4) {
    if (bytes[0] === 127) return "a loopback address";
    if ((bytes[0] ?? 0) >= 240) return "a reserved or broadcast address";
    return undefined;
  }
  return bytes.every((byte, i) => byte === (i === 15 ? 1 : 0)) ? "the loopback address" : undefined;
}
