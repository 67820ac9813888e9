import { setImmediate as turn } from "node:timers/promises";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import type { LogFields } from "../base/log.ts";
import { seededRandom } from "../base/random.ts";
import { ms } from "../base/time.ts";
import { VirtualClock } from "../base/virtual-clock.ts";
import { poolSchema } from "../config/schema/pools.ts";
import { AdminStates } from "./admin.ts";
import type { CheckVerdict } from "./machine.ts";
import { HealthService } from "./service.ts";

const directory = mkdtempSync(join(tmpdir(), "nines-health-"));
afterAll(() => rmSync(directory, { recursive: true }));

const pools = (
  backends: Record<string, unknown>,
  check: unknown = { tcp: true, interval: "1s", jitter: 0 },
) => ({
  apps: poolSchema.parse({ backends, ...(check === null ? {} : { check }) }),
});
const two = { a: "10.0.0.1:80", b: "10.0.0.2:80" };

let clock: VirtualClock;
let logged: LogFields[];
let asked: string[];
let answer: (backend: string) => CheckVerdict;
let changes: number;

async function service(
  remembered?: (pool: string, backend: string, at: string) => "up" | "down" | undefined,
) {
  const push = (fields: LogFields): void => void logged.push(fields);
  const log = { debug: push, info: push, warn: push, error: push };
  const admin = await AdminStates.open(join(directory, `${seed++}.json`));
  return new HealthService({
    clock,
    random: seededRandom(1),
    log,
    admin,
    changed: () => changes++,
    ...(remembered ? { remembered } : {}),
    probe: (_check, target) => {
      asked.push(target.backend);
      return Promise.resolve(answer(target.backend));
    },
  });
}
let seed = 0;

/** Moves the clock on in small steps, letting verdicts arrive. */
async function pass(span: number): Promise<void> {
  for (let i = 0; i < span; i += 50) {
    clock.advance(ms(50));
    await turn();
  }
}
const states = (health: HealthService): string =>
  health
    .statuses()
    .map(({ backend, health: state, effectiveWeight }) => `${backend} ${state} ${effectiveWeight}`)
    .join(", ");

beforeEach(() => {
  clock = new VirtualClock(1000);
  [logged, asked, changes] = [[], [], 0];
  answer = () => ({ outcome: "good", reason: "connected" });
});

