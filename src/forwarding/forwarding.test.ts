import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ip, parsePrefix } from "../base/addresses.ts";
import { ms } from "../base/time.ts";
import type { HealthState } from "../contracts/forwarding.ts";
import { type NftChange, diffTables } from "../linux/nftables/diff.ts";
import type { NftTable } from "../linux/nftables/model.ts";
import { cutsFor, owedAfter } from "./cuts.ts";
import { explainServices } from "./explain.ts";
import { allocateIds, numbersOf } from "./ids.ts";
import { type BackendFacts, NO_MEMORY, decide } from "./machine.ts";
import { buildTables, siteSeed } from "./policy.ts";
import { Kept } from "./policy-kept.ts";
import { portShare } from "./policy-nat.ts";
import { factsOf, leastWeights } from "./policy-weights.ts";
import { recover } from "./recover.ts";
import { backends, comments, input, makeSite, only, setNamed, tables } from "./testing/inputs.ts";

describe("which backends take connections", () => {
  const site = (allDown: "all" | "none" | "last") =>
    makeSite({ pools: { apps: { allDown, backends: backends(3) } } });
  const run = (policy: "all" | "none" | "last", states: HealthState[][]) => {
    let memory = NO_MEMORY;
    let pool;
    for (const state of states) {
      const facts = new Map<string, BackendFacts>(
        state.map((health, i) => [`apps/b${i + 1}`, { health, admin: "enabled" }]),
      );
      const result = decide(site(policy).pools, facts, memory, new Set(["apps/b1", "apps/b2", "apps/b3"]));
      memory = result.memory;
      [pool] = result.pools;
    }
    return pool?.backends.filter((one) => one.weight > 0).map((one) => one.name);
  };
  const dead: HealthState[] = ["down", "down", "down"];
  it("are the healthy ones", () => {
    expect(run("none", [["up", "down", "up"]])).toEqual(["b1", "b3"]);
  });
  it("are, when none is healthy, what the policy says", () => {
    expect(run("none", [["up", "up", "down"], dead])).toEqual([]);
    expect(run("all", [["up", "up", "down"], dead])).toEqual(["b1", "b2", "b3"]);
    expect(run("last", [["up", "up", "down"], dead, dead])).toEqual(["b1", "b2"]);
    expect(run("last", [dead])).toEqual([]);
  });
  it("are, while health is unknown, those that were up before, or never seen", () => {
    const unknown: HealthState[] = ["unknown", "unknown", "unknown"];
    expect(run("none", [["up", "down", "up"], unknown])).toEqual(["b1", "b3"]);
    const fresh = decide(site("none").pools, new Map(), NO_MEMORY, new Set());
    expect(fresh.pools[0]?.backends.every((one) => one.weight > 0)).toBe(true);
  });
  it("are not those that drain or are in maintenance, healthy or not", () => {
    for (const admin of ["drain", "maintenance"] as const) {
      const facts = new Map<string, BackendFacts>([["apps/b2", { health: "up", admin }]]);
      const [pool] = decide(site("all").pools, facts, NO_MEMORY, new Set()).pools;
      expect(pool?.backends.find((one) => one.name === "b2")).toMatchObject({ weight: 0 });
      expect(pool?.backends.find((one) => one.name === "b2")?.reason).toContain(admin);
    }
  });
  it("always has a reason, and rejects exactly when nobody takes", () => {
    const state = fc.record({
      health: fc.constantFrom("up" as const, "down" as const, "unknown" as const),
      admin: fc.constantFrom("enabled" as const, "drain" as const, "maintenance" as const),
    });
    fc.assert(
      fc.property(
        fc.array(state, { maxLength: 3 }),
        fc.constantFrom("all", "none", "last"),
        (states, policy) => {
          const facts = new Map<string, BackendFacts>(states.map((one, i) => [`apps/b${i + 1}`, one]));
          const [pool] = decide(site(policy).pools, facts, NO_MEMORY, new Set()).pools;
          expect(pool?.rejecting).toBe(pool?.backends.every((one) => one.weight === 0));
          for (const one of pool?.backends ?? []) expect(one.reason).not.toBe("");
        },
      ),
    );
  });
});

