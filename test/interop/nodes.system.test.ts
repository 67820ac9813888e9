/** Two nodes of a site on one LAN: the conformance cases that need a kernel (22, 23, 24), and how an address moves. */
import { beforeAll, describe, expect, it } from "vitest";
import { canNamespace, runScenario } from "../../src/linux/nftables/testing/namespace.ts";

const able = canNamespace("nft", "bridge");

describe.skipIf(!able)("two nodes", { timeout: 120_000 }, () => {
  let seen: Record<string, unknown>;
  beforeAll(async () => {
    seen = await runScenario(new URL("nodes-scenario.ts", import.meta.url), 110_000);
    expect(seen["noise"]).toBe("");
  }, 120_000);

  it("let one hold both families' addresses, and know each other by name", () => {
    expect(seen["start"]).toEqual({ holders: ["a"], holders6: ["a"], activeAsBSees: "a" });
  });
  it("run hooks with what happened as JSON", () => {
    expect(seen["hook"]).toMatchObject({ router: "edge", node: "a", state: "active", previous: "backup" });
  });
  it("bring a deleted address back within a second, and say who deleted it", () => {
    expect(seen["restored"]).toEqual({ within1s: true, events: 2 });
  });
  it("hand over without a lost connection attempt, commanded on either node", () => {
    expect(seen["switchover"]).toMatchObject({ ok: true });
    expect(seen["switchoverLost"]).toBe(0);
    expect(seen["switchoverHolders"]).toEqual(["b"]);
    expect(seen["switchoverAskedOnBackup"]).toMatchObject({ ok: true });
    expect(seen["switchoverBackHolders"]).toEqual(["a"]);
    expect(seen["switchoverUnknown"]).toMatchObject({ ok: false, error: "edge has no node c; it has a, b" });
  });
  it("end with one owner after SIGSTOP and CONT; the sleeper's addresses had expired (case 22)", () => {
    expect(seen["stall"]).toEqual({
      takeover: true,
      lost: 0,
      expired: true,
      woke: true,
      holders: ["b"],
      states: ["backup", "active"],
    });
  });
  it("leave nothing behind after kill -9, once the lease is over (case 23)", () => {
    expect(seen["kill"]).toEqual({ takeover: true, gone: true, holders: ["a"] });
  });
  it("stay as they are when the Active is deaf, and are two when the Backup is, until it heals (case 24)", () => {
    expect(seen["deafActive"]).toEqual({ states: ["active", "backup"] });
    expect(seen["deafBackup"]).toEqual({ states: ["active", "active"], two: true });
    expect(seen["healed"]).toEqual({ states: ["active", "backup"], holders: ["a"] });
  });
  it("fault with the link, and do not take back by themselves", () => {
    expect(seen["linkDown"]).toEqual({ takeover: true, reason: "eth0 is down" });
    expect(seen["linkUp"]).toEqual({ states: ["backup", "active"] });
  });
  it("say when their site files differ, and when they agree again", () => {
    expect(seen["differs"]).toEqual({ told: true, states: ["backup", "active"] });
    expect(seen["agrees"]).toBe(true);
  });
  it("reload without a flap, and wait for an interface", () => {
    expect(seen["reload"]).toEqual({ added: true, removed: true, flapped: false });
    expect(seen["missing"]).toEqual({ reason: 'there is no interface "eth9"', came: true });
  });
  it("keep the address without a brain, at a lower priority", () => {
    expect(seen["reported"]).toEqual({ lowered: true, state: "active", failing: "nines brain" });
  });
  it("leave no address, table or link when stopped", () => {
    expect(seen["stopped"]).toEqual({ holders: [], tables: "" });
    expect(seen["virtualMacStopped"]).toEqual([]);
  });
  it("use the protocol's MAC on a link that is down while Backup", () => {
    expect(seen["virtualMac"]).toEqual({
      lost: 0,
      neighbour: "00:00:5e:00:01:33",
      active: [["00:00:5e:00:01:33", true]],
      backup: [["00:00:5e:00:01:33", false]],
      held: ["10.0.0.100"],
      arpIgnore: "1",
    });
    expect(seen["virtualMacSwitchover"]).toMatchObject({ ok: true });
    expect(seen["virtualMacLost"]).toBe(0);
  });
  it("go on in a successor process while the lease holds the addresses", () => {
    expect(seen["restart"]).toEqual({ kept: true, resumed: true, other: 1, state: "active" });
  });
});
