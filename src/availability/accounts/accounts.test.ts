/* oxlint-disable typescript/no-unnecessary-type-assertion -- the linter sees tests without noUncheckedIndexedAccess */
import {
  appendFileSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ms } from "../../base/time.ts";
import { VirtualClock } from "../../base/virtual-clock.ts";
import { siteSchema } from "../../config/schema/site.ts";
import { type Fact, instantOf } from "./facts.ts";
import { Journal, formatLine, readJournal, readLines } from "./journal.ts";
import { countInterval, weigh } from "./policy-evidence.ts";
import { budgetOf, burnAlerts, errorRatio, figures, keepLedger, mergeFacts } from "./policy-ledger.ts";
import { accountsReport, reportHtml, reportMarkdown } from "./report.ts";
import { AccountsRecorder } from "./service.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const T0 = Date.UTC(2026, 0, 1);

const site = (availability: object = {}) =>
  siteSchema.parse({
    site: "shop",
    nodes: { lb1: { address: "10.1.0.2" }, lb2: { address: "10.1.0.3" } },
    virtualRouters: {
      edge: {
        priorities: { lb1: 110, lb2: 100 },
        members: [{ interface: "eth0", vrid: 1, addresses: ["10.0.0.1"] }],
      },
    },
    pools: { apps: { backends: { app1: "10.1.0.11:80", app2: "10.1.0.12:80" }, check: { tcp: true } } },
    services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } } },
    availability: {
      targets: { web: { slo: 99.9, credits: [{ below: 99.9, credit: 10 }], bill: 200 } },
      ...availability,
    },
  });

