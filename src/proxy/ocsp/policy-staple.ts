/** When an answer of a responder may be stapled, and when the next one is asked for. All in milliseconds. */

/** Clocks of responders may be ahead of ours by this. */
const AHEAD = 300_000;
const HOUR = 3_600_000;
const FIRST_WAIT = 60_000;
const LONGEST_WAIT = HOUR;

/** From when and until when an answer holds, in milliseconds since 1970. */
export interface Validity {
  readonly thisUpdate: number;
  readonly nextUpdate: number;
}

export const holds = ({ thisUpdate, nextUpdate }: Validity, wall: number): boolean =>
  thisUpdate <= wall + AHEAD && wall < nextUpdate;

/**
 * When a responder is asked, as wall time: at once where there is no answer, at half of an answer's life, and after a
 * failure in 1, 2, 4 ... minutes, at most once an hour. `chance` (0 to 1) spreads nodes over a tenth of the life.
 * `asked`: when it gave the answer that is kept; undefined where another process of this node has asked.
 */
export function askAt(
  kept: Validity | undefined,
  asked: number | undefined,
  trouble: { readonly failures: number; readonly at: number } | undefined,
  chance: number,
): number {
  const due = kept === undefined ? 0 : dueAgain(kept, asked, chance);
  if (trouble === undefined || trouble.failures === 0) return due;
  const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(20, trouble.failures - 1));
  return Math.max(due, trouble.at + wait);
}

/** Many responders give one answer for most of its life: whoever has an old one again must not ask at every look. */
function dueAgain({ thisUpdate, nextUpdate }: Validity, asked: number | undefined, chance: number): number {
  const half = thisUpdate + (nextUpdate - thisUpdate) * (0.5 + chance / 10);
  if (asked === undefined || asked < half) return half;
  const left = nextUpdate - asked;
  return asked + Math.max(FIRST_WAIT, Math.min(HOUR, left / 2), left / 4);
}
