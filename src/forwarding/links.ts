import { networkInterfaces } from "node:os";
import { ipBytes, ipFamily, ipFromBytes, parseIp } from "../base/addresses.ts";
import type { LocalPrefix } from "../contracts/forwarding.ts";

/** The networks that this host is on: its addresses' prefixes, without loopback, /32, /128 and link-local. */
export function localPrefixes(): LocalPrefix[] {
  const found = new Map<string, LocalPrefix>();
  const all = Object.entries(networkInterfaces()).flatMap(([device, list]) =>
    (list ?? []).map(({ cidr, internal }) => ({ device, cidr, internal })),
  );
  for (const { device, cidr, internal } of all) {
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
    const key = `${address}/${length}`;
    if (!found.has(key)) found.set(key, { address, length, device });
  }
  return [...found.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
}
