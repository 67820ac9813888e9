/** Times that the configuration determines. Milliseconds, like the site file. */
import type { Pool, VirtualRouter } from "../../contracts/site.ts";

export interface RouterTimes {
  /** Silence after which the best Backup takes over: 3 intervals and its skew (RFC 9568, 6.1). */
  readonly activeDown: number;
  /** On average the failure comes half an interval after the last advertisement. */
  readonly detect: number;
  readonly skew: number;
  readonly words: string;
}

export function routerTimes(router: VirtualRouter): RouterTimes {
  const priorities = Object.values(router.priorities).sort((a, b) => b - a);
  const backup = priorities[1] ?? priorities[0] ?? 100;
  // Version 2 knows whole seconds, and its skew is a share of one second (RFC 3768, 6.1).
  const skew = ((256 - backup) / 256) * (router.version === 2 ? 1000 : router.interval);
  const activeDown = 3 * router.interval + skew;
  const round = (ms: number): string => `${Math.round(ms)} ms`;
  return {
    activeDown,
    skew,
    detect: activeDown - router.interval / 2,
    words: `3 x ${round(router.interval)} + skew ${round(skew)}, less half an interval on average`,
  };
}

export interface CheckTimes {
  /** Until a silent backend gets no new connections: the mean over when in the interval it dies. */
  readonly detect: number;
  readonly words: string;
  /** The same where it refuses, so that no check waits for its timeout. */
  readonly refused: number;
  readonly refusedWords: string;
  /** Half of what the moment within the interval adds or takes. */
  readonly phase: number;
}

export function checkTimes(pool: Pool): CheckTimes | undefined {
  const { check } = pool;
  if (check === undefined) return undefined;
  const refused = (check.fall - 0.5) * check.interval;
  return {
    detect: refused + check.timeout,
    refused,
    refusedWords: `${check.fall} checks every ${check.interval} ms, less half an interval on average`,
    phase: (check.interval * (1 + check.jitter)) / 2,
    words: `${check.fall} checks every ${check.interval} ms, the last timing out after ${check.timeout} ms`,
  };
}
