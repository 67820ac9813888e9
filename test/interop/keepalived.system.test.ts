/** Interop with Debian's keepalived, in both roles: cases 13 to 19 of RFC 9568's machine against a real peer. */
import { describe, expect, it } from "vitest";
import { canNamespace, runScenario } from "../../src/linux/nftables/testing/namespace.ts";
import type { Way } from "./keepalived-scenario.ts";

const able = canNamespace("keepalived", "tshark", "dumpcap");
const ways: Way[] = [
  { version: 3, family: 4, transport: "multicast" },
  { version: 3, family: 6, transport: "multicast" },
  { version: 3, family: 4, transport: "unicast" },
  { version: 3, family: 6, transport: "unicast" },
  { version: 2, family: 4, transport: "multicast" },
  { version: 2, family: 4, transport: "unicast" },
];

type Outcome = Record<string, number | boolean | undefined> & {
  installed?: { prefixlen: number; valid_life_time: number; preferred_life_time: number };
  counters?: Record<string, number>;
  noise: string;
};

const run = (way: Way): Promise<Outcome> =>
  runScenario<Outcome>(new URL("keepalived-scenario.ts", import.meta.url), 110_000, [JSON.stringify(way)]);

// Version 2 counts in seconds and mostly waits: it runs beside the others.
const slow = new Map(able ? ways.filter((way) => way.version === 2).map((way) => [way, run(way)]) : []);
for (const outcome of slow.values()) outcome.catch(() => undefined);

describe("keepalived", () => {
  it.skipIf(!able).each(ways)(
    "version $version over IPv$family by $transport",
    // Peers of 100 ms on a machine that does other things, too: a stall of either is a takeover.
    { timeout: 240_000, retry: 1 },
    async (way) => {
      const { installed, counters = {}, noise, ...rest } = await (slow.get(way) ?? run(way));
      slow.delete(way);
      expect(noise).toBe("");
      // Every transition came about; how quickly is for the drills to say.
      const happened = [
        "firstMaster",
        "backup",
        "takeover",
        "yielded",
        "afterRelease",
        "keepalivedAfterRelease",
        "preempts",
        "keepalivedGaveWay",
        "keepalivedAfterDeath",
        "tieLost",
        "tieWon",
        "answered",
        ...(way.version === 3 ? ["slowMaster", "learned"] : []),
      ].filter((name) => rest[name] === undefined);
      expect({ missing: happened }).toEqual({ missing: [] });
      expect(rest).toMatchObject({
        respected: true,
        removed: true,
        respectedByKeepalived: true,
        respectedSlow: true,
      });
      // Learned: three of the Active's intervals of 500 ms, not of its own 100 ms.
      if (way.version === 3) expect(rest["learned"]).toBeGreaterThan(1000);
      expect(installed).toMatchObject({ prefixlen: way.family === 4 ? 32 : 128 });
      expect(installed?.valid_life_time).toBeLessThan(10);
      if (way.family === 6) expect(installed?.preferred_life_time).toBe(0);
      expect(Object.keys(counters).filter((name) => name.startsWith("dropped"))).toEqual([]);
      expect(rest["own"]).toBeGreaterThan(10);
      expect(rest).toMatchObject({ malformed: 0, complaints: 0 });
      // Debian's tshark still sums the pseudo-header over IPv4, as RFC 5798 did; RFC 9568 does not.
      if (way.family === 6 || way.version === 2) expect(rest["badChecksum"]).toBe(0);
    },
  );
});
