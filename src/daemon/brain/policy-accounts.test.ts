import { describe, expect, it } from "vitest";
import { ms } from "../../base/time.ts";
import { backend, pairInput, router, site } from "../testing/fakes.ts";
import type { Facts } from "./policy.ts";
import { answers, judgements } from "./policy-accounts.ts";

const facts = (more: Partial<Facts> = {}): Facts => ({
  site: site(),
  node: "a",
  backends: [backend("one", "up"), backend("two", "down")],
  scripts: new Map(),
  routers: [router({ state: "active" })],
  redundancySilence: 0,
  age: 60_000,
  forwardingProblem: "",
  differing: [],
  siteProblem: "",
  ...more,
});
const down = [backend("one", "down"), backend("two", "up", { admin: "maintenance" })];

describe("whether a service serves", () => {
  it("is for the Active to say, from its backends and its tables", () => {
    expect(judgements(facts())).toEqual([{ service: "web", cause: undefined }]);
    expect(judgements(facts({ backends: down }))).toEqual([
      {
        service: "web",
        cause: "no backend of apps is healthy: one (connection refused), two (in maintenance)",
      },
    ]);
    expect(judgements(facts({ backends: [backend("one", "unknown")] }))[0]?.cause).toBeUndefined();
    expect(judgements(facts({ forwardingProblem: "no rights" }))[0]?.cause).toBe("not forwarded: no rights");
  });
  it("is not for a Backup: what it cannot reach the Active may", () => {
    expect(judgements(facts({ backends: down, routers: [router()] }))).toEqual([
      { service: "web", cause: undefined },
    ]);
  });
  it("is unknown while nothing is heard", () => {
    expect(judgements(facts({ routers: undefined }))).toEqual([]);
    expect(judgements(facts({ routers: [router({ active: undefined })] }))).toEqual([]);
    expect(judgements(facts({ routers: [router({ state: "initialize" })] }))).toEqual([]);
  });
  it("is no where every node says that it cannot", () => {
    const fault = (others: { node: string; state: "fault" | "active" }[]) =>
      judgements(facts({ routers: [router({ state: "fault", reason: "eth0 is down", others })] }))[0]?.cause;
    expect(fault([{ node: "b", state: "fault" }])).toBe("no node can serve edge; this one: eth0 is down");
    expect(fault([{ node: "b", state: "active" }])).toBeUndefined();
    // Cut off: the other may well be fine.
    expect(fault([])).toBeUndefined();
  });
  it("of a proxy asks all its pools", () => {
    const proxied = site({
      ...pairInput,
      services: {
        web: { listen: "10.0.0.2:80/tcp", proxy: { routes: [{ pool: { apps: 1 } }] } },
      },
    });
    expect(judgements(facts({ site: proxied, backends: down, routers: undefined }))[0]?.cause).toContain(
      "apps",
    );
  });
});

it("answers are a proxy's that are no 5xx, and a forwarder's connections", () => {
  const sample = (name: string, labels: Record<string, string>, value: number) =>
    ({ name, help: "", kind: "counter", labels, value }) as const;
  expect(
    answers([
      sample("nines_proxy_route_responses_total", { service: "web", route: "a", status: "2xx" }, 90),
      sample("nines_proxy_route_responses_total", { service: "web", route: "b", status: "5xx" }, 4),
      sample("nines_proxy_route_responses_total", { service: "web", route: "b", status: "4xx" }, 6),
      sample("nines_forwarding_connections_total", { service: "dns", backend: "x" }, ms(7)),
      sample("nines_daemon_memory_bytes", {}, 1),
    ]),
  ).toEqual(
    new Map([
      ["web", { good: 96, bad: 4 }],
      ["dns", { good: 7, bad: 0 }],
    ]),
  );
});
