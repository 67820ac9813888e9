import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { describeChange, siteDifference } from "./difference.ts";
import { type Site, type SiteInput, siteSchema } from "./schema/site.ts";

const base = {
  site: "shop",
  nodes: { lb1: { address: "10.1.0.2" }, lb2: { address: "10.1.0.3" } },
  virtualRouters: {
    edge: {
      priorities: { lb1: 110, lb2: 100 },
      members: [
        { interface: "eth0", vrid: 51, addresses: ["10.0.0.1"] },
        { interface: "eth1", vrid: 52, addresses: ["10.1.0.1"] },
      ],
    },
  },
  pools: { apps: { backends: { app1: "10.1.0.11:80", app2: "10.1.0.12:80" }, check: { tcp: true } } },
  services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } } },
} satisfies SiteInput;

type Draft = { [K in keyof SiteInput]-?: NonNullable<SiteInput[K]> };
const changed = (change: (draft: Draft) => void): { before: Site; after: Site } => {
  const draft = structuredClone(base) as unknown as Draft;
  change(draft);
  return { before: siteSchema.parse(base), after: siteSchema.parse(draft) };
};
const told = (change: (draft: Draft) => void): string[] => {
  const { before, after } = changed(change);
  return siteDifference(before, after).map(describeChange);
};
function must<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("the base site lacks it");
  return value;
}

describe("the difference of two sites", () => {
  it.each<[string, (draft: Draft) => void, string[]]>([
    ["nothing", () => {}, []],
    [
      "only the order of keys",
      (d) => {
        d.nodes = { lb2: { address: "10.1.0.3" }, lb1: { address: "10.1.0.2" } };
      },
      [],
    ],
    [
      "the name",
      (d) => {
        d.site = "store";
      },
      ["site is store, was shop"],
    ],
    [
      "a duration",
      (d) => {
        must(d.virtualRouters["edge"]).interval = "100ms";
      },
      ["virtual router edge: interval is 100ms, was 1s"],
    ],
    [
      "a priority",
      (d) => {
        must(d.virtualRouters["edge"]).priorities["lb2"] = 90;
      },
      ["virtual router edge: priorities.lb2 is 90, was 100"],
    ],
    [
      "inside a member",
      (d) => {
        must(must(d.virtualRouters["edge"]).members[1]).vrid = 7;
      },
      ["virtual router edge: members[1].vrid is 7, was 52"],
    ],
    [
      "an address more",
      (d) => {
        must(must(d.virtualRouters["edge"]).members[0]).addresses.push("10.0.0.9");
      },
      ["virtual router edge: members[0].addresses added: 10.0.0.9"],
    ],
    [
      "a member less",
      (d) => {
        must(d.virtualRouters["edge"]).members.pop();
      },
      ["virtual router edge: members removed: { interface: eth1, vrid: 52, addresses: [10.1.0.1] }"],
    ],
    [
      "a backend more",
      (d) => {
        must(d.pools["apps"]).backends["app3"] = "10.1.0.13:80";
      },
      ["pool apps: backends.app3 added: { at: 10.1.0.13:80, weight: 1, maintenance: false, backup: false }"],
    ],
    [
      "a backend elsewhere",
      (d) => {
        must(d.pools["apps"]).backends["app2"] = "10.1.0.22:80";
      },
      ["pool apps: backends.app2.at is 10.1.0.22:80, was 10.1.0.12:80"],
    ],
    [
      "another kind of check",
      (d) => {
        must(d.pools["apps"]).check = { http: "/" };
      },
      expect.arrayContaining([
        "pool apps: check.kind is http, was tcp",
        "pool apps: check.path added: /",
      ]) as string[],
    ],
    [
      "no check",
      (d) => {
        delete must(d.pools["apps"]).check;
      },
      [expect.stringContaining("pool apps: check removed: { kind: tcp, tcp: true, ") as string],
    ],
    [
      "another listen",
      (d) => {
        must(d.services["web"]).listen = ["10.0.0.1:80/tcp", "10.0.0.1:443/tcp"];
      },
      ["service web: listen added: 10.0.0.1:443/tcp"],
    ],
    [
      "objects come and gone",
      (d) => {
        d.pools["new"] = { backends: {} };
        d.services = {};
      },
      ["pool new added", "service web removed"],
    ],
    [
      "the order of a list",
      (d) => {
        must(d.virtualRouters["edge"]).members.reverse();
      },
      [expect.stringContaining("virtual router edge: members is [{ interface: eth1") as string],
    ],
  ])("%s", (_, change, expected) => expect(told(change)).toEqual(expected));

  it("names the objects that a reload touches, and no others", () => {
    const { before, after } = changed((d) => {
      must(d.pools["apps"]).backends["app3"] = "10.1.0.13:80";
      must(d.pools["apps"]).allDown = "all";
    });
    expect(siteDifference(before, after).map(({ object }) => object.join("."))).toEqual([
      "pools.apps",
      "pools.apps",
    ]);
  });

  it("is empty exactly where two sites say the same, and turns round", () => {
    const pool = fc.dictionary(
      fc.constantFrom("a", "b", "c"),
      fc.integer({ min: 1, max: 3 }).map((n) => `10.0.0.${n}:80`),
      { minKeys: 1 },
    );
    const site = fc.record({
      priorities: fc.dictionary(fc.constantFrom("lb1", "lb2"), fc.integer({ min: 1, max: 3 }), {
        minKeys: 1,
      }),
      pools: fc.dictionary(fc.constantFrom("p", "q"), pool),
    });
    const parse = ({
      priorities,
      pools,
    }: {
      priorities: Record<string, number>;
      pools: Record<string, Record<string, string>>;
    }) =>
      siteSchema.parse({
        ...base,
        virtualRouters: { edge: { ...base.virtualRouters.edge, priorities } },
        pools: Object.fromEntries(Object.entries(pools).map(([name, backends]) => [name, { backends }])),
      });
    fc.assert(
      fc.property(site, site, (a, b) => {
        const [one, two] = [parse(a), parse(b)];
        expect(siteDifference(one, parse(structuredClone(a)))).toEqual([]);
        const there = siteDifference(one, two);
        const back = siteDifference(two, one);
        expect(there.length).toBe(back.length);
        const turned = { added: "removed", removed: "added", changed: "changed" } as const;
        const key = (kind: string, object: readonly unknown[], path: readonly unknown[]): string =>
          `${kind} ${object.join(".")} ${path.join(".")}`;
        expect(back.map((c) => key(turned[c.kind], c.object, c.path)).sort()).toEqual(
          there.map((c) => key(c.kind, c.object, c.path)).sort(),
        );
      }),
    );
  });
});
