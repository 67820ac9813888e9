import { describe, expect, it } from "vitest";
import { ip } from "../../base/addresses.ts";
import { ms } from "../../base/time.ts";
import { siteSchema } from "../../config/schema/site.ts";
import type { NodeStatus } from "../../contracts/api.ts";
import type { BackendStatus } from "../../contracts/forwarding.ts";
import type { RouterStatus } from "../../contracts/redundancy.ts";
import { backend, router, site } from "../testing/fakes.ts";
import { metricSamples } from "./metrics.ts";
import { explainBackend, explainRouter } from "./policy-explain.ts";
import { type Facts, alarms, poolStatuses, reportedTracks, serviceStatuses } from "./policy.ts";

const facts = (more: Partial<Facts> = {}): Facts => ({
  site: site(),
  node: "a",
  backends: [backend("one", "up"), backend("two", "up")],
  scripts: new Map(),
  routers: [router()],
  redundancySilence: 0,
  age: 60_000,
  forwardingProblem: "",
  differing: [],
  siteProblem: "",
  ...more,
});

const status = (more: Partial<Facts> = {}): NodeStatus => {
  const all = facts(more);
  return {
    site: "shop",
    node: "a",
    version: "1",
    siteFile: "site.yaml",
    digest: "d",
    startedAt: "2026-01-01T00:00:00Z",
    admin: { state: "enabled", phase: "done", left: [] },
    processes: [{ name: "brain", index: 0, phase: "running", pid: 1, restarts: 0 }],
    redundancy: { connected: all.routers !== undefined, counters: { lateTimers: 2 } },
    forwarding: { good: true, reason: "" },
    routers: all.routers ?? [],
    pools: poolStatuses(all),
    services: serviceStatuses(all),
    alarms: alarms(all),
  };
};

const says = (routers: Partial<RouterStatus>): string =>
  explainRouter(status({ routers: [router(routers)] }), site(), "edge")?.sentences.join(" ") ?? "";
const saysOf = (backends: BackendStatus[]): string =>
  explainBackend(status({ backends }), site(), [], "apps", "one")?.sentences.join(" ") ?? "";

describe("tracked pools", () => {
  it("counts what is healthy and enabled; what has not been checked yet fails nothing", () => {
    const good = (...backends: BackendStatus[]): boolean | undefined =>
      reportedTracks(facts({ backends }))[0]?.good;
    expect(good(backend("one", "up"), backend("two", "down"))).toBe(true);
    expect(good(backend("one", "down"), backend("two", "down"))).toBe(false);
    expect(good(backend("one", "unknown"), backend("two", "down"))).toBe(true);
    expect(good(backend("one", "up", { admin: "drain" }), backend("two", "down"))).toBe(false);
  });
});

describe("services", () => {
  it("without a virtual router are here where this node listens", () => {
    const one = siteSchema.parse({
      site: "shop",
      nodes: { a: { address: "10.0.0.2" }, b: { address: "10.0.0.3" } },
      pools: { apps: { backends: { one: "10.0.0.9:80" } } },
      services: {
        mine: { listen: "10.0.0.2:80/tcp", proxy: { pool: "apps" } },
        theirs: { listen: "10.0.0.3:80/tcp", proxy: { pool: "apps" } },
        everywhere: { listen: "0.0.0.0:81/tcp", proxy: { pool: "apps" } },
      },
    });
    const found = serviceStatuses(facts({ site: one, routers: [] }));
    expect(found.filter(({ here }) => here).map(({ service }) => service)).toEqual(["mine", "everywhere"]);
  });
});

