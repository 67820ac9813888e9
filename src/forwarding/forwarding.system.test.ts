import { describe, expect, it } from "vitest";
import type { ForwardedCounters, ForwardedService } from "../contracts/forwarding.ts";
import { canNamespace, runScenario } from "../linux/nftables/testing/namespace.ts";

type Tally = Readonly<Record<string, number>>;
interface Basics {
  readonly problem: string;
  readonly spread: Tally;
  readonly sticky: string[];
  readonly six: Tally;
  readonly sixClient: string;
  readonly udp: Tally;
  readonly udpClient: string;
  readonly range: string[];
  readonly own: string[];
  readonly fromNode: Tally;
  readonly hairpin: string[];
  readonly hairpinAnswers: number;
  readonly drained: Tally;
  readonly same: boolean;
  readonly onDrained: number;
  readonly dead: Tally;
  readonly refused: Tally;
  readonly refusedUdp: Tally;
  readonly explained: ForwardedService;
  readonly back: Tally;
  readonly alive: Tally;
  readonly flushStatus: readonly [number, boolean];
  readonly flushed: string;
  readonly stillAlive: Tally;
  readonly traffic: ForwardedCounters[];
  readonly meanwhile: Tally;
  readonly unchanged: boolean;
  readonly events: Tally;
  readonly adoptedProblem: string;
  readonly left: string;
  readonly logged: string[];
}
const sum = (tally: Tally): number => Object.values(tally).reduce((a, b) => a + b, 0);
const backends = (tally: Tally): string[] => Object.keys(tally).sort();

