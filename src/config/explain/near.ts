/** Damerau-Levenshtein distance (neighbours swapped count once), without regard to case. */
export function editDistance(a: string, b: string): number {
  const from = a.toLowerCase();
  const to = b.toLowerCase();
  let before: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, j) => j);
  for (let i = 1; i <= from.length; i++) {
    const row = [i];
    for (let j = 1; j <= to.length; j++) {
      const cost = from[i - 1] === to[j - 1] ? 0 : 1;
      let best = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + cost);
      const swapped = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1];
      if (swapped) best = Math.min(best, (before[j - 2] ?? 0) + 1);
      row.push(best);
    }
    before = last;
    last = row;
  }
  return last[to.length] ?? 0;
}

/** The known name that was probably meant: about a third of its letters may differ. */
export function nearest(found: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  if (found.length > 64) return undefined;
  for (const candidate of known) {
    if (candidate.length > 64) continue;
    const distance = editDistance(found, candidate);
    const allowed = Math.max(1, Math.floor(Math.max(found.length, candidate.length) / 3));
    if (distance <= allowed && distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** `did you mean "apps"?`, or what there is to choose from. */
export function suggest(found: string, known: Iterable<string>, what = "known"): string | undefined {
  const names = [...known];
  const near = nearest(found, names);
  if (near !== undefined) return `did you mean "${near}"?`;
  if (names.length === 0) return `there are no ${what}`;
  const shown = names.slice(0, 12).join(", ");
  return `${what}: ${shown}${names.length > 12 ? `, and ${names.length - 12} more` : ""}`;
}