describe("numbers of names", () => {
  it("stay while the name lives, and are not reused at once", () => {
    const first = allocateIds(numbersOf(new Map()), ["a", "b", "c"], 10);
    const second = allocateIds(first, ["a", "c", "d"], 10);
    expect([...second.ids]).toEqual([
      ["a", 1],
      ["c", 3],
      ["d", 4],
    ]);
    // The highest as well: connections may still carry it.
    const third = allocateIds(allocateIds(second, ["a", "c"], 10), ["a", "e"], 10);
    expect(third.ids.get("e")).toBe(5);
    expect(() => allocateIds(numbersOf(new Map()), ["a", "b"], 1)).toThrow(RangeError);
  });
  it("are never shared, whatever comes and goes", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uniqueArray(fc.constantFrom("a", "b", "c", "d", "e", "f", "g", "h"), { maxLength: 6 })),
        (rounds) => {
          let numbers = numbersOf(new Map());
          for (const names of rounds) {
            const next = allocateIds(numbers, names, 8);
            const { ids } = numbers;
            expect(new Set(next.ids.values()).size).toBe(names.length);
            for (const name of names) if (ids.has(name)) expect(next.ids.get(name)).toBe(ids.get(name));
            numbers = next;
          }
        },
      ),
    );
  });
});

describe("the tables", () => {
  it("are the same for the same site on another node, but for source ports", () => {
    const one = makeSite();
    const other = { ...input(one), node: "lb2" };
    expect(buildTables(other)).toEqual(tables(one));
    expect(siteSeed("shop")).not.toBe(siteSeed("shop2"));
  });
  it("send few elements for one dead backend", () => {
    const site = makeSite({ pools: { apps: { backends: backends(20) } } });
    const changes = diffTables(only(tables(site)), only(tables(site, ["b7"])));
    expect(changes.map((one) => one.op)).toEqual(["delete-elements", "add-elements"]);
    const moved = changes.map((one) => ("elements" in one ? one.elements.length : 0));
    // A twentieth of 1021 slots is its own; a bit more moves.
    expect(moved[0]).toBeGreaterThan(40);
    expect(moved[0]).toBeLessThan(150);
    expect(moved[1]).toBe(moved[0]);
  });
  it("reject at once where nobody takes connections", () => {
    const table = only(tables(makeSite(), ["b1", "b2", "b3", "b4"]));
    expect(comments(table, "service-web")).toEqual([
      "service web",
      "no backend takes connections",
      "no backend takes connections",
    ]);
  });
  it("tell the next process which services, backends and numbers there were", () => {
    const first = input(makeSite(), ["b2"], new Map([["web", 41]]));
    expect(recover(buildTables({ ...first, serviceIds: new Map([["web", 42]]) }))).toEqual({
      serviceIds: new Map([["web", 42]]),
      taking: new Set(["apps/b1", "apps/b3", "apps/b4"]),
      known: new Set(["apps/b1", "apps/b2", "apps/b3", "apps/b4"]),
    });
    expect(
      recover([{ family: "ip", name: "nines", sets: [], chains: [{ name: "service-x", rules: [] }] }]),
    ).toEqual({
      serviceIds: new Map(),
      taking: new Set(),
      known: new Set(),
    });
  });
  it("build the reverse map only where a backend belongs to one service", () => {
    const listen = (port: number) => ({
      on: "edge",
      listen: `10.0.0.1:${port}/tcp`,
      forward: { pool: "apps" },
    });
    expect(setNamed(only(tables(makeSite())), "reverse")?.elements.size).toBe(4);
    const shared = makeSite({ services: { web: listen(80), web2: listen(81) } });
    expect(setNamed(only(tables(shared)), "reverse")).toBeUndefined();
  });
  it("masquerade hairpin clients behind the virtual address of their link", () => {
    const prefix = parsePrefix("10.2.0.0/24");
    const prefixes = prefix.ok ? [prefix.value] : [];
    const table = only(buildTables({ ...input(makeSite()), prefixes }));
    const [element] = setNamed(table, "hairpin")?.elements.values() ?? [];
    expect(element?.data).toEqual(Uint8Array.of(10, 2, 0, 1));
    expect([...(element?.keyEnd ?? [])].slice(4)).toEqual([10, 2, 0, 255, 10, 2, 0, 255]);
  });
  it("exist only for families that have services", () => {
    expect(tables(makeSite()).map((one) => one.family)).toEqual(["ip"]);
    expect(tables(makeSite({ services: {} }))).toEqual([]);
  });
  it("keep the ports of a range where the backend's is the first, and say where not", () => {
    const site = makeSite({
      pools: { apps: { backends: { b1: "10.2.0.11:5000", b2: "10.2.0.12:8080" } } },
      services: { media: { on: "edge", listen: "10.0.0.1:5000-5009/udp", forward: { pool: "apps" } } },
    });
    const table = only(tables(site));
    expect(comments(table, "service-media.5000")).toEqual([
      "service media",
      "choose a backend, keep the port",
      "choose a backend",
    ]);
    const [explained] = explainServices(input(site));
    expect(explained?.notes.join()).toContain(
      "b2: all ports of 10.0.0.1:5000-5009/udp lead to its port 8080",
    );
    expect(explained?.backends.map((one) => one.share).reduce((a, b) => a + b)).toBeCloseTo(1);
  });
  it("split the source ports of a masquerade between the nodes", () => {
    expect(portShare(["lb2", "lb1"], "lb1")).toEqual([1024, 33279]);
    expect(portShare(["lb2", "lb1"], "lb2")).toEqual([33280, 65535]);
    expect(portShare([], "lb1")).toEqual([1024, 65535]);
  });
});

