import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ip } from "../../base/addresses.ts";
import { type DurationMs, instant, ms } from "../../base/time.ts";
import type { AffinityEntry } from "../../contracts/affinity.ts";
import { AffinityStore } from "./machine-affinity.ts";
import { MAX_CLIENTS } from "./wire-affinity.ts";
import { decodeFrame, encodeFrame } from "./wire.ts";

const HOUR = 3_600_000;
const timeouts = new Map<string, DurationMs>([["web", ms(HOUR)]]);
const entry = (source: number, backend: number, expires: number): AffinityEntry => ({
  service: "web",
  source: ip(`10.0.0.${source}`),
  backend: ip(`10.1.0.${backend}`),
  port: 80,
  expires,
});
const at = (value: number) => instant(value);

describe("what peers are told of clients", () => {
  const peered = (most = 100): AffinityStore => {
    const store = new AffinityStore(most);
    store.connected("b");
    return store;
  };
  const news = (store: AffinityStore, held: readonly AffinityEntry[], now: number, most = 100) =>
    store.news("b", held, timeouts, at(now), most);

  it("a client once, and again when its backend changed or its time is an eighth longer", () => {
    const store = peered();
    expect(news(store, [entry(1, 11, HOUR)], 0)).toEqual([entry(1, 11, HOUR)]);
    expect(news(store, [entry(1, 11, HOUR)], 1000)).toEqual([]);
    expect(news(store, [entry(1, 12, HOUR)], 1000)).toEqual([entry(1, 12, HOUR)]);
    expect(news(store, [entry(1, 12, HOUR)], HOUR / 8)).toEqual([]);
    expect(news(store, [entry(1, 12, HOUR)], HOUR / 8 + 1001)).toHaveLength(1);
  });
  it("nothing of what the peer told itself, nor of what it knows better", () => {
    const store = peered();
    store.received("b", [entry(1, 11, HOUR)], at(0));
    expect(news(store, [entry(1, 11, HOUR - 5)], 100)).toEqual([]);
    expect(news(store, [entry(1, 12, HOUR / 2)], 100)).toEqual([]);
  });
  it("nothing that is about to be forgotten: nodes would hand it to each other for ever", () => {
    expect(news(peered(), [entry(1, 11, HOUR / 8)], 0)).toEqual([]);
  });
  it("nothing of services without affinity", () => {
    expect(news(peered(), [{ ...entry(1, 11, HOUR), service: "other" }], 0)).toEqual([]);
  });
  it("so many at a time, the rest with the next look", () => {
    const store = peered();
    const held = Array.from({ length: 5 }, (_, i) => entry(i, 11, HOUR));
    const told = [
      news(store, held, 0, 2),
      news(store, held, 1, 2),
      news(store, held, 2, 2),
      news(store, held, 3),
    ];
    expect(told.map((one) => one.length)).toEqual([2, 2, 1, 0]);
    expect(told.flat()).toEqual(held);
  });
  it("everything after a new connection", () => {
    const store = peered();
    news(store, [entry(1, 11, HOUR)], 0);
    store.connected("b");
    expect(news(store, [entry(1, 11, HOUR)], 1)).toHaveLength(1);
  });
  it("no more clients than there is room for, and that is counted", () => {
    const store = peered(3);
    store.received(
      "b",
      [1, 2, 3, 4, 5].map((source) => entry(source, 11, HOUR)),
      at(0),
    );
    expect([store.all(at(1)).length, store.dropped]).toEqual([3, 2]);
  });
  it("what peers knew is given back to a kernel that lost it, also of peers that went", () => {
    const store = peered();
    store.received("b", [entry(1, 11, HOUR), entry(2, 11, 500)], at(0));
    store.disconnected("b");
    expect(store.all(at(1000))).toEqual([entry(1, 11, HOUR - 1000)]);
  });

  // Two kernels, each remembering for itself; looks, losses of the connection and delays in any order.
  it("brings two nodes to the same memory, and lets it end", () => {
    const action = fc.oneof(
      fc.record({
        do: fc.constant("visit" as const),
        node: fc.nat(1),
        client: fc.nat(4),
        backend: fc.integer({ min: 11, max: 13 }),
      }),
      fc.record({ do: fc.constant("look" as const), node: fc.nat(1) }),
      fc.record({ do: fc.constant("reconnect" as const) }),
      fc.record({ do: fc.constant("wait" as const), span: fc.integer({ min: 1, max: HOUR / 2 }) }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
        let now = 0;
        const maps = [
          new Map<string, { entry: AffinityEntry; until: number }>(),
          new Map<string, { entry: AffinityEntry; until: number }>(),
        ];
        const stores = [new AffinityStore(100), new AffinityStore(100)];
        const names = ["a", "b"];
        const connect = (): void => stores.forEach((store, i) => store.connected(names[1 - i] ?? ""));
        const look = (i: number): number => {
          const held = [...(maps[i] ?? [])].flatMap(([key, one]) => {
            if (one.until > now) return [{ ...one.entry, expires: one.until - now }];
            maps[i]?.delete(key);
            return [];
          });
          const told = stores[i]?.news(names[1 - i] ?? "", held, timeouts, at(now), 100) ?? [];
          now += 10; // on the wire
          stores[1 - i]?.received(names[i] ?? "", told, at(now));
          for (const one of told) {
            const there = maps[1 - i]?.get(one.source);
            const same = there?.entry.backend === one.backend;
            const left = (there?.until ?? now) - now;
            if (there && one.expires <= left + (same ? HOUR / 16 : 0)) continue;
            maps[1 - i]?.set(one.source, { entry: one, until: now + one.expires });
          }
          return told.length;
        };
        connect();
        for (const one of actions) {
          if (one.do === "wait") now += one.span;
          else if (one.do === "reconnect") connect();
          else if (one.do === "look") look(one.node);
          else {
            const client = entry(one.client, one.backend, HOUR);
            const there = maps[one.node]?.get(client.source);
            const entryThere = there && there.until > now ? there.entry : client;
            maps[one.node]?.set(client.source, { entry: entryThere, until: now + HOUR });
            now += 100;
          }
        }
        for (let i = 0; i < 6; i++) look(i % 2);
        expect([look(0), look(1)]).toEqual([0, 0]);
        const long = (i: number) =>
          [...(maps[i] ?? [])]
            .filter(([, one]) => one.until - now > HOUR / 4)
            .map(([, one]) => `${one.entry.source} ${one.entry.backend}`)
            .sort();
        const all = (i: number) =>
          new Set([...(maps[i] ?? [])].map(([, one]) => `${one.entry.source} ${one.entry.backend}`));
        for (const i of [0, 1]) for (const one of long(i)) expect(all(1 - i)).toContain(one);
        // Without visits, all ends an hour later: nobody keeps the other's alive.
        for (let step = 0; step < 20; step++) {
          now += HOUR / 10;
          look(0);
          look(1);
        }
        for (const map of maps) expect([...map.values()].filter((one) => one.until > now)).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });
});

describe("clients on the wire", () => {
  const address = fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }).map((b) => ip([...b].join("."))));
  const clients = fc.record({
    service: fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/),
    list: fc.array(
      fc.record({ source: address, backend: address, port: fc.nat(65_535), expires: fc.nat(0xffffffff) }),
      { minLength: 1, maxLength: 50 },
    ),
  });
  it("come back as they were", () => {
    fc.assert(
      fc.property(clients, ({ service, list }) => {
        const entries = list.map((one) => ({ service, ...one }));
        const bytes = encodeFrame({ type: "affinity", entries }, new Map()).subarray(4);
        expect(decodeFrame(bytes, [])).toEqual({ ok: true, value: { type: "affinity", entries } });
        expect(decodeFrame(bytes.subarray(0, -1), [])).toEqual({ ok: false, error: "affinity_short" });
        expect(decodeFrame(Uint8Array.from([...bytes, 0]), [])).toEqual({ ok: false, error: "frame_rest" });
      }),
    );
  });
  it("over IPv6 as well", () => {
    const entries = [{ service: "web", source: ip("fd00::9"), backend: ip("fd02::11"), port: 0, expires: 5 }];
    const bytes = encodeFrame({ type: "affinity", entries }, new Map()).subarray(4);
    expect(decodeFrame(bytes, [])).toEqual({ ok: true, value: { type: "affinity", entries } });
  });
  it("are refused with a reason where they are no such thing", () => {
    const good = encodeFrame({ type: "affinity", entries: [entry(1, 11, 5)] }, new Map()).slice(4);
    const family = good.slice();
    family[6] = 5;
    expect(decodeFrame(family, [])).toEqual({ ok: false, error: "affinity_family" });
    const many = good.slice();
    new DataView(many.buffer).setUint16(7, MAX_CLIENTS + 1);
    expect(decodeFrame(many, [])).toEqual({ ok: false, error: "affinity_too_long" });
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        (rest) => void decodeFrame(Uint8Array.from([6, ...rest]), []),
      ),
    );
  });
});
