import { describe, expect, it } from "vitest";
import type { HealthState } from "../contracts/forwarding.ts";
import { diffTables } from "../linux/nftables/diff.ts";
import { type BackendFacts, NO_MEMORY, decide } from "./machine.ts";
import { recover } from "./recover.ts";
import { comments, input, makeSite, only, setNamed, tables } from "./testing/inputs.ts";

describe("limits, ranges and families", () => {
  const on = "edge";
  it("stay in force while no backend takes new connections", () => {
    const limits = { sourceConnections: 5, sourceRate: 10, backendConnections: 20 };
    const forward = { pool: "apps", limits, affinity: { timeout: "30m" } };
    const site = makeSite({ services: { web: { on, listen: "10.0.0.1:80/tcp", forward } } });
    const all = ["b1", "b2", "b3", "b4"];
    const changes = diffTables(only(tables(site)), only(tables(site, all)));
    expect(changes.filter((one) => one.op === "delete-set").map((one) => one.set)).toEqual(["slots-web"]);
    expect(changes.filter((one) => one.op === "delete-chain")).toEqual([]);
    expect(comments(only(tables(site, all)), "service-web")?.slice(0, 2)).toEqual([
      "new connections per second of one client",
      "connections of one client",
    ]);
    expect(comments(only(tables(site, all)), "count")).toContain("connections of one backend");
  });
  it("lead a range in turn to backends that keep the port and to those that do not, each by its own turns", () => {
    const site = makeSite({
      pools: { apps: { backends: { b1: "10.2.0.11:5000", b2: "10.2.0.12:8080", b3: "10.2.0.13:8080" } } },
      services: {
        media: {
          on,
          listen: "10.0.0.1:5000-5009/udp",
          forward: { pool: "apps", scheduler: "smooth" },
        },
      },
    });
    const table = only(tables(site));
    // A rule that draws a number of its own must find a backend for each number.
    const first = (name: string) => setNamed(table, name)?.elements.size;
    expect([first("keep-media.5000"), first("rest-media.5000")]).toEqual([1021, 1021]);
    const turns = first("turn-media.5000") ?? 0;
    expect(turns / 1021).toBeCloseTo(1 / 3, 2);
    const rest = [...(setNamed(table, "rest-media.5000")?.elements.values() ?? [])];
    expect(new Set(rest.map((one) => (one.data as Uint8Array)[3]))).toEqual(new Set([12, 13]));
    expect(recover([table]).taking).toEqual(new Set(["apps/b1", "apps/b2", "apps/b3"]));
  });
  it("choose backups and allDown for each family by itself", () => {
    const pools = {
      apps: {
        backends: {
          p4: "10.2.0.11:80",
          b4: { address: "10.2.0.12:80", backup: true },
          p6: "[fd02::1]:80",
        },
      },
    };
    const pool = input(makeSite({ pools }), ["p4"]).pools.get("apps");
    expect(pool?.backends.map((one) => one.weight)).toEqual([0, 1, 1]);
    const dead = input(makeSite({ pools }), ["p4", "b4"]).pools.get("apps");
    expect(dead?.reason).toBe(
      'IPv4: no backend is healthy; allDown is "none": connections are rejected; IPv6: 1 of 1 backends take connections',
    );
    expect(dead?.rejecting).toBe(false);
  });
  it("remember for each family which backends were healthy last", () => {
    const { pools } = makeSite({
      pools: { apps: { allDown: "last", backends: { p4: "10.2.0.11:80", p6: "[fd02::1]:80" } } },
    });
    const facts = (four: HealthState) =>
      new Map<string, BackendFacts>([
        ["apps/p4", { health: four, admin: "enabled" }],
        ["apps/p6", { health: "up", admin: "enabled" }],
      ]);
    const known = new Set(["apps/p4", "apps/p6"]);
    const first = decide(pools, facts("up"), NO_MEMORY, known);
    const second = decide(pools, facts("down"), first.memory, known);
    const third = decide(pools, facts("down"), second.memory, known);
    expect(third.pools[0]?.backends.map((one) => one.weight)).toEqual([1, 1]);
  });
});
