/** When a certificate is ordered. All instants are wall-clock milliseconds: they come from certificates and disks. */

/** Where and when a certificate was ordered. */
export interface Origin {
  /** The ACME directory's URL. */
  readonly directory: string;
  readonly ordered: number;
}

/** What is known of a certificate that is kept. */
export interface Kept {
  readonly notBefore: number;
  readonly notAfter: number;
  readonly names: readonly string[];
  /** Undefined where somebody put it there, or an older version ordered it. */
  readonly directory: string | undefined;
  /** `notBefore` where it is not known. */
  readonly ordered: number;
}

/** What the site asks for, and the node that asks. */
export interface Wanted {
  readonly names: readonly string[];
  readonly directory: string;
  readonly node: string;
}

/** Orders that failed in a row, at whatever node, and the last of them. Kept on disk: a restart forgives nothing. */
export interface Trouble {
  readonly failures: number;
  readonly at: number;
  readonly reason: string;
  /** The settings that it happened with, as `settingsKey` says; other settings begin anew. */
  readonly of?: string | undefined;
  /** Where it happened; undefined: here. */
  readonly node?: string | undefined;
}

/** Renewed when two thirds of its life have passed, as authorities ask for; some of it earlier, by chance. */
const RENEW_AFTER = 2 / 3;
/** Share of a life by which nodes and certificates are spread, so that they do not all come at once. */
const SPREAD = 0.05;
/** Two minutes, then twice as long each time, or longer: five failures in any hour, which is what authorities allow. */
const WAIT_FIRST = 120_000;
const WAIT_MOST = 6 * 3_600_000;

const covers = (kept: Kept, names: readonly string[]): boolean =>
  names.every((name) => kept.names.includes(name));

/** Whether it is known to come from another authority than the one that is asked for. */
export const ofAnother = (kept: Kept, { directory }: Pick<Wanted, "directory">): boolean =>
  kept.directory !== undefined && kept.directory !== directory;

/** The instant from which on a certificate is to be ordered; 0: at once. `chance` in [0, 1). */
export function dueAt(
  wanted: Wanted,
  kept: Kept | undefined,
  trouble: Trouble | undefined,
  chance: number,
): number {
  const due =
    kept === undefined || !covers(kept, wanted.names) || ofAnother(kept, wanted)
      ? 0
      : kept.notBefore + (kept.notAfter - kept.notBefore) * (RENEW_AFTER - SPREAD * chance);
  if (trouble === undefined || trouble.failures === 0) return due;
  const wait = Math.min(WAIT_MOST, WAIT_FIRST * 2 ** Math.min(20, trouble.failures - 1));
  // Whoever failed last lets the others try first: it may be the one that the authority does not find.
  const own = trouble.node === undefined || trouble.node === wanted.node;
  return Math.max(due, trouble.at + wait * (1 + (own ? 0.25 : 0) + 0.25 * chance));
}
