import { describe, expect, it } from "vitest";
import { chance, randomInt, seededRandom } from "../../base/random.ts";
import { instant } from "../../base/time.ts";
import { type Flow, TCP_STATE, flowKey } from "../../linux/wire-conntrack.ts";
import { FlowStore } from "./machine-store.ts";
import { type StoreEffects, nothing } from "./store-effects.ts";
import { MASK, type Name, Site, clock, flow, marks, names } from "./testing/stores.ts";
import type { Entry } from "./wire.ts";

/** More with NINES_SEEDS=10000. */
const seeds = Number(process.env["NINES_SEEDS"] ?? 50);

describe("who owns a flow", () => {
  it("the Active does; the others hold it, with their own marks, until it ends", () => {
    const site = new Site();
    site.active("lb1", true);
    for (let n = 0; n < 5; n++) site.opens("lb1", n);
    site.ends("lb1", 3);
    site.same();
    expect(site.table("lb3").size).toBe(4);
    expect(names.map((name) => site.store(name).counts)).toEqual([
      { own: 4, others: 0 },
      { own: 0, others: 4 },
      { own: 0, others: 4 },
    ]);
  });

  it("events that are read together are told together, each in its latest form", () => {
    const store = new FlowStore(MASK, "lb2");
    store.configure([{ name: "web", router: "edge", mark: 0x4e000001 }]);
    store.setActive(new Set(["edge"]), clock.now);
    const effects: StoreEffects = nothing();
    const [one, two] = [flow(1, 11, 0x4e000001), flow(2, 11, 0x4e000001)];
    for (const event of [one, two, { ...one, tcpState: TCP_STATE.FIN_WAIT }])
      store.kernelFlow(event, clock.now, effects);
    store.kernelFlow({ ...two, tcpState: TCP_STATE.TIME_WAIT }, clock.now, effects);
    store.kernelEnd(two, clock.now, effects);
    expect(effects.tell.map(({ key, ended }) => [key, ended !== undefined])).toEqual([
      [flowKey(one), false],
      [flowKey(two), false],
      [flowKey(one), false],
      [flowKey(two), true],
    ]);
    expect(store.own.get(flowKey(one))?.tcpState).toBe(TCP_STATE.FIN_WAIT);
    expect(store.counts).toEqual({ own: 1, others: 0 });
  });

  it("the next Active takes over what it held, and the one before lets go", () => {
    const site = new Site();
    site.active("lb1", true);
    for (let n = 0; n < 5; n++) site.opens("lb1", n);
    site.active("lb2", true);
    site.active("lb1", false);
    expect(names.map((name) => site.store(name).counts.own)).toEqual([0, 5, 0]);
    // An entry that runs out at the old one is no news: it is put back, not taken from the others.
    site.ends("lb1", 1);
    expect(site.table("lb2").size).toBe(5);
    expect(site.store("lb1").upkeep(clock.now).create).toHaveLength(1);
    clock.now = instant(10_000);
    site.ends("lb2", 1);
    clock.now = instant(0);
    expect(site.table("lb3").size).toBe(4);
  });

  it("a closed connection leaves the others at once, though the kernel keeps TIME_WAIT; its port is free again", () => {
    const site = new Site();
    site.active("lb1", true);
    site.opens("lb1", 1, 11);
    site.opens("lb1", 2, 12);
    const store = site.store("lb1");
    const waits = { ...flow(1, 11, marks["lb1"] ?? 0), tcpState: TCP_STATE.TIME_WAIT };
    site.carryOut("lb1", store.kernelFlow(waits, clock.now));
    expect(site.table("lb2").size).toBe(1);
    // Neither a listing nor its last event brings it back.
    const other = { ...flow(2, 12, marks["lb1"] ?? 0), tcpState: TCP_STATE.CLOSE };
    site.carryOut("lb1", store.reconcile([waits, other], clock.now));
    site.carryOut("lb1", store.kernelEnd(waits, clock.now));
    expect([store.counts.own, site.table("lb2").size]).toEqual([0, 0]);
    site.opens("lb1", 1, 13);
    expect([...site.table("lb2").values()]).toEqual(["10.1.0.13"]);
  });

  it("after a partition in which both took flows, both sets live on everywhere", () => {
    const site = new Site();
    site.active("lb1", true);
    for (let n = 0; n < 3; n++) site.opens("lb1", n);
    for (const [x, y] of [
      ["lb1", "lb2"],
      ["lb1", "lb3"],
    ] as const)
      site.cut.add(site.link(x, y));
    site.active("lb2", true);
    for (let n = 10; n < 14; n++) site.opens("lb2", n);
    for (let n = 20; n < 22; n++) site.opens("lb1", n);
    site.active("lb2", false);
    site.heal("lb1", "lb2");
    site.heal("lb1", "lb3");
    site.same();
    expect(site.table("lb1").size).toBe(9);
    expect(site.store("lb1").counts.own).toBe(9);
  });

  it("one client port at two backends: the Active's stays, and it is counted", () => {
    const site = new Site();
    site.cut.add(site.link("lb1", "lb2"));
    site.active("lb1", true);
    site.active("lb2", true);
    site.opens("lb1", 1, 11);
    site.opens("lb2", 1, 12);
    site.active("lb2", false);
    site.heal("lb1", "lb2");
    expect(site.store("lb2").conflicts).toBe(1);
    expect([...site.table("lb1").values()]).toEqual(["10.1.0.11"]);
    expect([...site.table("lb2").values()]).toEqual(["10.1.0.11"]);
  });

  it("a service that only the peer's site file has is counted and left", () => {
    const site = new Site();
    site.store("lb2").configure([]);
    site.active("lb1", true);
    site.opens("lb1", 1);
    expect(site.store("lb2").unknownServices).toBe(1);
    expect(site.table("lb2").size).toBe(0);
  });

  it("a service that comes with a later reload gets the connections that were told before (simulation seed 3)", () => {
    const site = new Site();
    const late = site.store("lb2");
    late.configure([]);
    site.active("lb1", true);
    site.opens("lb1", 1);
    site.opens("lb1", 2);
    site.ends("lb1", 2);
    expect([late.upkeep(clock.now).create, site.table("lb2").size]).toEqual([[], 0]);
    late.configure([{ name: "web", router: "edge", mark: marks["lb2"] ?? 0 }]);
    expect(late.upkeep(clock.now).create.map(({ mark }) => mark)).toEqual([marks["lb2"]]);
    expect(late.upkeep(clock.now).create).toEqual([]);
  });

  it("what the kernel lost just before this node became Active is put back at once (simulation)", () => {
    const site = new Site();
    site.active("lb1", true);
    site.opens("lb1", 1);
    site.ends("lb2", 1);
    expect(site.table("lb2").size).toBe(0);
    site.active("lb2", true);
    expect(site.table("lb2").size).toBe(1);
  });

  it("of two that were Active for a moment the one that is no more lets go (simulation seed 4)", () => {
    const site = new Site();
    site.active("lb1", true);
    site.opens("lb1", 1);
    site.active("lb2", true);
    site.active("lb2", false);
    site.upkeep();
    expect(names.map((name) => site.store(name).counts.own)).toEqual([1, 0, 0]);
    // Nor do two that stay Active go on telling each other.
    clock.now = instant(10_000);
    site.active("lb2", true);
    expect(names.map((name) => site.store(name).counts.own)).toEqual([1, 1, 0]);
    site.upkeep();
    site.active("lb2", false);
    site.upkeep();
    expect(names.map((name) => site.store(name).counts.own)).toEqual([1, 0, 0]);
    clock.now = instant(0);
  });

  it("a peer that was reborn and does not speak of its flows yet does not cost them: whoever takes over has them", () => {
    const site = new Site();
    site.active("lb1", true);
    site.opens("lb1", 1);
    const first = { first: true, last: true, entries: [], terms: site.terms("lb1") };
    const { delete: deleted, lifetime } = site
      .store("lb2")
      .remote("lb1", { ...first, reborn: true }, clock.now);
    expect([deleted, lifetime.map(({ timeout }) => timeout)]).toEqual([[], [120]]);
    // Of a process that lived on, a snapshot says all.
    expect(site.store("lb3").remote("lb1", first, clock.now).delete).toHaveLength(1);
    site.active("lb2", true);
    expect(site.store("lb2").counts.own).toBe(1);
  });

  it("an end that an earlier owner tells does not end a third node's copy", () => {
    const site = new Site();
    site.active("lb1", true);
    site.opens("lb1", 1);
    site.active("lb1", false);
    site.active("lb2", true);
    const { family, protocol, original } = flow(1, 11, 0);
    const late: Entry[] = [{ ended: true, flow: { family, protocol, original, service: "web" } }];
    const told = (at: Name, by: Name) =>
      site
        .store(at)
        .remote(by, { first: false, last: false, entries: late, terms: site.terms(by) }, clock.now);
    expect(told("lb3", "lb1").delete).toEqual([]);
    // The owner goes on, says so at once, and once more when everybody has heard the other.
    expect(told("lb2", "lb1").tell).toHaveLength(1);
    expect(site.store("lb2").upkeep(clock.now).tell).toHaveLength(1);
    expect(site.store("lb2").upkeep(clock.now).tell).toEqual([]);
    expect(told("lb3", "lb1").delete).toEqual([]);
    // And it is given time as before.
    expect(site.store("lb3").upkeep(instant(200_000)).prolong).toHaveLength(1);
    expect(told("lb3", "lb2").delete).toHaveLength(1);
  });

  it("who was Active for a while, and said so last, does not become the owner of what goes on elsewhere (unit seed 107)", () => {
    const site = new Site();
    site.active("lb3", true);
    site.opens("lb3", 1);
    site.active("lb1", true);
    site.active("lb3", false);
    // The third node does not hear the one that goes on; a snapshot of the former owner does not mention it.
    site.cut.add(site.link("lb1", "lb2"));
    site.heal("lb2", "lb3");
    expect(site.table("lb2").size).toBe(1);
    // Nor is the next one told that the former owner has it.
    site.active("lb1", false);
    expect(names.map((name) => site.store(name).counts.own)).toEqual([1, 0, 0]);
    site.active("lb2", true);
    site.heal("lb1", "lb2");
    site.same();
    expect(names.map((name) => site.store(name).counts.own)).toEqual([0, 1, 0]);
  });

  it("what an earlier Active said of a port, and comes late, does not replace the later word (simulation seed 302)", () => {
    const site = new Site();
    site.active("lb1", true);
    site.opens("lb1", 1, 13);
    const late = site.entries("lb1");
    const terms = site.terms("lb1");
    site.ends("lb1", 1);
    site.opens("lb1", 1, 11);
    site.active("lb2", true);
    site.active("lb1", false);
    site.carryOut(
      "lb3",
      site.store("lb3").remote("lb1", { first: false, last: false, entries: late, terms }, clock.now),
    );
    expect([...site.table("lb3").values()]).toEqual(["10.1.0.11"]);
    expect(site.store("lb3").conflicts).toBe(0);
  });

  it.each(["lb1", "lb2"] as const)(
    "after a split third nodes keep what %s has, which stays Active",
    (stays) => {
      const site = new Site();
      const goes = stays === "lb1" ? "lb2" : "lb1";
      site.active("lb1", true);
      site.opens("lb1", 7);
      site.cut.add(site.link("lb1", "lb2"));
      site.active("lb2", true);
      site.opens("lb1", 1, 11);
      site.opens("lb2", 1, 12);
      site.active(goes, false);
      site.heal("lb1", "lb2");
      site.upkeep();
      site.same();
      expect(site.table("lb3").size).toBe(2);
      expect(names.map((name) => site.store(name).counts.own)).toEqual(
        stays === "lb1" ? [2, 0, 0] : [0, 2, 0],
      );
    },
  );

  it("who waits to hand over does not gainsay the next Active (simulation seed 17305)", () => {
    const site = new Site();
    site.active("lb1", true);
    site.opens("lb1", 1, 12);
    site.active("lb2", true);
    expect(site.store("lb1").leave(instant(2000), "lb2").tell).toEqual([]);
    site.cut.add(site.link("lb1", "lb2"));
    site.opens("lb2", 1, 11);
    site.upkeep();
    expect([...site.table("lb3").values()]).toEqual(["10.1.0.11"]);
    site.active("lb1", false);
    site.heal("lb1", "lb2");
    site.same();
  });

  it("who hands over has the last word beforehand, whatever a third one has said (simulation seed 17305)", () => {
    const site = new Site();
    site.active("lb3", true);
    site.opens("lb3", 1, 12);
    site.active("lb1", true);
    site.cut.add(site.link("lb1", "lb3"));
    site.opens("lb1", 1, 11);
    // Active still, and does not hear the other: its word is the later one for now.
    site.active("lb3", false);
    site.active("lb3", true);
    site.heal("lb1", "lb3");
    expect([...site.table("lb2").values()]).toEqual(["10.1.0.12"]);
    site.carryOut("lb1", { ...nothing(), ...site.store("lb1").leave(instant(2000), "lb2") });
    expect([...site.table("lb2").values()]).toEqual(["10.1.0.11"]);
  });

  it("once the one with the later word is Active no more, the other has the next one at once (simulation seed 24387)", () => {
    const site = new Site();
    site.cut.add(site.link("lb1", "lb2"));
    site.active("lb1", true);
    site.opens("lb1", 1, 11);
    site.active("lb2", true);
    site.opens("lb2", 1, 12);
    site.heal("lb1", "lb2");
    site.active("lb2", false);
    const delivery = { first: false, last: false, entries: [], terms: site.terms("lb2") };
    site.carryOut("lb1", site.store("lb1").remote("lb2", delivery, clock.now));
    site.same();
    expect(site.table("lb2")).toEqual(new Map([[flowKey(flow(1, 11, 0)), "10.1.0.11"]]));
  });

  it("two that were elected at once agree in the end", () => {
    const site = new Site();
    site.cut.add(site.link("lb1", "lb2"));
    site.active("lb1", true);
    site.cut.add(site.link("lb2", "lb3"));
    site.active("lb2", true);
    site.opens("lb1", 1, 11);
    site.opens("lb2", 1, 12);
    site.heal("lb1", "lb2");
    site.heal("lb2", "lb3");
    site.active("lb2", false);
    site.upkeep();
    site.upkeep();
    site.same();
    expect(site.table("lb3")).toEqual(new Map([[flowKey(flow(1, 11, 0)), "10.1.0.11"]]));
    expect(names.map((name) => site.store(name).counts.own)).toEqual([1, 0, 0]);
  });

  it("an Active whose process was reborn, and counts from the beginning, is believed", () => {
    const site = new Site();
    for (const name of ["lb2", "lb1"] as const) {
      site.active(name, true);
      site.opens(name, 1);
      site.active(name, false);
    }
    site.active("lb1", true);
    const reborn = new FlowStore(MASK, "lb1");
    reborn.configure([{ name: "web", router: "edge", mark: marks["lb1"] ?? 0 }]);
    site.stores.set("lb1", reborn);
    site.active("lb1", true);
    for (const peer of ["lb2", "lb3"] as const) site.heal("lb1", peer);
    site.ends("lb1", 1);
    site.opens("lb1", 1, 13);
    site.opens("lb1", 2, 13);
    site.same();
    expect(site.table("lb3").size).toBe(2);
  });

  it("what a former owner gave away while this node was out of reach of the next one is given no more time", () => {
    const site = new Site();
    site.active("lb1", true);
    site.opens("lb1", 1);
    site.cut.add(site.link("lb2", "lb3"));
    site.active("lb2", true);
    site.active("lb1", false);
    site.ends("lb2", 1);
    expect(site.store("lb3").upkeep(instant(200_000)).prolong).toHaveLength(1);
    site.heal("lb2", "lb3");
    expect(site.store("lb3").upkeep(instant(400_000)).prolong).toEqual([]);
  });

  it("whoever heard of a flow from its owner hears that it ended, though another says so first (simulation seed 1987)", () => {
    const site = new Site();
    site.active("lb1", true);
    site.opens("lb1", 1);
    // It was closed there, and this node has become the owner without hearing it, and has its service no more.
    site.active("lb2", true);
    const store = site.store("lb2");
    store.configure([]);
    const { family, protocol, original } = flow(1, 11, 0);
    const end: Entry[] = [{ ended: true, flow: { family, protocol, original, service: "web" } }];
    expect(store.remote("lb1", { first: false, last: false, entries: end }, clock.now).tell).toEqual([
      { key: flowKey(flow(1, 11, 0)), ended: expect.anything() as unknown },
    ]);
  });

  it("a kernel change that waited behind a batch with another flow of the same addresses is dropped", () => {
    const site = new Site();
    site.active("lb1", true);
    site.opens("lb1", 1, 11);
    const { id: _, status: __, packets: ___, bytes: ____, mark: _____, ...plain } = flow(1, 12, 0);
    const other: Entry[] = [{ ended: false, flow: { ...plain, service: "web" } }];
    const store = site.store("lb1");
    const terms = new Map([["edge", { router: "edge", term: 2, seen: 2, active: true }]]);
    store.remote("lb2", { first: false, last: false, entries: other, terms }, clock.now);
    const waiting = store.setActive(new Set(), clock.now);
    expect([waiting.delete.length, waiting.create.length]).toEqual([1, 1]);
    expect(store.still(waiting).create).toHaveLength(1);
    const third: Entry[] = [
      { ended: false, flow: { ...plain, reply: flow(1, 13, 0).reply, service: "web" } },
    ];
    store.remote("lb2", { first: false, last: false, entries: third, terms }, clock.now);
    const { delete: deleted, create } = store.still(waiting);
    expect([deleted, create]).toEqual([[], []]);
  });

  it("the end of an earlier entry, heard after a peer spoke of the next one, is not the end of that", () => {
    const site = new Site();
    site.active("lb1", true);
    site.active("lb2", true);
    site.opens("lb2", 1);
    const end = site.store("lb1").kernelEnd(flow(1, 11, marks["lb1"] ?? 0), clock.now);
    expect([end.tell, end.create.length, site.store("lb1").counts.own]).toEqual([[], 1, 1]);
  });

  const time = { timeout: 30_000 + 50 * seeds };
  it(
    "whatever happens, no open connection is missing anywhere once the links are whole over many seeds",
    time,
    () => {
      for (let seed = 1; seed <= seeds; seed++) {
        const random = seededRandom(seed);
        const site = new Site();
        let active: Name = "lb1";
        site.active(active, true);
        const any = (): Name => names[randomInt(random, 0, 2)] ?? "lb1";
        for (let i = 0; i < 120; i++) {
          const node = any();
          const other = any();
          // Ports of their own: two nodes never give one to different backends here.
          if (chance(random, 0.6)) site.opens(active, randomInt(random, 0, 40));
          if (chance(random, 0.3)) site.ends(active, randomInt(random, 0, 40));
          if (node !== other && chance(random, 0.05)) site.cut.add(site.link(node, other));
          if (node !== other && site.cut.has(site.link(node, other)) && chance(random, 0.3))
            site.heal(node, other);
          if (chance(random, 0.05)) {
            site.active(node, true);
            if (node !== active) site.active(active, false);
            active = node;
          }
        }
        for (const [x, y] of [
          ["lb1", "lb2"],
          ["lb1", "lb3"],
          ["lb2", "lb3"],
        ] as const)
          site.heal(x, y);
        site.upkeep();
        try {
          for (const name of names) {
            const missing = [...site.open].filter((key) => !site.table(name).has(key));
            expect(missing, `missing at ${name}`).toEqual([]);
          }
          // And what ended is gone where it counts; a copy whose owner was out of reach may linger elsewhere.
          expect(site.table(active).size).toBe([...site.store(active).own.keys()].length);
        } catch (error) {
          throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
        }
      }
    },
  );
});

