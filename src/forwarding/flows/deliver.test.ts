import { describe, expect, it } from "vitest";
import { ip, ipBytes } from "../../base/addresses.ts";
import { instant, ms } from "../../base/time.ts";
import { type Flow, flowKey } from "../../linux/wire-conntrack.ts";
import { deliver } from "./deliver.ts";
import { PeerMachine } from "./machine-peer.ts";
import { FlowStore } from "./machine-store.ts";
import type { StoreEffects } from "./store-effects.ts";

const now = instant(1000);
const mark = 0x4e000001;
const flow = (n: number): Flow => ({
  family: 4,
  protocol: 6,
  original: {
    source: ipBytes(ip("10.0.0.9")),
    destination: ipBytes(ip("10.0.0.1")),
    sourcePort: n,
    destinationPort: 80,
  },
  reply: {
    source: ipBytes(ip("10.1.0.11")),
    destination: ipBytes(ip("10.0.0.9")),
    sourcePort: 8080,
    destinationPort: n,
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

function node(name: string, peer: string) {
  const store = new FlowStore(0xff000fff, name);
  store.configure([{ name: "web", router: "edge", mark }]);
  const config = { site: "shop", node: name, peer, instance: name, delay: ms(5), batch: 8, window: 3 };
  return { store, machine: new PeerMachine({ ...config, alive: ms(1000) }, store.own) };
}

describe("a batch that the kernel refused as a whole", () => {
  it("is not acknowledged by a later one, and comes again", async () => {
    const active = node("lb1", "lb2");
    const backup = node("lb2", "lb1");
    const table = new Set<string>();
    let fails = false;
    const ends: string[] = [];
    const connect = (): void => {
      for (const { machine } of [active, backup]) machine.connected(now);
    };
    const cut = (reason: string): void => {
      ends.push(reason);
      for (const { machine } of [active, backup]) machine.disconnected();
    };
    /** Lets everything arrive; what arrived together is carried out, though the connection ends meanwhile. */
    const settle = async (): Promise<void> => {
      for (let round = 0; round < 10; round++) {
        active.machine.flush(now);
        for (const bytes of active.machine.takeOutput()) backup.machine.receive(bytes, now);
        for (const bytes of backup.machine.takeOutput()) active.machine.receive(bytes, now);
        active.machine.takeDeliveries();
        for (const delivery of backup.machine.takeDeliveries())
          await deliver("lb1", backup.machine, delivery, {
            now: () => now,
            store: backup.store,
            kernel: {
              apply: (effects: StoreEffects) => {
                const failing = fails && effects.create.length > 0;
                if (failing) fails = false;
                if (failing) return Promise.reject(new Error("no memory"));
                for (const one of [...effects.create, ...effects.update]) table.add(flowKey(one));
                return Promise.resolve();
              },
            },
            tell: () => undefined,
            end: cut,
          }).catch(() => undefined);
      }
    };
    const opens = (n: number): void => {
      for (const { key } of active.store.kernelFlow(flow(n), now).tell) active.machine.changed(key, now);
      active.machine.flush(now);
    };
    active.store.setActive(new Set(["edge"]), now);
    connect();
    await settle();
    fails = true;
    opens(1);
    opens(2);
    await settle();
    expect(ends).toEqual(["the kernel failed: no memory"]);
    expect(table.has(flowKey(flow(1)))).toBe(false);
    expect(active.machine.status.unacknowledged).toBe(2);
    connect();
    await settle();
    expect([table.has(flowKey(flow(1))), table.has(flowKey(flow(2)))]).toEqual([true, true]);
    expect(active.machine.status.unacknowledged).toBe(0);
  });
});