describe("connections that must go", () => {
  const site = makeSite({
    services: {
      dns: { on: "edge", listen: "10.0.0.1:53/udp", forward: { pool: "apps" } },
      web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } },
    },
  });
  it("are the UDP ones of a backend that died or was removed, and none of one that drains", () => {
    const before = input(site);
    const cuts = [...owedAfter(new Map(), before, input(site, ["b2"])).values()].flat();
    expect(cuts).toMatchObject([
      { protocol: "udp", backend: ip("10.2.0.12"), ports: [8080, 8080], mark: 0x4e000001 },
    ]);
    expect(owedAfter(new Map(), input(site, ["b2"]), input(site, ["b2"])).size).toBe(0);
    expect(owedAfter(new Map(), undefined, before).size).toBe(0);
  });
  it("are of a backend that keeps a range's ports those ports, and no other of its address", () => {
    const pools = { apps: { backends: { b1: "10.2.0.11:5000", b2: "10.2.0.11:8080" } } };
    const services = { media: { on: "edge", listen: "10.0.0.1:5000-5009/udp", forward: { pool: "apps" } } };
    const given = input(makeSite({ pools, services }));
    const ports = (backend: string) => cutsFor(given, "apps", backend, ["udp"]).map((one) => one.ports);
    expect([ports("b1"), ports("b2")]).toEqual([[[5000, 5009]], [[8080, 8080]]]);
  });
});

