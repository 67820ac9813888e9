import { describe, expect, it } from "vitest";
import { type Results, besideOf, lostOf, tableOf } from "../../scripts/figures.mjs";

const row = (name: string, subject: string, metric: string, median: number, runs = 3, date?: string) => ({
  case: name,
  subject,
  metric,
  unit: "ms",
  median,
  min: median,
  max: median,
  runs,
  ...(date === undefined ? {} : { date }),
});
const results = (rows: Results["rows"], more: Partial<Results> = {}): Results => ({
  bench: "flows",
  date: "2026-11-28T10:00:00Z",
  machine: "a machine",
  rows,
  ...more,
});
/** conntrackd held all that the load gave; the load fell short beside it at 80,000. */
const flows = results([
  row("new flows", "nines", "sustained", 79_000),
  row("new flows", "nines", "beyond the load", 0),
  row("new flows", "conntrackd", "sustained", 55_000),
  row("new flows", "conntrackd", "beyond the load", 1),
  row("2000 new flows/s", "nines", "load", 1999),
  row("2000 new flows/s", "conntrackd", "load", 1998),
  row("2000 new flows/s", "nines", "lag", 9),
  row("2000 new flows/s", "conntrackd", "lag", 1),
  row("80000 new flows/s", "nines", "load", 79_000),
  row("80000 new flows/s", "conntrackd", "load", 53_000),
  row("80000 new flows/s", "nines", "lag", 2),
  row("80000 new flows/s", "conntrackd", "lag", 3),
]);

describe("figures in documents", () => {
  it("say of a figure that the load bounded that it is a least", () => {
    expect(tableOf(flows, "sustained")).toContain(
      "| new flows | 79000 (79000–79000) | at least 55000 (55000–55000), the load's limit |",
    );
    expect(tableOf(flows, "lag")).toContain("| 80000 new flows/s | 2 (2–2) | 3 (3–3) at 53000/s |");
  });
  it("say where runs are missing, and which rows are of another day", () => {
    const text = tableOf(
      results([
        row("a", "nines", "lost", 0, 10, "2026-11-20T00:00:00Z"),
        row("b", "nines", "lost", 0, 9, "2026-11-20T00:00:00Z"),
        row("c", "nines", "lost", 0, 10),
      ]),
      "lost",
    );
    expect(text).toContain("| b | 0 (0–0), 9 runs |");
    expect(text).toContain("of 10 runs, or as many as the row says; 2026-11-20; c: 2026-11-28, a machine");
  });
  it("compare only what can be compared", () => {
    expect(besideOf(flows, ["nines", "conntrackd"], ["sustained+", "lag-"])).toBe(
      "By the medians, conntrackd is ahead in `lag`; `sustained` is not decided.",
    );
    expect(besideOf(flows, ["nines", "conntrackd"], ["lag+"])).toBe(
      "By the medians, nines is ahead in `lag`.",
    );
  });
  it("say what was lost, and what was not measured", () => {
    const more = { variant: "ipv6", connections: 2000 };
    expect(lostOf(results([row("a", "nines", "lost", 0), row("b", "nines", "lost", 0)], more), "nines")).toBe(
      "`ipv6`: of 2000 connections in each of 6 runs over 2 faults, none was lost (2026-11-28).",
    );
    const perRepeat = [{ case: "b", subject: "nines", notMeasured: 1 }];
    expect(lostOf(results([row("a", "nines", "lost", 1)], { ...more, perRepeat }), "nines")).toBe(
      "`ipv6`: of 2000 connections in each of 3 runs over 1 faults, 1 in the worst run of a was lost, otherwise none; 1 more of b could not be measured (2026-11-28).",
    );
  });
});
