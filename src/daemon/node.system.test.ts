import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { SiteInput } from "../config/schema/site.ts";
import type { ReloadOutcome } from "../contracts/api.ts";
import { NetworkNamespace } from "../linux/namespace.ts";
import { RealNode, alive, inside } from "./testing/real-node.ts";

/** A node without virtual routers: parent and brain, one backend that answers and one that does not. */
const plainSite: SiteInput = {
  site: "shop",
  nodes: { a: { address: "10.9.0.1" } },
  pools: {
    apps: {
      backends: { closed: "10.9.0.1:9" },
      check: { tcp: true, interval: "100ms", timeout: "90ms", rise: 1, fall: 1 },
    },
  },
};

let namespace: NetworkNamespace;
let node: RealNode;
beforeEach(async () => {
  namespace = NetworkNamespace.create();
  await inside(namespace, "ip", "link", "set", "lo", "up");
  await inside(namespace, "ip", "address", "add", "10.9.0.1/32", "dev", "lo");
  node = new RealNode(namespace);
  node.write(plainSite);
});
afterEach(async () => {
  await node.cleanUp();
  namespace.close();
});

const root = process.getuid?.() === 0;
const ready = () => vi.waitFor(() => expect(node.events("node.ready")).toHaveLength(1), 15_000);

describe.skipIf(!root)("a node", () => {
  it("starts, answers, and leaves no process and no socket when it is told to stop", async () => {
    node.start("a");
    await ready();
    const status = await node.status();
    expect([status.site, status.node, status.processes.map((each) => each.phase)]).toEqual([
      "shop",
      "a",
      ["running"],
    ]);
    const pids = node.processes().flatMap(({ pid }) => pid ?? []);
    node.signal("SIGTERM");
    expect(await node.ended).toBe(0);
    expect(pids.filter(alive)).toEqual([]);
    expect(readdirSync(node.runtime)).toEqual([]);
  });

  it("starts a killed brain again, with what it knew, and replaces it on SIGUSR2", async () => {
    node.start("a");
    await ready();
    const first = node.pidOf("brain");
    process.kill(first, "SIGKILL");
    await vi.waitFor(() => expect(node.events("child.ready")).toHaveLength(2), 10_000);
    await vi.waitFor(
      async () => expect((await node.status()).processes[0]).toMatchObject({ restarts: 1 }),
      5000,
    );
    // A file that became wrong meanwhile does not hinder it.
    node.write("site: [");
    const second = node.pidOf("brain");
    node.signal("SIGUSR2");
    await vi.waitFor(() => expect(node.events("child.ready")).toHaveLength(3), 10_000);
    expect(new Set([first, second, node.pidOf("brain")]).size).toBe(3);
    const status = await node.status();
    expect([status.site, status.alarms.map((each) => each.name)]).toEqual([
      "shop",
      expect.arrayContaining(["site_rejected"]),
    ]);
  });

  it("reloads a good file, and for a bad one changes nothing and says why", async () => {
    node.start("a");
    await ready();
    node.write("site: shop\nnodez: {}\n");
    const bad = await node.ask<ReloadOutcome>("POST", "/v1/reload", {});
    expect([bad.ok, bad.errors.length > 0]).toEqual([false, true]);
    expect((await node.status()).pools).toHaveLength(1);
    node.write({ ...plainSite, pools: {} });
    node.signal("SIGHUP");
    await vi.waitFor(async () => expect((await node.status()).pools).toHaveLength(0), 5000);
    expect((await node.status()).lastReload?.ok).toBe(true);
  });

  it("ends its children when the parent is killed", async () => {
    node.start("a");
    await ready();
    const brain = node.pidOf("brain");
    node.signal("SIGKILL");
    await vi.waitFor(() => expect(alive(brain)).toBe(false), 5000);
    // And starts again over what the dead one left in its directory.
    const before = node.log.length;
    node.start("a");
    await vi.waitFor(
      () => expect(node.log.slice(before).map((each) => each.event)).toContain("node.ready"),
      15_000,
    );
  });

  it("says plainly why it cannot start", async () => {
    node.start("z");
    expect(await node.ended).toBe(5);
    expect(node.stderr).toContain("the site shop has no node z; it has a");
    node.write("site: shop\nnodes: { a: { adress: 10.0.0.1 } }\n");
    node.start("a");
    expect(await node.ended).toBe(3);
    expect(node.stderr).toMatch(/site\.yaml:2:\d+: nodes\.a/);
    expect(existsSync(join(node.runtime, "control.sock"))).toBe(false);
  });

  it("starts with the site accepted last where that is asked for and the file has become wrong, and says so", async () => {
    node.start("a", "--last-good");
    await ready();
    node.signal("SIGTERM");
    expect(await node.ended).toBe(0);
    for (const wrong of ["site: [", "site: shop\nnodes: { z: { address: 10.9.0.1 } }\n"]) {
      node.write(wrong);
      const before = node.log.length;
      node.start("a", "--last-good");
      await vi.waitFor(
        () => expect(node.log.slice(before).map((each) => each.event)).toContain("node.ready"),
        15_000,
      );
      expect(node.log.slice(before).find((each) => each.event === "site.rejected")).toMatchObject({
        level: "error",
      });
      const status = await node.status();
      expect([status.pools.length, status.alarms.map((each) => each.name)]).toEqual([
        1,
        expect.arrayContaining(["site_rejected"]),
      ]);
      node.signal("SIGTERM");
      expect(await node.ended).toBe(0);
    }
    // Without it, whoever starts a node by hand is told, and so is one that never ran.
    node.write("site: [");
    node.start("a");
    expect(await node.ended).toBe(3);
  }, 60_000);

  it("refuses to run twice in one directory", async () => {
    node.start("a");
    await ready();
    const second = new RealNode(namespace);
    Object.assign(second, { runtime: node.runtime });
    second.write(plainSite);
    second.start("a");
    expect(await second.ended).toBe(5);
    expect(second.stderr).toContain("another process already serves");
    expect((await node.status()).node).toBe("a");
    Object.assign(second, { runtime: second.directory });
    await second.cleanUp();
  });
});
