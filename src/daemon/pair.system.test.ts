import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { SystemClock } from "../base/system-clock.ts";
import { timeSince } from "../base/time.ts";
import type { SwitchoverOutcome } from "../contracts/api.ts";
import type { NetworkNamespace } from "../linux/namespace.ts";
import { type RealNode, alive, inside } from "./testing/real-node.ts";
import { type NodePair, PAIR, edgeSite, openPair } from "./testing/sites.ts";

const pairSite = edgeSite(PAIR);

const clock = new SystemClock();
let pair: NodePair;
let first: NetworkNamespace;
let second: NetworkNamespace;
let a: RealNode;
let b: RealNode;
beforeEach(async () => {
  pair = await openPair(pairSite);
  ({ first, second, a, b } = pair);
});
afterEach(() => pair.end());

const stateOf = async (node: RealNode): Promise<string | undefined> =>
  (await node.status().catch(() => undefined))?.routers[0]?.state;
const becomes = (node: RealNode, state: string) =>
  vi.waitFor(async () => expect(await stateOf(node)).toBe(state), { timeout: 15_000, interval: 50 });
const holds = async (namespace: NetworkNamespace): Promise<boolean> =>
  (await inside(namespace, "ip", "-4", "address", "show", "dev", "wire0")).includes("10.9.0.1/32");

const root = process.getuid?.() === 0;

