import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { VirtualClock } from "../base/virtual-clock.ts";
import { ms } from "../base/time.ts";
import { AdminStates } from "./admin.ts";
import { HealthMemory } from "./memory.ts";

const directory = mkdtempSync(join(tmpdir(), "nines-admin-"));
afterAll(() => rmSync(directory, { recursive: true }));
const path = (name: string): string => join(directory, name);

describe("what operators asked", () => {
  it("outlives the process where it is to be kept", async () => {
    const first = await AdminStates.open(path("deep/er/admin.json"));
    expect(first.get("apps", "a")).toBe("enabled");
    await first.set("apps", "a", "drain", true);
    await first.set("apps", "b", "maintenance", false);
    expect([first.get("apps", "a"), first.get("apps", "b")]).toEqual(["drain", "maintenance"]);
    const second = await AdminStates.open(path("deep/er/admin.json"));
    expect([second.get("apps", "a"), second.get("apps", "b"), second.problem]).toEqual([
      "drain",
      "enabled",
      "",
    ]);
    // For now, without touching what is kept.
    await second.set("apps", "a", "enabled", false);
    expect(second.get("apps", "a")).toBe("enabled");
    expect((await AdminStates.open(path("deep/er/admin.json"))).get("apps", "a")).toBe("drain");
    await second.set("apps", "a", "enabled", true);
    expect((await AdminStates.open(path("deep/er/admin.json"))).get("apps", "a")).toBe("enabled");
  });

  it("loses none of many commands at once", async () => {
    const states = await AdminStates.open(path("many.json"));
    const names = Array.from({ length: 20 }, (_, i) => `b${i}`);
    await Promise.all(names.map((name) => states.set("apps", name, "drain", true)));
    const again = await AdminStates.open(path("many.json"));
    expect(names.map((name) => again.get("apps", name))).toEqual(names.map(() => "drain"));
    expect(readdirSync(directory).filter((name) => name.endsWith(".new"))).toEqual([]);
  });

  it.each([
    ["half.json", '{ "version": 1, "backends": { "apps/'],
    ["shape.json", '{ "version": 1, "backends": { "apps/a": "asleep" } }'],
    ["newer.json", '{ "version": 2, "backends": {} }'],
  ])("starts without %s, which is kept aside", async (name, text) => {
    writeFileSync(path(name), text);
    const states = await AdminStates.open(path(name));
    expect(states.problem).toContain(`it is kept as ${path(name)}.unreadable`);
    expect(readFileSync(`${path(name)}.unreadable`, "utf8")).toBe(text);
    await states.set("apps", "a", "drain", true);
    expect((await AdminStates.open(path(name))).get("apps", "a")).toBe("drain");
  });

  it("says so where it cannot be kept, and changes nothing", async () => {
    writeFileSync(path("file"), "");
    const states = await AdminStates.open(path("file/admin.json"));
    await expect(states.set("apps", "a", "drain", true)).rejects.toMatchObject({ code: "FILE_UNREADABLE" });
    expect(states.get("apps", "a")).toBe("enabled");
  });
});

describe("what was known before a restart", () => {
  it("is written a while after a change, once", async () => {
    const clock = new VirtualClock();
    const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
    const memory = await HealthMemory.open(path("health.json"), clock, log);
    expect(memory.recall("apps", "a", "10.0.0.1:80")).toBeUndefined();
    memory.keep(() => ({ "apps/a 10.0.0.1:80": "down" }));
    memory.keep(() => ({}));
    clock.advance(ms(1000));
    await expect.poll(() => readFileSync(path("health.json"), "utf8")).toContain("down");
    const next = await HealthMemory.open(path("health.json"), clock, log);
    expect(next.recall("apps", "a", "10.0.0.1:80")).toBe("down");
    writeFileSync(path("health.json"), "{");
    expect(
      (await HealthMemory.open(path("health.json"), clock, log)).recall("apps", "a", "10.0.0.1:80"),
    ).toBeUndefined();
  });
});
