/* oxlint-disable typescript/no-unnecessary-type-assertion -- the linter sees tests without noUncheckedIndexedAccess */
import { describe, expect, it } from "vitest";
import { DRILL_NAMES } from "../../config/schema/lab.ts";
import { siteSchema, type SiteInput } from "../../config/schema/site.ts";
import type { DrillReport, DrillRun } from "../../contracts/drills.ts";
import { analyse } from "../engine/analysis.ts";
import { readOpenPsa } from "../openpsa/read.ts";
import { writeOpenPsa } from "../openpsa/write.ts";
import { planHtml } from "../report/html.ts";
import { planCapacity } from "./capacity.ts";
import { planSite } from "./plan.ts";
import { NINES_TABLE, ninesOf, ninesRow, sayAvailability, sayHours } from "./words.ts";

type Availability = NonNullable<SiteInput["availability"]>;

const site = (availability: Availability, more: Partial<SiteInput> = {}) =>
  siteSchema.parse({
    site: "shop",
    nodes: { lb1: { address: "10.1.0.2", zone: "a" }, lb2: { address: "10.1.0.3", zone: "b" } },
    virtualRouters: {
      edge: {
        priorities: { lb1: 110, lb2: 100 },
        members: [{ interface: "eth0", vrid: 51, addresses: ["10.0.0.1"] }],
      },
    },
    pools: {
      apps: {
        backends: {
          app1: { address: "10.1.0.11:8080", zone: "a" },
          app2: { address: "10.1.0.12:8080", zone: "b" },
          app3: { address: "10.1.0.13:8080", zone: "b" },
        },
        check: { tcp: true, interval: "1s", timeout: "1s", fall: 2 },
      },
    },
    services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } } },
    availability,
    ...more,
  } satisfies SiteInput);

/** Nothing breaks of this kind. */
const never = { mtbf: "100000000d", mttr: "1s" };
const perfect = {
  hardware: never,
  system: never,
  application: never,
  zone: never,
  power: never,
  network: never,
};

const run = (drill: string, gap: number, verdict: DrillRun["verdict"] = "passed"): DrillRun => ({
  drill,
  repeat: 1,
  subject: "nines",
  verdict,
  healedAt: 0,
  budget: {},
  probes: [
    {
      stream: "web",
      kind: "connect",
      sent: 100,
      good: 90,
      errors: {},
      longestGap: gap,
      badTime: gap,
      gaps: [],
      latency: { median: 1, p99: 1, max: 1 },
    },
  ],
  proberLag: 0,
  noOwner: 0,
  twoOwners: 0,
  takeovers: 1,
  timeline: [],
});
const report = (...runs: DrillRun[]): DrillReport => ({
  site: "shop",
  date: "2026-01-02",
  machine: "m",
  runs,
});

describe("the two nodes of the textbook", () => {
  it("have six nines when multiplied and four when their takeovers count", () => {
    // MTBF 1000 h, MTTR 1 h, takeover 3.6 s, 95 of 100 work, an hour for a person, 5 % common causes.
    const textbook = site({
      rates: { ...perfect, system: { mtbf: "1000h", mttr: "1h" } },
      failover: {
        coverage: 0.95,
        manual: "1h",
        move: "491ms",
        beta: 0.05,
        latentMtbf: "100000000d",
        oneCrew: false,
      },
      machines: {
        app1: { system: never },
        app2: { system: never },
        app3: { system: never },
      },
    });
    const [web] = planSite(textbook, { deep: false }).services;
    expect(ninesOf(web!.naive)).toBeCloseTo(6, 2);
    expect(ninesOf(web!.unavailability)).toBeCloseTo(4, 1);
    const seconds = Object.fromEntries(web!.byClass.map((part) => [part.class, part.unavailability]));
    expect(seconds["takeover"]).toBeCloseTo((0.95 * 3.6) / 3600 / 1000, 9);
    expect(seconds["common cause"]).toBeCloseTo(0.05 / 1000, 6);
  });
});

