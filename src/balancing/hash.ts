/** Hashes of names: the same on every node and in every version. Changing one moves every connection. */

/** FNV-1a over UTF-16 code units, mixed with a seed by murmur3's finaliser: 32 bits, unsigned. */
export function hashName(name: string, seed: number): number {
  let h = (0x811c9dc5 ^ seed) >>> 0;
  for (let i = 0; i < name.length; i++) {
    const unit = name.charCodeAt(i);
    h = Math.imul(h ^ (unit & 0xff), 0x01000193);
    h = Math.imul(h ^ (unit >>> 8), 0x01000193);
  }
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Something that takes a share. Weights may be fractions; 0 or less takes nothing. */
export interface Weighted {
  readonly name: string;
  readonly weight: number;
}

/** Those that take a share, in an order that depends on nothing but their names. */
export const eligible = (backends: readonly Weighted[]): Weighted[] =>
  backends.filter((one) => one.weight > 0).sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