describe("weights that change by themselves", () => {
  const told = (backend: string, back: number | undefined) => ({
    pool: "apps",
    backend,
    health: "up" as const,
    admin: "enabled" as const,
    reason: "",
    effectiveWeight: 1,
    since: ms(0),
    back: back === undefined ? undefined : ms(back),
  });
  it("grow in tenths over the slow start", () => {
    const site = makeSite({ pools: { apps: { slowStart: "10s", backends: backends(2) } } });
    const at = (back: number | undefined, age: number) => factsOf(site, [told("b1", back)], ms(age));
    expect(at(0, 0)).toMatchObject({ growing: true });
    expect(at(0, 0).facts.get("apps/b1")?.weight).toBeCloseTo(0.1);
    expect(at(3000, 2500).facts.get("apps/b1")?.weight).toBeCloseTo(0.5);
    const whole = { growing: false, facts: new Map([["apps/b1", { health: "up", admin: "enabled" }]]) };
    expect(at(9000, 1000)).toEqual(whole);
    // One that was found up at a start takes its share at once, as those do of which nothing is known yet.
    expect(at(undefined, 0)).toEqual(whole);
  });
  it("send new connections to where fewest are", () => {
    const forward = { pool: "apps", scheduler: "least-connections" as const };
    const site = makeSite({ services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward } } });
    const given = input(site, ["b4"]);
    const flows = (last: number, count: number) => ({
      service: 1,
      backend: Uint8Array.of(10, 2, 0, last),
      port: 8080,
      flows: count,
    });
    const weights = leastWeights(given, [flows(11, 90), flows(12, 10), { ...flows(13, 50), service: 2 }]);
    const [b1 = 0, b2 = 0, b3 = 0, b4] = ["b1", "b2", "b3", "b4"].map((one) => weights.get("web")?.get(one));
    expect(b1).toBeLessThan(b2);
    expect(b2).toBeLessThan(b3);
    expect(b4).toBeUndefined();
    const slots = only(buildTables({ ...given, weights })).sets.find((one) => one.name === "slots-web");
    const targets = [...(slots?.elements.values() ?? [])].map((one) => (one.data as Uint8Array)[3]);
    expect(targets.filter((one) => one === 13).length).toBeGreaterThan(targets.length / 2);
  });
  const least = (pool: Record<string, unknown>, listen = "10.0.0.1:80/tcp") =>
    makeSite({
      pools: { apps: { backends: pool as Record<string, string> } },
      services: {
        web: { on: "edge", listen, forward: { pool: "apps", scheduler: "least-connections" } },
      },
    });
  const many = (weight: (i: number) => number) =>
    Object.fromEntries(
      Array.from({ length: 100 }, (_, i) => [
        `b${i + 1}`,
        { address: `10.2.0.${11 + i}:8080`, weight: weight(i) },
      ]),
    );
  const count = (last: number, flows: number, port = 8080) => ({
    service: 1,
    backend: Uint8Array.of(10, 2, 0, last),
    port,
    flows,
  });
  it("follow the site's weights and the counts among a hundred backends as well", () => {
    const idle = leastWeights(input(least(many((i) => (i % 2 === 0 ? 4 : 1)))), []).get("web");
    expect((idle?.get("b1") ?? 0) / (idle?.get("b2") ?? 1)).toBe(4);
    const busy = Array.from({ length: 99 }, (_, i) => count(12 + i, 50));
    const fresh = leastWeights(input(least(many(() => 1))), busy).get("web");
    expect((fresh?.get("b1") ?? 0) / (fresh?.get("b2") ?? 1)).toBeGreaterThan(3);
  });
  it("give a backend that comes back its fair share until it is counted", () => {
    const site = least(backends(4));
    const weights = leastWeights(
      input(site, ["b4"]),
      [11, 12, 13].map((last) => count(last, 30)),
    );
    const [explained] = explainServices({ ...input(site), weights });
    expect(explained?.backends[3]?.share).toBeCloseTo(0.25, 1);
  });
  it("count all ports of a range on a backend that keeps them, but for those of another backend", () => {
    const pool = { b1: "10.2.0.11:5000", b2: "10.2.0.12:5000", b3: "10.2.0.11:9000" };
    const site = least(pool, "10.0.0.1:5000-5009/tcp");
    const weights = leastWeights(input(site), [count(11, 60, 5003), count(12, 20, 5000)]).get("web");
    expect(weights?.get("b1")).toBeLessThan(weights?.get("b2") ?? 0);
    expect(weights?.get("b2")).toBeLessThan(weights?.get("b3") ?? 0);
  });
  it("are told apart by family: what one has says nothing of the other", () => {
    const six = (last: number, flows: number) => ({
      ...count(0, flows),
      backend: Uint8Array.from({ length: 16 }, (_, i) => (i === 0 ? 0xfd : i === 15 ? last : 0)),
    });
    const site = least({
      b1: "10.2.0.11:8080",
      b2: "10.2.0.12:8080",
      s1: "[fd00::1]:8080",
      s2: "[fd00::2]:8080",
    });
    const weights = leastWeights(input(site), [six(1, 90), six(2, 10), count(11, 5000), count(12, 5000)]).get(
      "web",
    );
    expect(weights?.get("s1")).toBeLessThan((weights?.get("s2") ?? 0) / 2);
    expect(weights?.get("b1")).toBe(1);
  });
  it("keep backups back while another is healthy", () => {
    const pools = {
      apps: { backends: { b1: "10.2.0.11:80", b2: { address: "10.2.0.12:80", backup: true } } },
    };
    const weights = (down: readonly string[]) =>
      input(makeSite({ pools }), down)
        .pools.get("apps")
        ?.backends.map((one) => one.weight);
    expect(weights([])).toEqual([1, 0]);
    expect(weights(["b1"])).toEqual([0, 1]);
    expect(weights(["b1", "b2"])).toEqual([0, 0]);
  });
  it("stop a client at its limits before anything else", () => {
    const forward = { pool: "apps", limits: { sourceConnections: 5, sourceRate: 10 } };
    const site = makeSite({ services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward } } });
    const table = only(tables(site));
    expect(comments(table, "service-web")).toEqual([
      "new connections per second of one client",
      "connections of one client",
      "service web",
      "choose a backend",
    ]);
    expect(recover([table]).serviceIds).toEqual(new Map([["web", 1]]));
  });
});

