import { type Result, fail, ok } from "./result.ts";
import { type DurationMs, ms } from "./time.ts";

const durationUnits: Readonly<Record<string, number>> = {
  us: 0.001,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const sizeUnits: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/** `100ms`, `3s`, `1.5m`, `2h`, `1d`: a number and a unit, nothing else. */
export function parseDuration(text: string): Result<DurationMs> {
  const match = /^(\d+(?:\.\d+)?)(us|ms|s|m|h|d)$/.exec(text);
  const unit = durationUnits[match?.[2] ?? ""];
  if (!match || unit === undefined) return fail(`"${text}" is not a duration such as 100ms, 3s, 5m, 1h`);
  return ok(ms(Number(match[1]) * unit));
}

/** The shortest exact form, e.g. 1500 -> `1500ms`, 3000 -> `3s`. */
export function formatDuration(span: DurationMs): string {
  if (span === 0) return "0s";
  for (const unit of ["d", "h", "m", "s", "ms"]) {
    const count = span / (durationUnits[unit] ?? 1);
    if (Number.isInteger(count)) return `${count}${unit}`;
  }
  return `${span}ms`;
}

/** `512B`, `16KiB`, `1MiB`, in bytes. */
export function parseSize(text: string): Result<number> {
  const match = /^(\d+)(B|KiB|MiB|GiB)$/.exec(text);
  const unit = sizeUnits[match?.[2] ?? ""];
  if (!match || unit === undefined) return fail(`"${text}" is not a size such as 512B, 16KiB, 1MiB`);
  return ok(Number(match[1]) * unit);
}