describe("a plan", () => {
  it("names single points of failure as the site file does, and what would mend them", () => {
    const fed = site({
      power: { feed1: { members: ["lb1", "lb2", "app1", "app2", "app3"] } },
      dependencies: { database: { mtbf: "90d", mttr: "30m" } },
    });
    const [web] = planSite(fed).services;
    expect(web!.singlePoints.map(({ name }) => name)).toEqual(["power feed1", "database"]);
    const changes = web!.improvements.map(({ what }) => what);
    expect(changes[0]).toBe("a second power feed beside feed1");
    expect(changes).toContain("a standby of database that takes over in 30.00 s");
    for (const { from, to } of web!.improvements) expect(to).toBeLessThan(from);
  });

  it("knows that two feeds of one machine must both fail", () => {
    const feeds = { members: ["lb1", "lb2", "app1", "app2", "app3"] };
    const [web] = planSite(site({ power: { feed1: feeds, feed2: feeds } }), { deep: false }).services;
    expect(web!.singlePoints).toEqual([]);
    expect(web!.cutSets.map(({ events }) => events.join(" + "))).toContain("power feed1 + power feed2");
  });

  it("without a node says what the other then is", () => {
    const [web] = planSite(site({}), { without: ["lb2"], deep: false }).services;
    expect(web!.singlePoints.map(({ name }) => name)).toEqual(["zone a", "lb1 hardware", "lb1 system"]);
    const gone = planSite(site({}), { without: ["lb1", "lb2"], deep: false }).services[0]!;
    expect(gone.unavailability).toBe(1);
  });

  it("prefers what drills measured, says so, and compares the gaps", () => {
    const runs = [
      ...Array.from({ length: 9 }, () => run("power-cut", 3200)),
      run("power-cut", 9000, "failed"),
      run("switchover", 300),
    ];
    const plan = planSite(site({}), { reports: [report(...runs)], deep: false });
    const takeover = plan.inputs.find(({ what }) => what === "takeover of edge")!;
    expect(takeover).toMatchObject({ origin: "drilled", value: "3.20 s" });
    expect(plan.inputs.find(({ what }) => what === "takeovers that work")!.value).toBe("87.5 %");
    // 3 s + 609 ms skew - 500 ms + 10 ms predicted; the switchover should have cost nothing.
    expect(
      plan.gaps.map(({ drill, predicted, agrees }) => [drill, Math.round(predicted ?? Number.NaN), agrees]),
    ).toEqual([
      ["power-cut", 3119, true],
      ["switchover", 0, false],
    ]);
  });

  it("predicts the gap of every drill there is", () => {
    const plan = planSite(site({}), {
      reports: [report(...DRILL_NAMES.map((name) => run(name, 0)))],
      deep: false,
    });
    expect(plan.gaps.map(({ drill }) => drill)).toEqual(DRILL_NAMES);
    for (const { why } of plan.gaps) expect(why).not.toBe("");
  });

  it("knows a gap that lasts as long as its fault, and one that lasts until the checks notice", () => {
    const dropped = { ...run("forward-drop", 3230), healedAt: 3266 };
    const killed = (until: number): DrillRun => {
      const base = run("backend-killed", 40);
      const [probe] = base.probes;
      const gaps = [
        { from: 300, to: 340, error: "refused" },
        { from: until - 20, to: until, error: "refused" },
      ];
      return { ...base, probes: [{ ...probe!, gaps }] };
    };
    const check = { tcp: true as const, interval: "500ms", fall: 2, jitter: 0 };
    const pools = { apps: { backends: { app1: "10.1.0.11:80", app2: "10.1.0.12:80" }, check } };
    const judge = (...runs: DrillRun[]) =>
      planSite(site({}, { pools }), { reports: [report(...runs)], deep: false }).gaps;
    expect(judge(dropped)).toMatchObject([{ predicted: null, measured: 3230, agrees: true }]);
    expect(judge({ ...dropped, healedAt: 9000 })).toMatchObject([{ agrees: false }]);
    // 750 ms, and as much as half an interval by when in the interval it dies.
    expect(judge(killed(953), killed(628))).toMatchObject([
      { predicted: 750, measured: 790.5, agrees: true },
    ]);
    expect(judge(killed(2100))).toMatchObject([{ predicted: 750, agrees: false }]);
  });

  it("judges the promise and its credits", () => {
    const targets = { web: { slo: 99.99, credits: [{ below: 99.99, credit: 10 }], bill: 1000, hour: 500 } };
    const [web] = planSite(site({ targets }), { deep: false }).services;
    expect(web!.target).toMatchObject({ slo: 99.99, kept: true, windowHours: 720, currency: "EUR" });
    const { missed, meanCredit, creditCost } = web!.target!;
    expect(missed).toBeGreaterThan(0);
    expect(missed).toBeLessThan(0.1);
    expect(meanCredit).toBeCloseTo(10 * missed, 10);
    expect(creditCost).toBeCloseTo(10 * meanCredit, 10);
  });

  it("counts a backend that is a node, or in two pools, once", () => {
    const shared = site(
      {},
      {
        pools: {
          apps: { backends: { here: "10.1.0.2:8080", there: "10.1.0.3:8080" } },
        },
      },
    );
    const plan = planSite(shared, { deep: false });
    const names = [...plan.model.events.values()].map(({ name }) => name);
    expect(names.filter((name) => name.includes("hardware"))).toEqual(["lb1 hardware", "lb2 hardware"]);
  });

  it("exports trees that other tools read alike, and a page that shows them", () => {
    const plan = planSite(site({}));
    const { model } = plan;
    model.tree.top = model.services[0]!.honest;
    const again = readOpenPsa([{ file: "x.xml", text: writeOpenPsa(model.tree, "shop") }]);
    const result = analyse(again.tree);
    expect(result.ok && result.value.probability).toBeCloseTo(plan.services[0]!.unavailability, 14);
    const page = planHtml(plan, model);
    expect(page).toContain("takeover of edge that fails");
    expect(page).not.toMatch(/src=|href=/);
  });
});

