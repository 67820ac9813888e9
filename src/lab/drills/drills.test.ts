import { describe, expect, it } from "vitest";
import { DRILL_NAMES, drillsSchema } from "../../config/schema/lab.ts";
import { siteSchema } from "../../config/schema/site.ts";
import { whyRefused } from "../outer.ts";
import { promisesOf } from "../promises.ts";
import { allDrills } from "./index.ts";

const site = siteSchema.parse({
  site: "shop",
  nodes: { lb1: { address: "10.0.0.2" }, lb2: { address: "10.0.0.3" } },
  virtualRouters: {
    edge: {
      priorities: { lb1: 110, lb2: 100 },
      interval: "100ms",
      members: [{ interface: "eth0", vrid: 51, addresses: ["10.0.0.1"] }],
    },
  },
  pools: {
    apps: {
      backends: { app1: "10.0.0.11:80" },
      check: { tcp: true, interval: "1s", timeout: "500ms", fall: 3 },
    },
  },
});

describe("drills", () => {
  it("are those that a site file may give budgets for, in the same order", () => {
    expect(allDrills().map(({ name }) => name)).toEqual([...DRILL_NAMES]);
    expect(drillsSchema.safeParse({ "power-cut": { gap: "450ms" } }).success).toBe(true);
    expect(drillsSchema.safeParse({ "power-cuts": { gap: "450ms" } }).success).toBe(false);
  });

  it("promise what the protocol promises: three intervals, the skew, and 100 ms to work in", () => {
    const promises = promisesOf(site);
    // 3 * 100 ms + (256 - 100) * 100 ms / 256 (RFC 9568, 6.1)
    expect(promises).toEqual({ interval: 100, activeDown: 361, lease: 2000, checkFall: 4800 });
    const cut = allDrills().find(({ name }) => name === "power-cut");
    expect(cut?.budget(promises)).toEqual({ gap: 461, takeovers: 1 });
  });

  it("judge something, each of them, and tell a story", () => {
    for (const drill of allDrills()) {
      expect(Object.keys(drill.budget(promisesOf(site))).length, drill.name).toBeGreaterThan(0);
      expect(drill.story, drill.name).toMatch(/\w.*[.]$/);
    }
  });
});

describe("a machine that refuses namespaces", () => {
  const reading = (values: { [path: string]: string }) => (path: string) => values[path];
  it("is told why, with the command that helps", () => {
    expect(whyRefused(reading({ "kernel/apparmor_restrict_unprivileged_userns": "1" }))).toContain(
      "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    );
    expect(whyRefused(reading({ "kernel/unprivileged_userns_clone": "0" }))).toContain(
      "kernel.unprivileged_userns_clone=1",
    );
    expect(whyRefused(reading({ "user/max_user_namespaces": "0" }))).toContain(
      "user.max_user_namespaces=10000",
    );
    expect(whyRefused(reading({}))).toContain("--cap-add SYS_ADMIN");
  });
});
