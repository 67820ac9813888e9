/** Stores of three nodes, joined without streams: what one tells the others hear at once, or when they meet again. */
import { expect } from "vitest";
import { ip, ipBytes } from "../../../base/addresses.ts";
import { instant } from "../../../base/time.ts";
import { type Flow, flowKey } from "../../../linux/wire-conntrack.ts";
import { FlowStore } from "../machine-store.ts";
import { type StoreEffects, nothing } from "../store-effects.ts";
import type { RouterTerm } from "../machine-terms.ts";
import type { Entry } from "../wire.ts";

export const MASK = 0xff000fff;
/** Numbers of services differ between nodes. */
export const marks: Record<string, number> = { lb1: 0x4e000001, lb2: 0x4e000005, lb3: 0x4e000009 };
export const names = ["lb1", "lb2", "lb3"] as const;
export type Name = (typeof names)[number];
/** The time of all of them. */
export const clock = { now: instant(0) };

export const flow = (n: number, backend: number, mark: number): Flow => ({
  family: 4,
  protocol: 6,
  original: {
    source: ipBytes(ip("10.0.0.9")),
    destination: ipBytes(ip("10.0.0.1")),
    sourcePort: 1000 + n,
    destinationPort: 80,
  },
  reply: {
    source: ipBytes(ip(`10.1.0.${backend}`)),
    destination: ipBytes(ip("10.0.0.9")),
    sourcePort: 8080,
    destinationPort: 1000 + n,
  },
  status: 0xe,
  mark,
  timeout: 300,
  tcpState: 3,
  windowScales: [7, 7],
  id: 1,
  packets: 0,
  bytes: 0,
});

/** Stores joined by links that are whole or cut; a healed link begins with a snapshot each way. */
export class Site {
  readonly stores = new Map<Name, FlowStore>();
  /** What each node's kernel holds: key to backend. */
  readonly kernel = new Map<Name, Map<string, string>>();
  readonly cut = new Set<string>();
  /** Connections that were opened and have not ended. */
  readonly open = new Set<string>();
  /** The link between two nodes, whichever is named first. */
  link(x: Name, y: Name): string {
    return [x, y].sort().join();
  }
  constructor() {
    for (const name of names) {
      const store = new FlowStore(MASK, name);
      store.configure([{ name: "web", router: "edge", mark: marks[name] ?? 0 }]);
      this.stores.set(name, store);
      this.kernel.set(name, new Map());
    }
  }
  store(name: Name): FlowStore {
    return this.stores.get(name) as FlowStore;
  }
  table(name: Name): Map<string, string> {
    return this.kernel.get(name) as Map<string, string>;
  }
  carryOut(at: Name, effects: StoreEffects): void {
    const table = this.table(at);
    for (const one of effects.delete) table.delete(flowKey(one));
    for (const one of [...effects.create, ...effects.update]) {
      expect(one.mark).toBe(marks[at]);
      table.set(flowKey(one), one.reply.source.join("."));
    }
    for (const { key, ended } of effects.tell)
      for (const peer of names)
        if (peer !== at && !this.cut.has(this.link(at, peer))) this.send(at, peer, key, ended);
  }
  send(from: Name, to: Name, key: string, ended: Extract<Entry, { ended: true }>["flow"] | undefined): void {
    const own = this.store(from).own.get(key);
    const entry: Entry | undefined =
      own === undefined ? ended && { ended: true, flow: ended } : { ended: false, flow: own };
    if (entry === undefined) return;
    const delivery = { first: false, last: false, entries: [entry], terms: this.terms(from) };
    this.carryOut(to, this.store(to).remote(from, delivery, clock.now));
  }
  entries(of: Name): Entry[] {
    const { own } = this.store(of);
    return [...own.keys()].flatMap((key): Entry[] => {
      const flow = own.get(key);
      return flow === undefined ? [] : [{ ended: false, flow }];
    });
  }
  terms(of: Name): ReadonlyMap<string, RouterTerm> {
    return new Map(this.store(of).own.terms?.map((term) => [term.router, term]));
  }
  /** What each says every two seconds. */
  upkeep(): void {
    for (const name of names) {
      const { tell, create } = this.store(name).upkeep(clock.now);
      this.carryOut(name, { ...nothing(), create: [...create], tell: [...tell] });
    }
  }
  heal(x: Name, y: Name): void {
    this.cut.delete(this.link(x, y));
    for (const [from, to] of [
      [x, y],
      [y, x],
    ] as const) {
      const delivery = { first: true, last: true, entries: this.entries(from), terms: this.terms(from) };
      this.carryOut(to, this.store(to).remote(from, delivery, clock.now));
    }
  }
  active(name: Name, on: boolean): void {
    this.carryOut(name, this.store(name).setActive(new Set(on ? ["edge"] : []), clock.now));
  }
  opens(at: Name, n: number, backend = 11): void {
    const one = flow(n, backend, marks[at] ?? 0);
    this.open.add(flowKey(one));
    this.table(at).set(flowKey(one), one.reply.source.join("."));
    this.carryOut(at, this.store(at).kernelFlow(one, clock.now));
  }
  ends(at: Name, n: number): void {
    const backend = Number(
      this.table(at)
        .get(flowKey(flow(n, 11, 0)))
        ?.split(".")[3] ?? 11,
    );
    if (!this.table(at).delete(flowKey(flow(n, 11, 0)))) return;
    this.open.delete(flowKey(flow(n, 11, 0)));
    this.carryOut(at, this.store(at).kernelEnd(flow(n, backend, marks[at] ?? 0), clock.now));
  }
  same(): void {
    for (const name of names.slice(1)) expect(this.table(name), name).toEqual(this.table("lb1"));
  }
}
