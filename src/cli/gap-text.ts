import type { GapComparison } from "../availability/model/gaps.ts";
import { sayMilliseconds } from "../availability/model/words.ts";
import { type Paint, columns } from "./paint.ts";

/** What the configuration predicts beside what was drilled, and why; nothing where nothing was drilled. */
export function gapRows(gaps: readonly GapComparison[], paint: Paint): string[] {
  if (gaps.length === 0) return [];
  const dim = (text: string): string => paint("dim", text);
  const severalRouters = new Set(gaps.map(({ router }) => router)).size > 1;
  return columns(
    [
      ["drill", "predicted", "drilled", "runs", "", "because"].map(dim),
      ...gaps.map((gap) => [
        severalRouters ? `${gap.drill} (${gap.router})` : gap.drill,
        gap.predicted === null ? "as long as the fault" : sayMilliseconds(gap.predicted),
        sayMilliseconds(gap.measured),
        String(gap.runs),
        gap.agrees
          ? paint("green", "agrees")
          : paint("red", "differs: a busy machine, or the site is not what you think"),
        dim(gap.why),
      ]),
    ],
    [0, 4, 5],
  );
}
