import { describe, expect, it } from "vitest";
import { ip } from "../base/addresses.ts";
import { ms } from "../base/time.ts";
import type { NodeStatus } from "../contracts/api.ts";
import { painter, plain, table, width } from "./paint.ts";
import { rough, statusText } from "./status-text.ts";

const status: NodeStatus = {
  site: "shop",
  node: "lb1",
  version: "0.1.0",
  siteFile: "/etc/nines/site.yaml",
  digest: "0123456789abcdef",
  startedAt: "2026-01-01T00:00:00Z",
  lastReload: { at: "2026-01-01T00:00:00Z", ok: false, errors: ["site.yaml:1:1: bad"], changes: [] },
  admin: { state: "enabled" as const, phase: "done" as const, left: [] },
  processes: [{ name: "redundancy", index: 0, phase: "running", pid: 42, restarts: 1 }],
  redundancy: { connected: true, counters: {} },
  forwarding: { good: true, reason: "" },
  routers: [
    {
      router: "edge",
      state: "backup",
      reason: "lb2 advertises priority 100",
      priority: 60,
      basePriority: 110,
      failing: [],
      active: { node: "lb2", address: ip("10.0.0.3"), priority: 100 },
      addresses: [],
      transitions: 2,
      since: ms(125_000),
      counters: {},
    },
  ],
  pools: [],
  services: [
    {
      service: "web",
      router: "edge",
      listen: ["10.0.0.1:80/tcp"],
      kind: "forward",
      pool: "apps",
      here: false,
    },
  ],
  alarms: [{ name: "pool_down", severity: "critical", about: "apps", message: "no backend is healthy" }],
};

describe("status for people", () => {
  it("says who is Active, what is wrong and what was refused", () => {
    const text = statusText(status, plain);
    expect(text).toContain("CRITICAL apps: no backend is healthy");
    expect(text).toMatch(/edge +backup +2m +60 \(of 110\) +lb2/);
    expect(text).toMatch(/redundancy +running +42 +1/);
    expect(text).toContain("site.yaml:1:1: bad");
    expect(text).not.toContain("Backends");
  });
  it("is aligned with colours as without", () => {
    const paint = painter({ isTTY: true });
    const rows = table([
      [paint("red", "a"), "b"],
      ["long", "c"],
    ]);
    expect(rows.map(width)).toEqual([7, 7]);
    expect([850, 12_000, 110_000, 250_000, 9e8].map(rough)).toEqual(["850ms", "12s", "110s", "4m", "10d"]);
  });
});