describe.skipIf(!root)("two nodes", () => {
  it("share an address: one serves, a switchover moves it, a stop hands it back and leaves nothing", async () => {
    a.start("a");
    await becomes(a, "active");
    b.start("b");
    await becomes(b, "backup");
    expect([await holds(first), await holds(second)]).toEqual([true, false]);
    const outcome = await a.ask<SwitchoverOutcome>("POST", "/v1/switchover", { to: "b" });
    expect(outcome.active).toBe("b");
    await becomes(b, "active");
    expect([await holds(first), await holds(second)]).toEqual([false, true]);
    const pids = b.processes().flatMap(({ pid }) => pid ?? []);
    b.signal("SIGTERM");
    await becomes(a, "active");
    expect(await b.ended).toBe(0);
    expect([await holds(second), pids.filter(alive)]).toEqual([false, []]);
    expect((await inside(second, "nft", "list", "ruleset")).trim()).toBe("");
  });

  it("keeps the address where it is while a brain, or the program, is replaced", async () => {
    a.start("a");
    await becomes(a, "active");
    b.start("b");
    await becomes(b, "backup");
    process.kill(a.pidOf("brain"), "SIGKILL");
    await vi.waitFor(
      () => expect(a.processes().find((each) => each.name === "brain")?.restarts).toBe(1),
      5000,
    );
    await becomes(a, "active");
    const before = new Set(a.processes().map(({ pid }) => pid));
    a.signal("SIGUSR2");
    await vi.waitFor(
      () => {
        expect(a.processes().some(({ pid, phase }) => before.has(pid) || phase !== "running")).toBe(false);
      },
      { timeout: 20_000 },
    );
    await becomes(a, "active");
    expect([await holds(first), await holds(second), await stateOf(b)]).toEqual([true, false, "backup"]);
    // b saw nothing of it.
    expect((await b.status()).routers[0]?.transitions).toBeLessThanOrEqual(2);
    expect(b.events("vrrp.state_changed").filter((each) => each["to"] === "active")).toEqual([]);
  });

  it("does not take the node that hands over for a duplicate, and reports a real one", async () => {
    a.start("a");
    await becomes(a, "active");
    b.start("b");
    await becomes(b, "backup");
    await vi.waitFor(() => a.ask("POST", "/v1/switchover", {}), { timeout: 15_000, interval: 200 });
    await becomes(b, "active");
    // Past the lease: whoever looks for duplicates has looked.
    await new Promise((resolve) => setTimeout(resolve, 5000));
    for (const node of [a, b]) expect(node.events("redundancy.duplicate_address")).toEqual([]);
    await becomes(b, "active");
    // A foreign host takes the address: a's kernel without a fence, and without nines.
    a.signal("SIGTERM");
    await a.ended;
    await inside(first, "ip", "address", "add", "10.9.0.1/32", "dev", "wire0");
    b.signal("SIGTERM");
    await b.ended;
    b.start("b");
    const alarms = async (): Promise<string[]> => (await b.status()).alarms.map(({ name }) => name);
    const patient = { timeout: 30_000, interval: 200 };
    await vi.waitFor(async () => expect(await alarms()).toContain("duplicate_address"), patient);
    // A brain that comes later hears of it, too: redundancy may have found it before there was one.
    const brain = b.pidOf("brain");
    process.kill(brain, "SIGKILL");
    await vi.waitFor(async () => {
      expect([-1, brain]).not.toContain(b.pidOf("brain"));
      expect(await alarms()).toContain("duplicate_address");
    }, patient);
    await inside(first, "ip", "address", "delete", "10.9.0.1/32", "dev", "wire0");
    await vi.waitFor(async () => expect(await alarms()).not.toContain("duplicate_address"), patient);
  }, 120_000);

  it("keeps the address over a restart of the whole node, as systemctl restart does it", async () => {
    b.start("b");
    a.start("a");
    await vi.waitFor(async () => expect([await stateOf(a), await stateOf(b)]).toContain("active"), {
      timeout: 15_000,
      interval: 100,
    });
    if ((await stateOf(a)) !== "active")
      await vi.waitFor(() => b.ask("POST", "/v1/switchover", { to: "a" }), {
        timeout: 15_000,
        interval: 300,
      });
    await becomes(a, "active");
    await becomes(b, "backup");
    // The others wait for six seconds; on a busy machine a start may take longer, and says nothing then.
    for (let attempt = 1; ; attempt++) {
      const before = b.events("vrrp.state_changed").length;
      const started = clock.monotonic();
      a.signal("SIGQUIT");
      expect(await a.ended).toBe(0);
      expect(await holds(first)).toBe(true);
      a.start("a");
      await becomes(a, "active");
      const took = timeSince(clock.monotonic(), started);
      const changes = b.events("vrrp.state_changed").slice(before);
      if (took > 5000 && attempt < 3) {
        await vi.waitFor(async () => expect(await stateOf(b)).toBe("backup"), {
          timeout: 15_000,
          interval: 100,
        });
        continue;
      }
      if (took <= 5000) expect(changes).toEqual([]);
      break;
    }
    expect([await holds(first), await holds(second)]).toEqual([true, false]);
  }, 120_000);

  it("hands the address over when the parent alone is killed, and leaves no process", async () => {
    a.start("a");
    await becomes(a, "active");
    b.start("b");
    await becomes(b, "backup");
    const pids = a.processes().flatMap(({ pid }) => pid ?? []);
    a.signal("SIGKILL");
    await becomes(b, "active");
    await vi.waitFor(() => expect(pids.filter(alive)).toEqual([]), { timeout: 15_000, interval: 100 });
    const [taken] = b.events("vrrp.state_changed").filter((each) => each["to"] === "active");
    expect(taken?.reason).toBe("handed over by a");
    expect(
      a
        .events("process.orphaned")
        .map((each) => each.process)
        .sort(),
    ).toEqual(["brain", "redundancy"]);
    expect([await holds(first), await holds(second)]).toEqual([false, true]);
    // And systemd starts it again.
    a.start("a");
    await becomes(a, "backup");
  }, 120_000);

  it("names a node that runs another site file, and goes on", async () => {
    b.write({ ...pairSite, pools: { apps: { backends: { one: "10.9.0.9:80" } } } });
    a.start("a");
    b.start("b");
    for (const node of [a, b]) {
      await vi.waitFor(
        async () => expect((await node.status()).alarms.map((each) => each.name)).toContain("site_differs"),
        { timeout: 15_000, interval: 100 },
      );
    }
    expect(new Set([await stateOf(a), await stateOf(b)])).toEqual(new Set(["active", "backup"]));
  });

  it("takes over when every process of the Active is killed", async () => {
    a.start("a");
    await becomes(a, "active");
    b.start("b");
    await becomes(b, "backup");
    a.signal("SIGKILL");
    for (const { pid } of a.processes()) if (pid !== undefined) process.kill(pid, "SIGKILL");
    await becomes(b, "active");
    expect(await holds(second)).toBe(true);
  });
});
