import { beforeEach, describe, expect, it } from "vitest";
import { type IpAddress, type MacAddress, ip } from "../base/addresses.ts";
import { instant, ms, seconds } from "../base/time.ts";
import { type DuplicateFacts, DuplicateWatch, heardOf } from "./duplicates.ts";

const address = ip("10.0.0.1");
const own = "02:00:00:00:00:01" as MacAddress;
const foreign = "02:00:00:00:00:99" as MacAddress;

let now = 0;
let asked = 0;
let answer: MacAddress | undefined;
let told: string[];
let watch: DuplicateWatch;
beforeEach(() => {
  now = 0;
  asked = 0;
  answer = undefined;
  told = [];
  watch = new DuplicateWatch({
    ask: () => {
      asked++;
      return Promise.resolve(answer);
    },
    found: (found: IpAddress, mac, when) => told.push(`${found} ${mac} ${when}`),
    gone: (found: IpAddress) => told.push(`${found} gone`),
  });
});

/** Looks every 100 ms, as the service does, for this long. */
async function stay(span: number, facts: Partial<DuplicateFacts> = {}): Promise<void> {
  for (const end = now + span; now < end; now += 100) {
    watch.look(instant(now), {
      state: "active",
      since: instant(1000),
      lease: seconds(2),
      heard: true,
      placed: [{ ifindex: 2, address, mac: own, loopback: false }],
      ...facts,
    });
    for (let turn = 0; turn < 4; turn++) await Promise.resolve();
  }
}

describe("a second owner of an address", () => {
  it("is not the predecessor, which serves on until it hears its successor, or its lease runs out", async () => {
    await stay(1000, { state: "backup", since: instant(0) });
    answer = foreign;
    await stay(2300);
    answer = undefined;
    await stay(10_000);
    expect([told, asked]).toEqual([[], 1]);
  });
  it("is one that answers when nobody should, twice; and is gone when it does not any more", async () => {
    now = 1000;
    answer = foreign;
    await stay(3000);
    expect(told).toEqual([]);
    await stay(2000);
    expect(told).toEqual([`10.0.0.1 ${foreign} while Active`]);
    await stay(20_000);
    expect(told).toHaveLength(1);
    answer = undefined;
    await stay(6000);
    expect(told.at(-1)).toBe("10.0.0.1 gone");
    const before = asked;
    await stay(50_000);
    expect(asked).toBe(before);
  });
  it("is gone when the router is, whatever is still being asked", async () => {
    now = 1000;
    answer = foreign;
    await stay(5000);
    watch.end();
    expect(told).toEqual([`10.0.0.1 ${foreign} while Active`, "10.0.0.1 gone"]);
    watch.end();
    expect(told).toHaveLength(2);
  });
  it("is found once a minute, should it come later", async () => {
    now = 1000;
    await stay(10_000);
    answer = foreign;
    await stay(65_000);
    expect(told).toEqual([`10.0.0.1 ${foreign} while Active`]);
    await stay(200, { state: "backup", since: instant(now) });
    expect(told.at(-1)).toBe("10.0.0.1 gone");
  });
  it("is known before a takeover where no Active is heard", async () => {
    answer = foreign;
    await stay(1000, { state: "backup", since: instant(0), heard: false });
    await stay(200, { heard: false });
    expect([told, asked]).toEqual([[`10.0.0.1 ${foreign} before the takeover`], 1]);
  });
  it("is none where the one who answered was the Active, not heard yet", async () => {
    answer = foreign;
    await stay(300, { state: "backup", since: instant(0), heard: false });
    answer = undefined;
    await stay(700, { state: "backup", since: instant(0) });
    await stay(10_000);
    expect(told).toEqual([]);
  });
  it("is not this node itself, nor an answer with the router's own virtual MAC", async () => {
    now = 1000;
    answer = own;
    await stay(10_000);
    expect(told).toEqual([]);
  });
  it("is not asked for on the loopback interface", async () => {
    now = 1000;
    await stay(10_000, { placed: [{ ifindex: 1, address, mac: own, loopback: true }], lease: ms(1000) });
    expect(asked).toBe(0);
  });
});

describe("another router is known", () => {
  const nothing = { links: [], seenIds: {}, peers: {} };
  const peer = {
    at: instant(0),
    state: "backup",
    priority: 110,
    eligible: true,
    life: 1,
    claims: 0,
  } as const;
  it("by the offer of a node whose advertisement was not heard yet, or by its hello as the Active", () => {
    expect(heardOf(nothing)).toBe(false);
    expect(heardOf({ ...nothing, peers: { a: peer } })).toBe(false);
    expect(heardOf({ ...nothing, peers: { a: { ...peer, state: "active" } } })).toBe(true);
    expect(heardOf({ ...nothing, seenIds: { a: 7 } })).toBe(true);
  });
});
