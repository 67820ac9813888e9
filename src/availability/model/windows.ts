/**
 * How single windows turn out: outages come as they come, and one long one spoils a month that the average
 * year forgives. Seeded trials over the events that matter.
 */
import { type Random, seededRandom } from "../../base/random.ts";

/** Something that begins `rate` times an hour and takes the service away for `duration` hours on average. */
export interface OutageSource {
  readonly rate: number;
  readonly duration: number;
  /** Whether it lasts about as long each time (a takeover) instead of now and then very long (a repair). */
  readonly constant: boolean;
}

export interface Credit {
  readonly below: number;
  readonly credit: number;
}

export interface WindowOutlook {
  /** Share of windows below the target. */
  readonly missed: number;
  /** Mean credit of a window, per cent of its bill. */
  readonly meanCredit: number;
  /** Unavailability that 95 % of windows stay within. */
  readonly bad: number;
}

const TRIALS = 20_000;

export function simulateWindows(
  sources: readonly OutageSource[],
  hours: number,
  slo: number,
  credits: readonly Credit[],
  seed = 1,
): WindowOutlook {
  const random = seededRandom(seed);
  const rate = sources.reduce((sum, source) => sum + source.rate, 0);
  const downs = new Float64Array(TRIALS);
  let missed = 0;
  let credit = 0;
  for (let i = 0; i < TRIALS; i++) {
    let down = 0;
    for (let n = poisson(random, rate * hours); n > 0; n--) {
      let pick = random.next() * rate;
      const source = sources.find((one) => (pick -= one.rate) <= 0) ?? sources[0];
      if (source) down += source.constant ? source.duration : -source.duration * Math.log(1 - random.next());
    }
    const percent = 100 * (1 - Math.min(1, down / hours));
    downs[i] = Math.min(1, down / hours);
    if (percent < slo) missed++;
    credit += creditFor(percent, credits);
  }
  downs.sort();
  return { missed: missed / TRIALS, meanCredit: credit / TRIALS, bad: downs[Math.floor(TRIALS * 0.95)] ?? 0 };
}

/** The largest credit among the tiers that were missed, in per cent of the bill. */
export const creditFor = (percent: number, credits: readonly Credit[]): number =>
  credits.reduce((most, tier) => (percent < tier.below ? Math.max(most, tier.credit) : most), 0);

function poisson(random: Random, mean: number): number {
  // Large means come in pieces: e^-mean would vanish.
  let count = 0;
  for (let left = mean; left > 0; left -= 500) {
    const limit = Math.exp(-Math.min(left, 500));
    let product = random.next();
    while (product > limit) {
      count++;
      product *= random.next();
    }
  }
  return count;
}
