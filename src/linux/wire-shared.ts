/**
 * Values that many flows have in common, made once: a service's and a backend's address are those of all its flows, a
 * client's those of several. A small byte array takes a quarter of a kilobyte; four of its own for each of tens of
 * thousands of flows a second kept the collector busier than everything else (`npm run bench:flows`).
 */

/** Must be a power of two. What falls on the same place takes it: a cache, of bounded size, and nothing more. */
const PLACES = 4096;
const addresses: (Uint8Array | undefined)[] = Array.from({ length: PLACES });

function sameAt(known: Uint8Array, bytes: Uint8Array, at: number, width: number): boolean {
  if (known.length !== width) return false;
  for (let i = 0; i < width; i++) if (known[i] !== bytes[at + i]) return false;
  return true;
}

/** `width` bytes from `at` on, as an array that others may hold as well: it must not be changed. Beyond the end, 0. */
export function addressAt(bytes: Uint8Array, at: number, width: number): Uint8Array {
  let hash = width;
  for (let i = 0; i < width; i++) hash = Math.imul(hash ^ (bytes[at + i] ?? 0), 0x01000193);
  const place = (hash ^ (hash >>> 15)) & (PLACES - 1);
  const known = addresses[place];
  if (known !== undefined && sameAt(known, bytes, at, width)) return known;
  const made = new Uint8Array(width);
  for (let i = 0; i < width; i++) made[i] = bytes[at + i] ?? 0;
  addresses[place] = made;
  return made;
}

type Scales = readonly [original: number, reply: number];
/** RFC 7323 section 2.3: a scale is at most 14. */
const scales: readonly Scales[] = Array.from({ length: 256 }, (_, i) => [i >> 4, i & 15] as const);

/** The pair; undefined where either is negative. */
export function windowScales(original: number, reply: number): Scales | undefined {
  if (original < 0 || reply < 0) return undefined;
  return (original < 16 && reply < 16 ? scales[original * 16 + reply] : undefined) ?? [original, reply];
}
