import { networkInterfaces } from "node:os";
import { type IpPrefix, ipBytes, ipFamily, ipFromBytes, parseIp } from "../base/addresses.ts";

/** The networks that this host is on: its addresses' prefixes, without loopback, /32, /128 and link-local. */
export function localPrefixes(): IpPrefix[] {
  const found = new Map<string, IpPrefix>();
  for (const { cidr, internal } of Object.values(networkInterfaces()).flatMap((list) => list ?? [])) {
    const [text = "", bits = ""] = (cidr ?? "").split("/");
    const parsed = parseIp(text);
    if (internal || !parsed.ok || text.startsWith("fe80")) continue;
    const length = Number(bits);
    if (length >= (ipFamily(parsed.value) === 4 ? 32 : 128)) continue;
    const bytes = ipBytes(parsed.value);
    for (let bit = length; bit < bytes.length * 8; bit++) {
      const at = bit >> 3;
      bytes[at] = (bytes[at] ?? 0) & ~(0x80 >> (bit & 7));
    }
    const address = ipFromBytes(bytes);
    found.set(`${address}/${length}`, { address, length });
  }
  return [...found.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
}