let directory = "";
beforeEach(() => (directory = mkdtempSync(join(tmpdir(), "nines-accounts-"))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const outage = (from: number, length: number, cause = "switch"): Fact => ({
  kind: "outage",
  from,
  to: from + length,
  service: "web",
  cause,
});

describe("the journal", () => {
  it("gives back a prefix of what was written, wherever a crash cuts the file", () => {
    const facts: Fact[] = [
      outage(T0, 5),
      { kind: "watch", at: T0 + 6 },
      outage(T0 + 10, 5, 'quote " and \\'),
    ];
    const text = facts.map(formatLine).join("");
    for (let at = 0; at <= text.length; at++) {
      const read = readLines(text.slice(0, at));
      expect(read.damaged).toBe(0);
      expect(read.facts).toEqual(facts.slice(0, read.facts.length));
    }
  });
  it("goes on after a torn line, and believes no damaged one", () => {
    const journal = new Journal(directory);
    journal.append(outage(T0, 5));
    journal.append(outage(T0 + 100, 5));
    journal.close();
    const file = join(directory, readdirSync(directory)[0]!);
    truncateSync(file, readFileSync(file).length - 7);
    const again = new Journal(directory);
    again.append(outage(T0 + 200, 5));
    again.close();
    expect(readJournal(directory).facts).toEqual([outage(T0, 5), outage(T0 + 200, 5)]);
    const text = readFileSync(file, "latin1");
    writeFileSync(file, text.replace("switch", "glitch"));
    expect(readJournal(directory)).toMatchObject({ damaged: 1, facts: [outage(T0 + 200, 5)] });
  });
  it("never throws on arbitrary bytes", () => {
    fc.assert(fc.property(fc.string(), (text) => readLines(text).facts.length === 0 || true));
    appendFileSync(join(directory, "accounts-2026-01.log"), "garbage\n\n\u0000\n");
    expect(readJournal(directory)).toEqual({ facts: [], damaged: 3 });
  });
  it("keeps a file a month", () => {
    const journal = new Journal(directory);
    journal.append(outage(T0, 5));
    journal.append(outage(T0 + 40 * DAY, 5));
    journal.close();
    expect(readdirSync(directory).sort()).toEqual(["accounts-2026-01.log", "accounts-2026-02.log"]);
    expect(readJournal(join(directory, "none"))).toEqual({ facts: [], damaged: 0 });
  });
});

describe("the ledger", () => {
  const window = { from: T0, to: T0 + 10 * DAY };
  it("adds up outages that overlap once, with both causes", () => {
    const ledger = keepLedger("web", [outage(T0, HOUR, "a"), outage(T0 + HOUR / 2, HOUR, "b")], window.to);
    expect(ledger.outages).toEqual([{ from: T0, to: T0 + 1.5 * HOUR, cause: "a; b" }]);
    expect(figures(ledger, window).byTime).toBeCloseTo(1 - 1.5 / 240, 12);
  });
  it("does not count planned maintenance and shows it", () => {
    const ledger = keepLedger("web", [outage(T0 + HOUR, 2 * HOUR)], window.to);
    const found = figures(ledger, window, [{ from: T0 + 2 * HOUR, to: T0 + 4 * HOUR }]);
    expect([found.down, found.planned, found.plannedDown, found.observed]).toEqual([
      HOUR,
      2 * HOUR,
      HOUR,
      238 * HOUR,
    ]);
  });
  it("claims nothing about time in which nobody looked", () => {
    const watch = (at: number): Fact => ({ kind: "watch", at });
    const facts: Fact[] = [];
    for (let at = T0; at <= T0 + HOUR; at += MINUTE) facts.push(watch(at));
    facts.push({ kind: "down", at: T0 + HOUR, service: "web", cause: "crash" });
    for (let at = T0 + 5 * HOUR; at <= T0 + 6 * HOUR; at += MINUTE) facts.push(watch(at));
    facts.splice(facts.length - 30, 0, { kind: "up", at: T0 + 5.5 * HOUR, service: "web" });
    const found = figures(keepLedger("web", facts, T0 + 6 * HOUR), { from: T0, to: T0 + 6 * HOUR });
    expect(found.observed).toBe(2 * HOUR);
    expect(found.unobserved).toBe(4 * HOUR);
    expect(found.down).toBe(HOUR / 2);
  });
  it("joins what several nodes saw, and ends what a dead one left open with its last sign of life", () => {
    const watches = (from: number, to: number): Fact[] =>
      Array.from({ length: (to - from) / MINUTE + 1 }, (_, i) => ({ kind: "watch", at: from + i * MINUTE }));
    const byTime = (x: Fact, y: Fact): number => instantOf(x) - instantOf(y);
    const dead: Fact[] = [
      ...watches(T0, T0 + 10 * MINUTE),
      { kind: "down", at: T0 + 10 * MINUTE - 1000, service: "web", cause: "a" },
    ];
    dead.sort(byTime);
    const now = T0 + HOUR;
    const living: Fact[] = [
      ...watches(T0, now),
      { kind: "down", at: now - 5000, service: "web", cause: "b" },
    ];
    const facts = mergeFacts([dead, living.sort(byTime)], now);
    const ledger = keepLedger("web", facts, now);
    expect([ledger.ongoing, ledger.outages]).toEqual([
      true,
      [
        { from: T0 + 10 * MINUTE - 1000, to: T0 + 10 * MINUTE, cause: "a" },
        { from: now - 5000, to: now, cause: "b" },
      ],
    ]);
  });
  it("is as bad as the worse of time and requests", () => {
    const facts: Fact[] = [
      { kind: "requests", from: T0, to: T0 + MINUTE, service: "web", good: 1000, bad: 0 },
      outage(T0 + HOUR, 2.4 * HOUR),
    ];
    const found = figures(keepLedger("web", facts, window.to), window);
    expect(errorRatio(found)).toBeCloseTo(0.01, 12);
    expect(budgetOf(found, 99).used).toBeCloseTo(1, 9);
  });
  it("goes by requests where there are any", () => {
    const facts: Fact[] = [
      { kind: "requests", from: T0, to: T0 + MINUTE, service: "web", good: 990, bad: 10 },
    ];
    const found = figures(keepLedger("web", facts, window.to), window);
    expect(found.byRequests).toBeCloseTo(0.99, 12);
    expect(budgetOf(found, 99).used).toBeCloseTo(1, 9);
  });
});

describe("burn rates", () => {
  it("have the workbook's thresholds for 30 days and others for other windows", () => {
    const ledger = keepLedger("web", [], T0);
    const thresholds = (days: number): number[] =>
      burnAlerts(ledger, 99.9, days * DAY, T0).map(({ threshold }) => Number(threshold.toFixed(2)));
    expect(thresholds(30)).toEqual([14.4, 6, 1]);
    expect(thresholds(7)).toEqual([3.36, 1.4, 1]);
    expect(thresholds(90)).toEqual([43.2, 18, 3]);
  });
  it("fire while both windows burn, and stop soon after", () => {
    const facts = [outage(T0, 2 * MINUTE)];
    const alerts = (at: number) => burnAlerts(keepLedger("web", facts, at), 99.9, 30 * DAY, at);
    const firing = (at: number): number[] =>
      alerts(at)
        .filter((a) => a.firing)
        .map((a) => a.long / HOUR);
    expect(firing(T0 + 2 * MINUTE)).toEqual([1]);
    expect(firing(T0 + 10 * MINUTE)).toEqual([]);
  });
});

describe("the evidence", () => {
  const observed = 365 * DAY;
  const evidence = (
    count: number,
    each: number,
    promised: { unavailability: number; outagesPerYear: number },
  ) => {
    const facts = Array.from({ length: count }, (_, i) => outage(T0 + (i + 1) * 10 * DAY, each));
    const ledger = keepLedger("web", facts, T0 + observed);
    return weigh(ledger, figures(ledger, { from: T0, to: T0 + observed }), promised);
  };
  const promised = { unavailability: 1e-4, outagesPerYear: 4 };
  it("agrees, or contradicts the model in either direction, or is too little", () => {
    // 1e-4 of a year is 52.6 min: 4 outages of 13 min.
    expect(evidence(4, 13 * MINUTE, promised).verdict).toBe("agrees");
    expect(evidence(4, 10 * HOUR, promised).verdict).toBe("worse");
    expect(evidence(20, 2.6 * MINUTE, promised).verdict).toBe("worse");
    expect(evidence(4, 100, promised).verdict).toBe("better");
    expect(evidence(0, 0, { unavailability: 1e-6, outagesPerYear: 0.1 }).verdict).toBe("too early");
    expect(evidence(0, 0, { unavailability: 1e-2, outagesPerYear: 20 }).verdict).toBe("better");
  });
  it("has the exact interval of a count", () => {
    // Garwood, 1936: 0: 0 to 3.689; 5: 1.624 to 11.668; 10: 4.795 to 18.390.
    expect(countInterval(0)).toEqual([0, expect.closeTo(3.689, 2)]);
    expect(countInterval(5)).toEqual([expect.closeTo(1.624, 1), expect.closeTo(11.668, 1)]);
    expect(countInterval(10)).toEqual([expect.closeTo(4.795, 1), expect.closeTo(18.39, 1)]);
  });
});

describe("the recorder", () => {
  it("writes what happens, alerts, and goes on where a crash has left it", () => {
    const clock = new VirtualClock(0, T0);
    const alerts: string[] = [];
    const events = {
      onAlert: (service: string, { severity, firing }: { severity: string; firing: boolean }) =>
        alerts.push(`${service} ${severity} ${firing}`),
    };
    const recorder = new AccountsRecorder(directory, site(), clock, events);
    clock.advance(ms(10 * MINUTE));
    recorder.serviceDown("web", "no healthy backend in apps");
    recorder.serviceDown("web", "said twice");
    recorder.requests("web", 100, 50);
    clock.advance(ms(5 * MINUTE));
    expect(alerts).toContain("web page true");
    expect(
      recorder.samples().find(({ name }) => name === "nines_availability_budget_used_ratio")!.value,
    ).toBeGreaterThan(0);
    // The process dies here: nothing is flushed, nobody says up.
    clock.advance(ms(0));
    const other = new VirtualClock(0, T0 + HOUR);
    const next = new AccountsRecorder(directory, site(), other);
    other.advance(ms(10 * MINUTE));
    next.stop();
    const { facts, damaged } = readJournal(directory);
    expect(damaged).toBe(0);
    const now = T0 + 70 * MINUTE;
    const ledger = keepLedger("web", facts, now);
    expect(ledger.ongoing).toBe(false);
    // Seen down from minute 10 until the watch stopped at minute 15.
    expect(ledger.outages).toEqual([
      { from: T0 + 10 * MINUTE, to: T0 + 15 * MINUTE, cause: "no healthy backend in apps" },
    ]);
    recorder.stop();
  });
  it("makes one outage of one that a restart of the process falls into", () => {
    const clock = new VirtualClock(0, T0);
    const first = new AccountsRecorder(directory, site(), clock);
    clock.advance(ms(MINUTE));
    first.serviceDown("web", "no healthy backend in apps");
    clock.advance(ms(MINUTE));
    // Killed here; its successor is told the same, then that all is well.
    const other = new VirtualClock(0, T0 + 2 * MINUTE + 900);
    const second = new AccountsRecorder(directory, site(), other);
    second.serviceDown("web", "no healthy backend in apps");
    other.advance(ms(MINUTE));
    second.serviceUp("web");
    second.outage("web", 300, "takeover of edge");
    second.stop();
    first.stop();
    const { facts } = readJournal(directory);
    expect(keepLedger("web", facts, T0 + HOUR).outages).toEqual([
      { from: T0 + MINUTE, to: T0 + 3 * MINUTE + 900, cause: "no healthy backend in apps; takeover of edge" },
    ]);
    expect([second.problem, facts.filter(({ kind }) => kind === "down").length]).toEqual(["", 1]);
  });
  it.each([-HOUR, HOUR])("keeps the length of an outage in which the clock steps by %i ms", (step) => {
    let stepped = 0;
    class SteppingClock extends VirtualClock {
      override wall(): number {
        return super.wall() + stepped;
      }
    }
    const clock = new SteppingClock(0, T0);
    const recorder = new AccountsRecorder(directory, site(), clock);
    clock.advance(ms(10 * MINUTE));
    recorder.serviceDown("web", "all down");
    clock.advance(ms(2 * MINUTE));
    stepped = step;
    clock.advance(ms(3 * MINUTE));
    recorder.serviceUp("web");
    clock.advance(ms(10 * MINUTE));
    recorder.stop();
    const ledger = keepLedger("web", readJournal(directory).facts, T0 + 3 * HOUR);
    const down = ledger.outages.reduce((sum, { from, to }) => sum + to - from, 0);
    expect([ledger.ongoing, down]).toEqual([false, 5 * MINUTE]);
  });
  it("claims nothing of a service that the site has no more", () => {
    const clock = new VirtualClock(0, T0);
    const recorder = new AccountsRecorder(directory, site(), clock);
    recorder.serviceDown("web", "all down");
    clock.advance(ms(MINUTE));
    recorder.useSite({ ...site(), services: {} });
    clock.advance(ms(HOUR));
    recorder.stop();
    expect(keepLedger("web", readJournal(directory).facts, T0 + HOUR).outages).toEqual([
      { from: T0, to: T0 + MINUTE, cause: "all down" },
    ]);
  });
  it("goes on when the disk refuses", () => {
    const errors: unknown[] = [];
    // The last minutes of the month: the next file cannot be made any more.
    const clock = new VirtualClock(0, T0 + 31 * DAY - 5 * MINUTE);
    const recorder = new AccountsRecorder(directory, site(), clock, {
      onError: (error) => errors.push(error),
    });
    clock.advance(ms(MINUTE));
    rmSync(directory, { recursive: true });
    clock.advance(ms(HOUR));
    expect(errors.length).toBeGreaterThan(0);
    expect(recorder.problem).toContain("cannot be written");
    recorder.stop();
  });
});

describe("the monthly report", () => {
  it("says kept or not, credits, causes and what was promised", () => {
    const facts = [outage(T0 + DAY, 2 * HOUR, "switch | failed"), outage(T0 + 3 * DAY, HOUR, "planned")];
    const maintenance = [{ from: "2026-01-04T00:00:00Z", to: "2026-01-04T02:00:00Z", services: ["web"] }];
    const report = accountsReport(
      site({ maintenance }),
      facts,
      { from: T0, to: T0 + 31 * DAY },
      { promised: [{ service: "web", unavailability: 1e-4, outagesPerYear: 4 }] },
    );
    const [web] = report.services;
    expect(web!.target).toMatchObject({ kept: false, credit: 10 });
    expect(web!.figures.plannedDown).toBe(HOUR);
    const text = reportMarkdown(report);
    expect(text).toContain("# Availability of shop, 2026-01-01 to 2026-01-31");
    expect(text).toContain("10 % (20.00 EUR)");
    expect(text).toContain("switch \\| failed");
    expect(text).toContain("the evidence contradicts the model");
    expect(reportHtml(report)).toContain("<td>switch | failed</td>");
  });
});
