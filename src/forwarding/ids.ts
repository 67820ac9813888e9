/**
 * Numbers for names: the kernel's maps hold numbers. A name keeps its number as long as it lives, so that a
 * change touches only what changed; they are this node's own and never leave it.
 */
export type Ids = ReadonlyMap<string, number>;

export interface Numbering {
  readonly ids: Ids;
  /** The number that was given last, whether its name lives or not. */
  readonly latest: number;
}

/** What is known of numbers that an earlier process gave. */
export const numbersOf = (ids: Ids): Numbering => ({ ids, latest: Math.max(0, ...ids.values()) });

/** Keeps what it can; new names get numbers that were longest free. Throws where there are too many. */
export function allocateIds(previous: Numbering, names: Iterable<string>, last: number): Numbering {
  const wanted = new Set(names);
  if (wanted.size > last) throw new RangeError(`${wanted.size} names, but only ${last} numbers`);
  const ids = new Map([...previous.ids].filter(([name, id]) => wanted.has(name) && id >= 1 && id <= last));
  const used = new Set(ids.values());
  // In turn: a number is not reused while something may still refer to it.
  let { latest } = previous;
  for (const name of wanted) {
    if (ids.has(name)) continue;
    do latest = (latest % last) + 1;
    while (used.has(latest));
    ids.set(name, latest);
    used.add(latest);
  }
  return { ids, latest };
}