describe("tables made of kept parts", () => {
  const sorted = (change: NftChange): unknown =>
    "elements" in change
      ? {
          ...change,
          set: change.set.name,
          elements: new Map(change.elements.map((one) => [one.key.join("."), one])),
        }
      : change;
  const v6 = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`s${i}`, `[fd02::${i + 1}]:8080`]));
  const sites = [1, 4, 120].map((count) =>
    makeSite({
      pools: { apps: { backends: { ...backends(count % 90), ...v6(count) } } },
      services: {
        web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } },
        six: { on: "edge", listen: ["[fd00::1]:80/tcp", "10.0.0.1:82/udp"], forward: { pool: "apps" } },
        turns: {
          on: "edge",
          listen: "10.0.0.1:8080-8090/tcp",
          forward: {
            pool: "apps",
            scheduler: "smooth",
            masquerade: "10.2.0.1",
            affinity: { timeout: "30m" },
          },
        },
        direct: {
          on: "edge",
          listen: ["10.0.0.1:81/tcp", "[fd00::1]:81/udp"],
          forward: { pool: "apps", mode: "direct" },
        },
      },
    }),
  );
  const prefixes = [
    { address: ip("10.2.0.0"), length: 24, device: "eth0" },
    { address: ip("fd02::"), length: 64, device: "eth0" },
  ];
  const links = [{ name: "eth0", index: 2, parent: undefined }];
  /** Quicker to compare than objects. Elements of a set have no order. */
  const text = (value: unknown): string =>
    JSON.stringify(value, (_key, one: unknown) =>
      one instanceof Map
        ? [...(one as Map<string, unknown>)].sort(([a], [b]) => (a < b ? -1 : 1))
        : one instanceof Uint8Array
          ? one.join(".")
          : typeof one === "bigint"
            ? String(one)
            : one,
    );
  /** The same without any object in common: the difference must not depend on that. */
  const apart = (table: NftTable): NftTable => ({
    ...table,
    sets: table.sets.map((set) => ({
      ...set,
      elements: new Map([...set.elements].map(([key, one]) => [key, { ...one }])),
    })),
    chains: table.chains.map((chain) => ({ ...chain, rules: chain.rules.map((rule) => ({ ...rule })) })),
  });
  const steps: readonly [site: number, down: readonly string[]][] = [
    [0, []],
    [1, []],
    [1, ["b1", "s0"]],
    [1, ["b2", "s0"]],
    [2, ["b2"]],
    [2, ["b2", "s50"]],
    [2, []],
    [0, ["b1", "s0"]],
    [1, ["b1", "b2", "b3", "b4", "s0", "s1", "s2", "s3"]],
    [1, ["b4"]],
  ];
  it("are those made from nothing, and the difference brings the one before to them", () => {
    const kept = new Kept();
    let ids = new Map<string, number>();
    let before: readonly NftTable[] = [];
    for (const [number, down] of steps) {
      const site = sites.at(number) ?? makeSite();
      const wanted = { ...input(site, down, ids), prefixes, links };
      ids = new Map(wanted.serviceIds);
      const made = buildTables(wanted, kept);
      expect(made.map((one) => one.family)).toEqual(["ip", "ip6", "netdev"]);
      expect(text(made) === text(buildTables(wanted))).toBe(true);
      for (const table of made) {
        const old = before.find((one) => one.family === table.family);
        const same = (changes: readonly NftChange[]) => changes.map((one) => text(sorted(one))).join("\n");
        expect(same(diffTables(old, table))).toBe(same(diffTables(old && apart(old), apart(table))));
      }
      before = made;
    }
  });
  it("have more slots where there are many backends", () => {
    const table = only(tables(makeSite({ pools: { apps: { backends: backends(200) } } })));
    expect(setNamed(table, "slots-web")?.size).toBe(4093);
  });
});