describe.skipIf(!canNamespace("nft"))("the forwarder with real packets", () => {
  it("forwards, drains, rejects, survives a flush and is adopted", async () => {
    const scenario = new URL("testing/basics-scenario.ts", import.meta.url);
    const seen = await runScenario<Basics>(scenario);
    expect(seen.problem).toBe("");
    // 400 connections by weight 2:1:1.
    expect(seen.spread.b1).toBeGreaterThan(150);
    expect(seen.spread.b2).toBeGreaterThan(60);
    expect(seen.spread.b3).toBeGreaterThan(60);
    expect(sum(seen.spread)).toBe(400);
    // The same client port meets the same backend; the client's address and the backend's port are seen.
    expect(new Set(seen.sticky).size).toBe(1);
    expect(seen.sticky[0]).toMatch(/^b\d 10\.0\.0\.9 8080$/);
    expect([backends(seen.six), seen.sixClient, sum(seen.six)]).toEqual([["b1", "b2"], "fd00::9", 40]);
    expect([backends(seen.udp), seen.udpClient, sum(seen.udp)]).toEqual([["b1", "b2", "b3"], "10.0.0.9", 40]);
    // The port is kept where the backend's is the range's first.
    expect(seen.range).toEqual(["b1 10.0.0.9 5002", "b2 10.0.0.9 8080"]);
    // What is no service of ours is the host's own.
    expect(seen.own).toEqual(["ECONNREFUSED"]);
    expect(sum(seen.fromNode)).toBe(20);
    // A backend that is its own client is masqueraded behind the virtual address on its link.
    expect([seen.hairpin, seen.hairpinAnswers]).toEqual([["10.2.0.1"], 30]);
    expect(backends(seen.drained)).toEqual(["b2", "b3"]);
    expect(seen.onDrained).toBeGreaterThan(0);
    expect(seen.same).toBe(true);
    expect(backends(seen.dead)).toEqual(["b1", "b3"]);
    expect([seen.refused, seen.refusedUdp]).toEqual([{ ECONNREFUSED: 3 }, { ECONNREFUSED: 1 }]);
    expect(seen.explained).toMatchObject({ state: "rejecting", listen: ["10.0.0.1:80/tcp"] });
    expect(seen.back).toEqual({ b1: 20 });
    // `nft flush ruleset` passes our table by, `nft delete table` is refused, all 30 streams live on.
    expect(seen.flushStatus).toEqual([0, true]);
    expect(seen.flushed).toContain("table ip nines");
    expect([sum(seen.alive), seen.stillAlive, seen.meanwhile]).toEqual([30, seen.alive, seen.alive]);
    const b3 = seen.traffic.find((one) => one.service === "web" && one.backend === "apps/b3");
    expect(b3?.connections).toBeGreaterThan(60);
    expect(b3?.bytesOut).toBeGreaterThan(1000);
    // One transaction that only takes the two tables over.
    expect(seen.unchanged).toBe(true);
    expect(seen.events).toMatchObject({ transactions: 1, changes: 2, repairs: 0 });
    expect([seen.adoptedProblem, seen.left]).toEqual(["", ""]);
    expect(seen.logged).toEqual(["forwarding.settings_changed", "forwarding.adopted"]);
  });

  it("gets on with other nodes, foreign marks, lost tables and dead UDP backends", async () => {
    const scenario = new URL("testing/others-scenario.ts", import.meta.url);
    expect(await runScenario(scenario)).toEqual({
      // Another node, with the same site in another order, picks the same backend for the same client.
      chooses: true,
      // The bits of a connection's mark that are not ours stay as others set them.
      foreignBits: [0x00abc000],
      ownBits: [0x4e000000],
      masked: ["10.2.0.1"],
      // Each node has a half of the ports.
      shares: ["lb1 lower", "lb2 upper"],
      survived: true,
      udpMoved: true,
      killed: true,
      repaired: expect.objectContaining({ b1: expect.any(Number) as number }) as object,
      repairedChain: expect.objectContaining({ b1: expect.any(Number) as number }) as object,
      repairs: 2,
      metrics: [
        "nines_forwarding_bytes_total",
        "nines_forwarding_connections_total",
        "nines_forwarding_packets_total",
      ],
      left: "",
      problems: [],
    });
  });

  it("schedules in turn and by source, keeps backups back and clients within their limits", async () => {
    const scenario = new URL("testing/schedulers-scenario.ts", import.meta.url);
    const seen = await runScenario<
      Record<string, Tally> & {
        reasons: string[];
        problem: string;
        transactions: number;
        changed: number[][];
        listed: boolean;
      }
    >(scenario);
    // One address, one backend.
    expect(Object.values(seen["source"] ?? {})).toEqual([20]);
    // Exact shares of 2:1, and nothing for the backup.
    expect(seen["smooth"]).toEqual({ b1: 20, b2: 10 });
    expect(backends(seen["least"] ?? {})).toEqual(["b1", "b2"]);
    expect(seen["held"]).toEqual({ b1: 12 });
    expect(seen["fewest"]?.["b2"]).toBeGreaterThan(7);
    expect(seen["young"]).toEqual({ b1: 20, b2: 2 });
    expect(seen.transactions).toBe(1);
    expect(sum(seen["few"] ?? {}) - (seen["few"]?.["closed"] ?? 0)).toBe(5);
    // Two backends, four connections each, whichever the hash prefers; the rest is refused, and so over IPv6.
    expect(seen["full"]).toEqual({ b1: 4, b2: 4, closed: 22 });
    expect(seen["full6"]).toEqual({ b1: 3, closed: 7 });
    // A changed limit holds for a client and a backend that had reached the one before.
    expect(seen.changed).toEqual([
      [4, 4],
      [8, 8],
      [2, 2],
    ]);
    expect(seen["mixed"]).toEqual({ b1: 20, b2: 20 });
    expect(seen.listed).toBe(true);
    expect(seen["slow"]?.["ECONNREFUSED"]).toBeGreaterThan(5);
    expect(seen["backup"]).toEqual({ b3: 10 });
    expect(seen.reasons[0]).toBe("unhealthy");
    expect(seen.problem).toBe("");
  });

  it("loses no connection when somebody flushes the ruleset while no process owns the tables", async () => {
    const scenario = new URL("testing/between-scenario.ts", import.meta.url);
    interface Between {
      readonly before: Tally;
      readonly flushed: string;
      readonly meanwhile: Tally;
      readonly after: Tally;
      readonly fresh: Tally;
      readonly problems: string[];
      readonly end: string;
    }
    const pinned = await runScenario<Between>(scenario, 60_000, ["pinned"]);
    expect(sum(pinned.before)).toBe(30);
    // Ours went, the pin stays, and every stream is still where it was.
    expect(pinned.flushed).not.toMatch(/nines$/m);
    expect([pinned.meanwhile, pinned.after]).toEqual([pinned.before, pinned.before]);
    expect([sum(pinned.fresh), pinned.problems, pinned.end]).toEqual([10, [""], ""]);
    // Control: without the pin they are lost.
    const loose = await runScenario<Between>(scenario, 60_000, ["loose"]);
    expect([sum(loose.before), loose.meanwhile]).toEqual([30, { closed: 30 }]);
  }, 120_000);
});
