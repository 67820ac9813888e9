/** Availabilities and times as people say them. The year has 365 days, the month 30. */

/** Milliseconds, as the site file counts. */
export const HOUR = 3_600_000;
export const YEAR_HOURS = 8760;
export const MONTH_HOURS = 720;

/** Hours to `3.65 d`, `8.76 h`, `52.56 min`, `31.54 s`, `315 ms`: two decimals at most. */
export function sayHours(hours: number): string {
  const seconds = hours * 3600;
  const units: [number, string][] = [
    [86_400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  for (const [size, unit] of units) {
    const value = seconds / size;
    // 59.999 s is a minute.
    if (Number(value.toFixed(2)) >= 1) return `${trim(value)} ${unit}`;
  }
  if (seconds === 0) return "0 s";
  return seconds < 1e-4 ? "< 0.1 ms" : `${trim(seconds * 1000)} ms`;
}
const trim = (value: number): string => String(Number(value.toFixed(2)));

export const sayMilliseconds = (ms: number): string =>
  ms < 1000
    ? `${Math.round(ms)} ms`
    : ms < 120_000
      ? `${(ms / 1000).toFixed(2)} s`
      : `${(ms / 60_000).toFixed(1)} min`;
/** From milliseconds. */
export const sayDays = (ms: number): string => `${Number((ms / HOUR / 24).toPrecision(3))} d`;
export const sayPercent = (share: number): string => `${(share * 100).toFixed(1)} %`;
/** How often a thing fails and how long it is then down, from hours. */
export const sayRates = (mtbf: number, mttr: number): string =>
  `every ${Number((mtbf / 24).toPrecision(3))} d, for ${mttr < 1 ? `${Number((mttr * 60).toPrecision(3))} min` : `${Number(mttr.toPrecision(3))} h`}`;

/** A share of time up, from the share down, with two digits of what is missing: `99.9909 %`. */
export function sayAvailability(unavailability: number): string {
  if (unavailability <= 0) return "100 %";
  if (unavailability >= 1) return "0 %";
  if (unavailability < 1e-15) return "> 99.9999999999999 %";
  const decimals = Math.max(1, 1 - Math.floor(Math.log10(unavailability * 100) + 1e-9));
  // The missing share is subtracted as digits: 1 - 1e-14 as a double is no longer exact.
  const missing = (unavailability * 100).toFixed(decimals);
  const scale = 10n ** BigInt(decimals);
  const units = 100n * scale - BigInt(missing.replace(".", ""));
  const text = units.toString().padStart(decimals + 1, "0");
  return `${`${text.slice(0, -decimals)}.${text.slice(-decimals)}`.replace(/\.?0+$/, "")} %`;
}

/** `3.9`: how many nines, as a number. */
export const ninesOf = (unavailability: number): number =>
  unavailability <= 0 ? 99 : -Math.log10(unavailability);

export interface NinesRow {
  readonly percent: string;
  /** Seconds. */
  readonly year: number;
  readonly month: number;
  readonly week: number;
  readonly day: number;
}

/** Down at most this long. `percent` as text keeps its digits. */
export function ninesRow(percent: string): NinesRow {
  const missing = missingShare(percent);
  return {
    percent,
    year: missing * 365 * 86_400,
    month: missing * 30 * 86_400,
    week: missing * 7 * 86_400,
    day: missing * 86_400,
  };
}

/** 1 - percent/100 by digits: 99.99 leaves exactly 1e-4, not 1.0000000000000286e-4. */
function missingShare(percent: string): number {
  const [whole = "0", decimals = ""] = percent.split(".");
  const scale = 10n ** BigInt(decimals.length);
  const missing = 100n * scale - BigInt(whole + decimals);
  return Number(missing) / (Number(scale) * 100);
}

export const NINES_TABLE = [
  "90",
  "95",
  "99",
  "99.5",
  "99.9",
  "99.95",
  "99.99",
  "99.995",
  "99.999",
  "99.9999",
] as const;
