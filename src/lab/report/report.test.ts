import { describe, expect, it } from "vitest";
import type { DrillRun } from "../../contracts/drills.ts";
import { summarise } from "../policy.ts";
import { junit } from "./junit.ts";
import { timelineSvg } from "./svg.ts";
import { drillTable, reasons, renderTable } from "./table.ts";
import { escapeXml } from "./xml.ts";

const samples = Array.from({ length: 100 }, (_, i) => {
  const due = i * 10 - 300;
  return due >= 0 && due < 200 ? { due, done: due + 200, error: "timeout" } : { due, done: due + 2 };
});

const run = (change: Partial<DrillRun> = {}): DrillRun => ({
  drill: "power-cut",
  repeat: 1,
  subject: "nines",
  verdict: "passed",
  node: "lb1",
  healedAt: 500,
  budget: { gap: 461 },
  probes: [summarise("connect web", "connect", samples, 0)],
  proberLag: 3,
  noOwner: 190,
  twoOwners: 0,
  takeovers: 1,
  timeline: [
    { at: 0, lane: "fault", what: "power cut of lb1", until: 500 },
    { at: -300, lane: "role lb1", what: "active", until: 5 },
    { at: 190, lane: "owner 10.0.0.1", what: "lb2", until: 690 },
  ],
  ...change,
});

const failed = run({ repeat: 2, verdict: "failed", reason: 'gap 600 ms, budget 461; "a" & <b>' });
const skipped = run({
  drill: "starvation",
  verdict: "skipped",
  reason: "stress-ng is not installed",
  probes: [],
});

describe("the table", () => {
  it("has a line per drill with median and worst, and never counts a skipped run as passed", () => {
    const lines = drillTable([run(), failed, skipped]).split("\n");
    expect(lines[2]).toMatch(/^power-cut +2 +200 \/ 200 +<= 461 +20 \/ 20 +100 % .* 1 passed, 1 failed$/);
    expect(lines[3]).toMatch(/^starvation +1 +- .* skipped$/);
  });

  it("keeps two subjects apart", () => {
    const text = drillTable([run(), run({ subject: "keepalived" })]);
    expect(text).toMatch(/^power-cut \(nines\) /m);
    expect(text).toMatch(/^power-cut \(keepalived\) /m);
  });

  it("aligns its columns", () => {
    expect(
      renderTable([
        ["a", "bb"],
        ["ccc", "d"],
      ]),
    ).toBe("a    bb\n---  --\nccc   d");
  });

  it("gives the reason of every run that did not pass", () => {
    expect(reasons([run(), failed, skipped])).toEqual([
      'failed power-cut #2: gap 600 ms, budget 461; "a" & <b>',
      "skipped starvation #1: stress-ng is not installed",
    ]);
  });
});

describe("JUnit", () => {
  it("counts and escapes", () => {
    const xml = junit({
      site: "shop",
      date: "2026-01-01T00:00:00.000Z",
      machine: "m",
      runs: [run(), failed, skipped],
    });
    expect(xml).toContain('tests="3" failures="1" skipped="1"');
    expect(xml).toContain('<failure message="gap 600 ms, budget 461; &quot;a&quot; &amp; &lt;b&gt;"/>');
    expect(xml).toContain('<skipped message="stress-ng is not installed"/>');
    expect(xml).toContain('<testcase classname="drills.nines" name="power-cut #1" time="0.690"/>');
  });

  it("has no character that XML forbids", () =>
    expect(escapeXml("a\u0000\u001b[31m\nb")).toBe("a  [31m&#10;b"));
});

describe("the timeline", () => {
  const svg = timelineSvg(run(), new Map([["connect web", samples]]));

  it("shows a bar for each failed probe and a point for each good one", () => {
    expect(svg.match(/stroke="#b2182b"[^>]*>/g)).toHaveLength(1);
    expect(/<path d="([^"]+)" stroke="#b2182b"/.exec(svg)?.[1]?.match(/M/g)).toHaveLength(20);
    expect(/<path d="([^"]+)" stroke="#5aa7dc"/.exec(svg)?.[1]?.match(/M/g)).toHaveLength(80);
  });

  it("names every lane, the node that owns and the fault", () => {
    for (const said of [
      "connect web",
      "role lb1",
      "10.0.0.1 on lb2",
      "power cut of lb1",
      "20 of 100 bad, gap 200 ms",
    ])
      expect(svg).toContain(`>${said}</text>`);
  });

  it("escapes what programs said", () => {
    const nasty = run({ verdict: "failed", reason: "</svg><script>", timeline: [] });
    expect(timelineSvg(nasty, new Map())).not.toContain("<script>");
  });
});
