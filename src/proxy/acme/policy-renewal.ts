/** When a certificate is ordered. All instants are wall-clock milliseconds: they come from certificates and disks. */

/** What is known of a certificate that is kept. */
export interface Kept {
  readonly notBefore: number;
  readonly notAfter: number;
  readonly names: readonly string[];
}

/** Orders that failed in a row, and when the last of them did. Kept on disk: a restart forgives nothing. */
export interface Trouble {
  readonly failures: number;
  readonly at: number;
  readonly reason: string;
}

/** Renewed when two thirds of its life have passed, as authorities ask for; some of it earlier, by chance. */
const RENEW_AFTER = 2 / 3;
/** Share of a life by which nodes and certificates are spread, so that they do not all come at once. */
const SPREAD = 0.05;
/** Two minutes, then twice as long each time: five failures in the first hour, which is what authorities allow. */
const WAIT_FIRST = 120_000;
const WAIT_MOST = 6 * 3_600_000;

const covers = (kept: Kept, names: readonly string[]): boolean =>
  names.every((name) => kept.names.includes(name));

/** The instant from which on a certificate for these names is to be ordered; 0: at once. `chance` in [0, 1). */
export function dueAt(
  names: readonly string[],
  kept: Kept | undefined,
  trouble: Trouble | undefined,
  chance: number,
): number {
  const due =
    kept === undefined || !covers(kept, names)
      ? 0
      : kept.notBefore + (kept.notAfter - kept.notBefore) * (RENEW_AFTER - SPREAD * chance);
  if (trouble === undefined || trouble.failures === 0) return due;
  const wait = Math.min(WAIT_MOST, WAIT_FIRST * 2 ** Math.min(20, trouble.failures - 1));
  return Math.max(due, trouble.at + wait * (0.75 + 0.5 * chance));
}