describe("capacity", () => {
  it("says N+1, and what is left without a zone", () => {
    const [apps] = planCapacity(
      site({ capacity: { apps: { peak: 150, each: 100, backends: { app3: 50 } } } }),
    );
    expect(apps).toMatchObject({ needed: 2, total: 250, redundancy: "N+1" });
    expect(apps!.losses).toEqual([
      { without: "backend app1", left: 150, enough: true },
      { without: "zone a", left: 150, enough: true },
      { without: "zone b", left: 100, enough: false },
    ]);
    const sizes = [50, 200, 300, 350].map(
      (peak) => planCapacity(site({ capacity: { apps: { peak, each: 100 } } }))[0]!.redundancy,
    );
    expect(sizes).toEqual(["2N", "N+1", "N", "short"]);
  });
  it("makes backends of different strength fail only where the rest is too weak", () => {
    const strong = site({
      rates: { ...perfect, application: { mtbf: "99h", mttr: "1h" } },
      failover: { beta: 0 },
      capacity: { apps: { peak: 150, each: 100, backends: { app3: 50 } } },
    });
    const [web] = planSite(strong, { deep: false }).services;
    // app1 and app2 carry it, and either of them with app3: only app1 + app2, or ... any two down is too much.
    expect(web!.naive).toBeCloseTo(3 * 0.01 ** 2 - 2 * 0.01 ** 3, 8);
  });
});

describe("the nines", () => {
  it("are those of the table for a year of 365 days", () => {
    const down = (percent: string): string => sayHours(ninesRow(percent).year / 3600);
    expect(["99", "99.9", "99.99", "99.999", "99.9999"].map(down)).toEqual([
      "3.65 d",
      "8.76 h",
      "52.56 min",
      "5.26 min",
      "31.54 s",
    ]);
    expect(ninesRow("99.99").year).toBeCloseTo(3153.6, 9);
    expect(NINES_TABLE).toContain("99.95");
  });
  it("keep their digits", () => {
    expect([0, 1, 1e-4, 9.1e-5, 1.23e-9, 0.05].map(sayAvailability)).toEqual([
      "100 %",
      "0 %",
      "99.99 %",
      "99.9909 %",
      "99.99999988 %",
      "95 %",
    ]);
  });
});

describe("a site of 500 nodes with 5,000 basic events", () => {
  it("is planned exactly", { timeout: 60_000 }, () => {
    const nodes = Object.fromEntries(
      Array.from({ length: 20 }, (_, i) => [`lb${i}`, { address: `10.0.1.${i + 1}`, zone: `z${i % 5}` }]),
    );
    const backends = Object.fromEntries(
      Array.from({ length: 480 }, (_, i) => [
        `app${i}`,
        { address: `10.1.${i >> 7}.${(i & 127) + 1}:80`, zone: `z${i % 5}` },
      ]),
    );
    const machines = Object.fromEntries(
      Object.keys({ ...nodes, ...backends }).map((name) => [
        name,
        {
          parts: Object.fromEntries(
            Array.from({ length: 7 }, (_, i) => [`part${i}`, { mtbf: "20000h", mttr: "2h" }]),
          ),
        },
      ]),
    );
    const large = siteSchema.parse({
      site: "large",
      nodes,
      virtualRouters: {
        edge: {
          priorities: Object.fromEntries(Object.keys(nodes).map((node, i) => [node, 200 - i])),
          members: [{ interface: "eth0", vrid: 1, addresses: ["10.0.0.1"] }],
        },
      },
      pools: { apps: { backends } },
      services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } } },
      availability: { machines, capacity: { apps: { peak: 400, each: 1 } } },
    });
    const plan = planSite(large);
    expect(plan.basicEvents).toBeGreaterThanOrEqual(4900);
    expect(plan.services[0]!.exact).toBe(true);
    expect(plan.services[0]!.unavailability).toBeGreaterThan(0);
  });
});