describe("connections", () => {
  it("whose end was never told are in a peer's kernel for hours at most, and prolonged until then", () => {
    const backup = new FlowStore(MASK, "lb2");
    backup.configure([{ name: "web", router: "edge", mark: 0x4e000001 }]);
    const { id: _, status: __, packets: ___, bytes: ____, mark: _____, ...plain } = flow(1, 11, 0);
    const entries: Entry[] = [{ ended: false, flow: { ...plain, timeout: 432_000, service: "web" } }];
    const terms = new Map([["edge", { router: "edge", term: 1, seen: 1, active: true }]]);
    const { create } = backup.remote("lb1", { first: true, last: true, entries, terms }, clock.now);
    expect(create.map(({ timeout }) => timeout)).toEqual([11_160]);
    expect(backup.upkeep(instant(3_719_000)).prolong).toEqual([]);
    expect(backup.upkeep(instant(3_720_000)).prolong.map(({ timeout }) => timeout)).toEqual([11_160]);
  });

  const plainOf = (n: number, backend = 11) => {
    const { id: _, status: __, packets: ___, bytes: ____, mark: _____, ...plain } = flow(n, backend, 0);
    return { ...plain, service: "web" };
  };
  const storeOf = (node: string): FlowStore => {
    const store = new FlowStore(MASK, node);
    store.configure([{ name: "web", router: "edge", mark: 0x4e000001 }]);
    return store;
  };
  const terms = (term: number, active = true) =>
    new Map([["edge", { router: "edge", term, seen: term, active }]]);

  it("that another Active speaks of get time and no state: the kernel may know already that they are closed", () => {
    const active = storeOf("lb2");
    active.setActive(new Set(["edge"]), clock.now);
    active.kernelFlow({ ...flow(1, 11, 0x4e000001), timeout: 432_000 }, clock.now);
    const entries: Entry[] = [{ ended: false, flow: plainOf(1) }];
    const { update, create, lifetime } = active.remote(
      "lb1",
      { first: false, last: false, entries, terms: terms(1) },
      clock.now,
    );
    expect([update, create, lifetime.map(({ timeout }) => timeout)]).toEqual([[], [], [11_160]]);
  });

  it("that the kernel refuses are tried again, also after this node has become Active", () => {
    const next = storeOf("lb2");
    const entries: Entry[] = [{ ended: false, flow: plainOf(1) }];
    next.remote("lb1", { first: true, last: true, entries, terms: terms(1) }, clock.now);
    next.lost(flow(1, 11, 0));
    expect(next.setActive(new Set(["edge"]), clock.now).create).toHaveLength(1);
    expect(next.upkeep(clock.now).create).toEqual([]);
    next.lost(flow(1, 11, 0));
    expect(next.upkeep(clock.now).create).toHaveLength(1);
    expect(next.upkeep(clock.now).create).toEqual([]);
  });

  it("that a node finds at its start and the Active does not know are not there for days", () => {
    const reborn = storeOf("lb1");
    reborn.reconcile([{ ...flow(1, 11, 0x4e000001), timeout: 432_000 }, flow(2, 11, 0x4e000001)], clock.now);
    const entries: Entry[] = [{ ended: false, flow: plainOf(2) }];
    // Of who is Active nowhere it says nothing.
    const idle = reborn.remote(
      "lb3",
      { first: true, last: true, entries: [], terms: terms(0, false) },
      clock.now,
    );
    expect(idle.lifetime).toEqual([]);
    const said = reborn.remote("lb2", { first: true, last: true, entries, terms: terms(2) }, clock.now);
    expect(
      said.lifetime.map(({ original, timeout }) => [flowKey({ protocol: 6, original }), timeout]),
    ).toEqual([[flowKey(flow(1, 11, 0)), 120]]);
  });

  it("of an Active that died and that the next one does not speak of are given no more time", () => {
    const third = storeOf("lb3");
    const entries: Entry[] = [1, 2].map((n) => ({ ended: false, flow: plainOf(n) }));
    third.remote("lb1", { first: true, last: true, entries, terms: terms(1) }, clock.now);
    // No snapshot: lb2 took over, and tells what it has.
    const delivery = { first: false, last: false, entries: entries.slice(0, 1), terms: terms(2) };
    third.remote("lb2", delivery, clock.now);
    const { prolong } = third.upkeep(instant(3_720_000));
    expect(prolong.map(flowKey)).toEqual([flowKey(flow(1, 11, 0))]);
    expect(third.upkeep(instant(20_000_000)).prolong.map(flowKey)).toEqual([flowKey(flow(1, 11, 0))]);
  });

  it("that were closed through the other node while both were Active do not stay", () => {
    const active = new FlowStore(MASK, "lb2");
    active.configure([{ name: "web", router: "edge", mark: 0x4e000001 }]);
    active.setActive(new Set(["edge"]), clock.now);
    const both = [flow(1, 11, 0x4e000001), flow(2, 11, 0x4e000001)] as const;
    for (const one of both) active.kernelFlow(one, clock.now);
    const told = (entries: Entry[]): StoreEffects =>
      active.remote("lb1", { first: false, last: false, entries }, clock.now);
    const recordOf = ({ family, protocol, original, reply, windowScales }: Flow) => {
      return { family, protocol, original, reply, windowScales, service: "web", timeout: 120 };
    };
    // Its first FIN: the state is taken over, once.
    const finished = { ...recordOf(both[0]), tcpState: TCP_STATE.FIN_WAIT };
    const fin: Entry[] = [{ ended: false, flow: finished }];
    expect(told(fin).update).toEqual([expect.objectContaining({ tcpState: 4, timeout: 120 })]);
    expect(told(fin).update).toEqual([]);
    // Its end: it goes soon, unless a packet comes.
    const { lifetime, delete: deleted } = told([{ ended: true, flow: recordOf(both[1]) }]);
    expect([lifetime, deleted]).toEqual([[expect.objectContaining({ timeout: 120 })], []]);
    expect(active.counts.own).toBe(2);
  });
});
