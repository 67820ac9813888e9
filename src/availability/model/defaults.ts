/**
 * How often things break, where the site file does not say. Data with its source: a published figure and what
 * was made of it, or an assumption that says it is one. Hours.
 */
import type { RATED_KINDS } from "../../config/schema/availability.ts";

export type RatedKind = (typeof RATED_KINDS)[number];

export interface DefaultRate {
  readonly mtbf: number;
  readonly mttr: number;
  readonly source: string;
}

const dean =
  "J. Dean, Google I/O 2008 (reported by Data Center Knowledge, 2008-05-30): first year of a cluster of 1,800 servers";
const gill = "P. Gill and others, Understanding Network Failures in Data Centers, SIGCOMM 2011";

export const DEFAULT_RATES: Readonly<Record<RatedKind, DefaultRate>> = {
  hardware: {
    mtbf: 109_500,
    mttr: 8,
    source:
      "8 % of servers need a hardware repair in a year (K. Vishwanath and N. Nagappan, SoCC 2010); repair in 8 h is an assumption",
  },
  system: {
    mtbf: 15_768,
    mttr: 0.25,
    source: `${dean}, 1,000 machine failures, most of them ended by a restart; 15 min is an assumption`,
  },
  application: { mtbf: 2190, mttr: 0.1, source: "assumption: four crashes a year, restarted within 6 min" },
  zone: { mtbf: 19_710, mttr: 3, source: `${dean}, 20 of 45 racks vanish for 1 to 6 h` },
  power: { mtbf: 21_024, mttr: 6, source: `${dean}, one power unit of about 2.4 fails for 6 h` },
  network: {
    mtbf: 175_200,
    mttr: 4,
    source: `${gill}: 5 % of top-of-rack switches fail in a year; 4 h is an assumption`,
  },
};

export const DEFAULT_COVERAGE = {
  value: 0.95,
  source: "assumption: 1 takeover in 20 does not work until somebody has tried it; run drills",
};
export const DEFAULT_BETA = {
  value: 0.05,
  source: "assumption: common causes are 1 to 10 % of failures, less where the members differ",
};
/** Error factors of the uncertainty: the 95 % point is this many times the median. */
export const ERROR_FACTORS = { default: 3, configured: 1.5 } as const;
