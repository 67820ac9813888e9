/**
 * Numbers for names: the kernel's maps hold numbers. A name keeps its number as long as it lives, so that a
 * change touches only what changed; they are this node's own and never leave it.
 */
export type Ids = ReadonlyMap<string, number>;

/** Keeps what it can; new names get numbers that were longest free. Throws where there are too many. */
export function allocateIds(previous: Ids, names: Iterable<string>, last: number): Ids {
  const wanted = new Set(names);
  if (wanted.size > last) throw new RangeError(`${wanted.size} names, but only ${last} numbers`);
  const kept = new Map([...previous].filter(([name, id]) => wanted.has(name) && id >= 1 && id <= last));
  const used = new Set(kept.values());
  // Past the highest ever seen first: a number is not reused while something may still refer to it.
  let next = Math.max(0, ...previous.values());
  for (const name of wanted) {
    if (kept.has(name)) continue;
    do next = (next % last) + 1;
    while (used.has(next));
    kept.set(name, next);
    used.add(next);
  }
  return kept;
}