describe("alarms", () => {
  const names = (more: Partial<Facts>): string[] => alarms(facts(more)).map((each) => each.name);
  it("are silent while all is well", () => {
    expect(names({})).toEqual([]);
  });
  it("name what is wrong", () => {
    expect(names({ routers: undefined, redundancySilence: 3000 })).toEqual(["redundancy_silent"]);
    expect(names({ routers: undefined, redundancySilence: 500 })).toEqual([]);
    expect(names({ routers: [router({ state: "fault" })] })).toEqual(["router_fault"]);
    expect(names({ routers: [router({ active: undefined })] })).toEqual(["no_active"]);
    // A node that starts has not had the time to hear anybody, nor to start a worker.
    expect(names({ routers: [router({ active: undefined, since: ms(200) })] })).toEqual([]);
    expect(names({ proxyProblem: "no proxy worker runs", age: 500 })).toEqual([]);
    expect(names({ proxyProblem: "no proxy worker runs" })).toEqual(["proxy_down"]);
    expect(names({ proxyProblem: "", proxyShort: "1 of 2" })).toEqual(["proxy_degraded"]);
    expect(names({ proxyProblem: "no proxy worker runs", proxyShort: "0 of 2" })).toEqual(["proxy_down"]);
    expect(names({ proxyProblem: "", proxyStale: "web.crt: ENOENT" })).toEqual(["proxy_stale"]);
    expect(names({ backends: [backend("one", "down"), backend("two", "up")] })).toEqual(["pool_degraded"]);
    expect(names({ backends: [backend("one", "down"), backend("two", "down")] })).toEqual(["pool_down"]);
    expect(names({ isolated: "all 2 checks fail at once" })).toContain("node_isolated");
    expect(
      names({ forwardingProblem: "x", siteProblem: "y", differing: [{ node: "b", digest: "e" }] }),
    ).toEqual(["forwarding_broken", "site_differs", "site_rejected"]);
  });
});

describe("explanations", () => {
  it("say why a node is Active or not", () => {
    expect(says({ state: "active", addresses: [ip("10.0.0.1")], reason: "no one else was heard" })).toContain(
      "It is Active for 61s: no one else was heard. It holds 10.0.0.1.",
    );
    expect(says({})).toContain(
      "b is Active and advertises priority 120; ours is 110. The higher priority stays",
    );
    expect(says({ active: { node: "b", address: ip("10.0.0.3"), priority: 100 } })).toContain(
      "preempt is off",
    );
    expect(says({ active: undefined })).toContain("No advertisement is heard");
    expect(says({ state: "fault", reason: "eth0 is down" })).toContain(
      "out of the election for 61s: eth0 is down",
    );
    expect(says({ state: "initialize", reason: "start delay" })).toContain("has not begun");
    const lowered = { priority: 60, failing: [{ name: "pool apps", reason: "0 healthy", lower: 50 }] };
    expect(says(lowered)).toContain(
      "60 instead of 110. pool apps fails (0 healthy), which lowers the priority by 50.",
    );
    expect(explainRouter(status(), site(), "none")).toBeUndefined();
    expect(explainRouter({ ...status(), node: "c" }, site(), "edge")?.sentences[0]).toContain(
      "does not run on c",
    );
  });
  it("say why a backend gets traffic or none", () => {
    expect(saysOf([backend("one", "up")])).toContain("takes new connections, with weight 1");
    expect(saysOf([backend("one", "down")])).toContain("Its checks say down for 5s: connection refused.");
    expect(saysOf([backend("one", "up", { admin: "drain", effectiveWeight: 0 })])).toContain(
      "drained by an operator",
    );
    expect(saysOf([backend("one", "down", { effectiveWeight: 1 })])).toContain("none of its pool is healthy");
    expect(saysOf([backend("one", "up")])).toContain(
      "not served by this node now: it is not Active for edge",
    );
    expect(saysOf([])).toContain("only just started");
  });
});

describe("metrics", () => {
  it("are named nines_<room>_<noun>_<unit>, told once per set of labels, and never labelled by an address", () => {
    const all = metricSamples(
      status({ backends: [backend("one", "down"), backend("two", "down")] }),
      { transactions: 1 },
      1,
    );
    const seen = new Set<string>();
    for (const { name, kind, help, labels } of all) {
      expect(name).toMatch(/^nines_(daemon|redundancy|health|forwarding)_[a-z]+(_[a-z]+)*$/);
      expect(name.endsWith("_total"), name).toBe(kind === "counter");
      expect(help).toMatch(/\.$/);
      expect(Object.keys(labels).some((label) => /address|client|ip/.test(label))).toBe(false);
      const key = `${name} ${JSON.stringify(labels)}`;
      expect(seen.has(key), key).toBe(false);
      seen.add(key);
    }
    const sets = new Map(all.map(({ name, labels }) => [name, Object.keys(labels).join(",")]));
    for (const { name, labels } of all) expect(Object.keys(labels).join(",")).toBe(sets.get(name));
  });
});
