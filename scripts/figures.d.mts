import type { Ratio, Row } from "../bench/support/results.ts";

/** A file of bench/results. */
export interface Results {
  readonly bench: string;
  readonly date: string;
  readonly machine: string;
  readonly rows: readonly Row[];
  readonly ratios?: readonly Ratio[];
  readonly variant?: string;
  readonly connections?: number;
  readonly perRepeat?: readonly {
    readonly case: string;
    readonly subject: string;
    readonly notMeasured: number;
  }[];
}
/** A table of one metric and its caption, in Markdown. */
export function tableOf(results: Results, metric: string, subjects?: readonly string[]): string;
/** In words where each of two subjects is ahead; a metric ends with + where more is better, else with -. */
export function besideOf(
  results: Results,
  subjects: readonly [string, string],
  metrics: readonly string[],
): string;
/** A sentence on the established connections that a subject lost. */
export function lostOf(results: Results, subject: string): string;
/** The text with every block of figures made anew from bench/results. */
export function withFigures(text: string): Promise<string>;
/** The documents that may hold figures. */
export function documents(): URL[];