describe("the health service", () => {
  it("finds out about backends, and tells each change once with its reason", async () => {
    const health = await service();
    answer = (backend) =>
      backend === "a"
        ? { outcome: "good", reason: "fine" }
        : { outcome: "bad", reason: "connection refused" };
    health.apply(pools(two));
    expect(states(health)).toBe("a unknown 1, b unknown 1");
    await pass(1000);
    expect(states(health)).toBe("a up 1, b down 0");
    await pass(5000);
    expect(
      logged.map(({ event, backend, from, to, reason }) => ({ event, backend, from, to, reason })),
    ).toEqual([
      {
        event: "health.backend_changed",
        backend: "a",
        from: "unknown",
        to: "up",
        reason: "fine, 2 times in a row",
      },
      {
        event: "health.backend_changed",
        backend: "b",
        from: "unknown",
        to: "down",
        reason: "connection refused, 3 times in a row",
      },
    ]);
    expect(health.counters()["checks_bad"]).toBeGreaterThan(5);
    health.stop();
    const count = asked.length;
    await pass(3000);
    expect([asked.length, clock.nextTimer()]).toEqual([count, undefined]);
  });

  it("keeps what it knows of backends that a reload does not touch", async () => {
    const health = await service();
    health.apply(pools(two));
    await pass(1000);
    health.apply(pools({ c: "10.0.0.3:80", a: { address: "10.0.0.1:80", weight: 5 }, b: "10.0.0.9:80" }));
    expect(states(health)).toBe("c unknown 1, a up 5, b unknown 1");
    // Another kind of check: known until it says otherwise.
    await pass(1000);
    health.apply(pools(two, { http: "/", interval: "2s", jitter: 0 }));
    expect(states(health)).toBe("a up 1, b unknown 1");
    asked = [];
    await pass(100);
    expect(asked).toEqual(["a", "b"]);
    health.apply({});
    await pass(5000);
    expect([health.statuses(), clock.nextTimer()]).toEqual([[], undefined]);
  });

  it("counts backends without a check as up", async () => {
    const health = await service();
    health.apply(pools(two, null));
    expect(health.statuses().map(({ reason }) => reason)).toEqual(["not checked", "not checked"]);
    expect(states(health)).toBe("a up 1, b up 1");
    expect(clock.nextTimer()).toBeUndefined();
  });

  it("goes on from what was known before a restart, but only at the same address", async () => {
    const before = await service();
    answer = (backend) => ({ outcome: backend === "a" ? "good" : "bad", reason: "x" });
    before.apply(pools(two));
    await pass(2000);
    const memory = before.memory();
    expect(memory).toEqual({ "apps/a 10.0.0.1:80": "up", "apps/b 10.0.0.2:80": "down" });
    before.stop();
    const after = await service(
      (pool, backend, at) => memory[`${pool}/${backend} ${at}`] as "up" | "down" | undefined,
    );
    after.apply(pools({ ...two, a: "10.0.0.8:80" }));
    expect(states(after)).toBe("a unknown 1, b down 0");
    after.stop();
  });

  it("says when every check fails at once, and when that is over", async () => {
    const health = await service();
    answer = () => ({ outcome: "bad", reason: "no route to the host" });
    health.apply(pools(two));
    await pass(500);
    expect(health.isolated()).toContain("all 2 checks fail at once (no route to the host)");
    answer = (backend) => ({ outcome: backend === "a" ? "good" : "bad", reason: "x" });
    await pass(2000);
    expect(health.isolated()).toBeUndefined();
    expect(logged.map(({ event }) => event).filter((event) => event.startsWith("health.isolat"))).toEqual([
      "health.isolated",
      "health.isolation_ended",
    ]);
    health.stop();
  });

  it("counts what fails as a look at all backends would, whatever comes", async () => {
    const random = seededRandom(7);
    const one = <T>(first: T, ...more: readonly T[]): T =>
      more[Math.floor(random.next() * (more.length + 1))] ?? first;
    const health = await service();
    const last = new Map<string, string>();
    let likely: CheckVerdict["outcome"] = "bad";
    answer = (backend) => {
      const outcome = random.next() < 0.8 ? likely : one("good", "bad", "none");
      if (outcome !== "none") last.set(backend, outcome);
      return { outcome, reason: outcome };
    };
    let hosts: Record<string, string> = { a: "10.0.0.1:80", b: "10.0.0.2:80", c: "10.0.0.2:81" };
    health.apply(pools(hosts));
    let times = 0;
    for (let i = 0; i < 150; i++) {
      likely = one("good", "bad", "bad");
      if (random.next() < 0.2) {
        const moved = one("a", "b", "c");
        const before = hosts;
        const rest = Object.fromEntries(Object.entries(hosts).filter(([name]) => name !== moved));
        hosts = one({ ...rest, [moved]: `10.0.${i}.9:80` }, rest, { a: "10.0.0.1:80", ...rest });
        for (const name of last.keys()) if (hosts[name] !== before[name]) last.delete(name);
        health.apply(pools(hosts));
      }
      await pass(1000);
      const names = Object.keys(hosts);
      const addresses = new Set(Object.values(hosts).map((each) => each.split(":")[0]));
      const expected = addresses.size >= 2 && names.every((name) => last.get(name) === "bad");
      expect(health.isolated() !== undefined).toBe(expected);
      if (expected) times++;
    }
    expect(times).toBeGreaterThan(10);
    health.stop();
  });

  it("tells since when a backend is back, from being down or from maintenance, and of none that was never away", async () => {
    const health = await service((_, backend) => (backend === "a" ? "up" : undefined));
    let bad = "";
    answer = (backend) => ({ outcome: backend === bad ? "bad" : "good", reason: "" });
    const back = () => health.statuses().map((status) => status.back);
    health.apply(pools(two));
    await pass(10_000);
    expect(states(health)).toBe("a up 1, b up 1");
    expect(back()).toEqual([undefined, undefined]);
    bad = "b";
    await pass(20_000);
    expect([states(health), back()]).toEqual(["a up 1, b down 0", [undefined, undefined]]);
    bad = "";
    await pass(20_000);
    expect(states(health)).toBe("a up 1, b up 1");
    expect(back()[0]).toBeUndefined();
    expect(back()[1]).toBeGreaterThan(0);
    await health.setAdmin("apps", "a", "drain", false);
    await health.setAdmin("apps", "a", "enabled", false);
    expect(back()[0]).toBeUndefined();
    await health.setAdmin("apps", "a", "maintenance", false);
    await pass(1000);
    await health.setAdmin("apps", "a", "enabled", false);
    expect(back()[0]).toBe(0);
    await pass(500);
    expect(back()[0]).toBe(500);
    health.stop();
  });

  it("does what operators ask, and refuses what it cannot", async () => {
    const health = await service();
    health.apply(pools({ ...two, m: { address: "10.0.0.3:80", maintenance: true } }));
    const before = changes;
    await health.setAdmin("apps", "a", "drain", false);
    expect(states(health)).toBe("a unknown 0, b unknown 1, m unknown 0");
    expect(changes).toBeGreaterThan(before);
    await expect(health.setAdmin("apps", "x", "drain", false)).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(health.setAdmin("apps", "m", "enabled", false)).rejects.toMatchObject({ code: "CONFLICT" });
    health.stop();
  });

  it("names its metrics as agreed", async () => {
    const health = await service();
    health.apply(pools(two));
    await pass(1000);
    for (const { name, kind, labels } of health.metrics()) {
      expect(name).toMatch(/^nines_health_[a-z_]+$/);
      expect(name.endsWith("_total")).toBe(kind === "counter");
      expect(Object.keys(labels).every((label) => ["pool", "backend", "outcome"].includes(label))).toBe(true);
    }
    health.stop();
  });
});
