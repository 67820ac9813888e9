import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ip, ipBytes } from "../../base/addresses.ts";
import { SystemClock } from "../../base/system-clock.ts";
import { Conntrack } from "../../linux/conntrack.ts";
import { NetworkNamespace } from "../../linux/namespace.ts";
import { canNamespace } from "../../linux/nftables/testing/namespace.ts";
import { type FlowPlan, TCP_STATE, flowKey } from "../../linux/wire-conntrack.ts";
import { KernelFlows } from "./kernel.ts";
import { FlowStore } from "./machine-store.ts";
import { type StoreEffects, nothing } from "./store-effects.ts";

const tuple = (source: string, sourcePort: number, destination: string, destinationPort: number) => ({
  source: ipBytes(ip(source)),
  destination: ipBytes(ip(destination)),
  sourcePort,
  destinationPort,
});

/** Masqueraded: the backend answers a port of the virtual address, whoever the client is. */
const flow = (client: string, port: number, backend = "10.1.0.11"): FlowPlan => ({
  family: 4,
  protocol: 6,
  original: tuple(client, 5000, "10.0.0.1", 80),
  reply: tuple(backend, 8080, "10.1.0.1", port),
  mark: 0x4e000001,
  timeout: 300,
  tcpState: TCP_STATE.ESTABLISHED,
  windowScales: [7, 7],
});

const storeOf = (): FlowStore => {
  const store = new FlowStore(0xffffffff, "lb2");
  store.configure([{ name: "web", router: "edge", mark: 0x4e000001 }]);
  return store;
};
/** A peer's word of it. */
const told = (one: FlowPlan) => ({
  first: false,
  last: false,
  entries: [{ ended: false as const, flow: { ...one, service: "web" } }],
});
/** With what the kernel refused, and what the peers hear of it. */
const withLost = () => {
  const lost: FlowPlan[] = [];
  const store = storeOf();
  const tell: string[] = [];
  const heard = { lost: (one: FlowPlan) => void lost.push(one), clash: store.clash.bind(store) };
  const hear = (effects: Pick<StoreEffects, "tell">): void => {
    for (const { key, ended } of effects.tell) tell.push(`${key} ${ended === undefined ? "lives" : "ended"}`);
  };
  return { lost, store, tell, kernel: new KernelFlows({ table, store: heard, tell: hear }) };
};

let table: Conntrack;
describe.skipIf(!canNamespace("conntrack"))("what peers tell, in this node's kernel", () => {
  beforeAll(() => {
    NetworkNamespace.create().enter();
    execFileSync("sh", [
      "-c",
      "ip link set lo up; nft add table ip t; nft 'add chain ip t c { type nat hook output priority -100; }'",
    ]);
    table = Conntrack.open(new SystemClock());
  });
  afterAll(() => table.close());

  it("takes the place of a closed connection that had its masqueraded port here", async () => {
    const { kernel, lost } = withLost();
    const [before, after] = [flow("10.0.0.8", 7000), flow("10.0.0.9", 7000)];
    await kernel.create([before]);
    expect(await table.update([{ ...before, tcpState: TCP_STATE.TIME_WAIT, timeout: 120 }])).toEqual([]);
    await kernel.create([after]);
    expect(await table.get(after)).toMatchObject({ reply: after.reply });
    expect(await table.get(before)).toBeUndefined();
    expect([lost, kernel.counters["refusedByKernel"]]).toEqual([[], 0]);
  });

  it("does not end one that lives where this node is Active, and tells the peers which of the two does", async () => {
    const { kernel, lost, store, tell } = withLost();
    const now = new SystemClock().monotonic();
    store.setActive(new Set(["edge"]), now);
    const [living, other] = [flow("10.0.0.8", 7001), flow("10.0.0.9", 7001)];
    await table.create([living]);
    const event = await table.get(living);
    if (event !== undefined) store.kernelFlow(event, now);
    await kernel.apply(store.remote("lb1", told(other), now));
    expect(await table.get(living)).toMatchObject({ tcpState: TCP_STATE.ESTABLISHED });
    expect(tell).toEqual([`${flowKey(other)} ended`, `${flowKey(living)} lives`]);
    expect([lost, store.counts]).toEqual([[], { own: 1, others: 0 }]);
    expect(kernel.counters["refusedByKernel_EEXIST"]).toBe(1);
    // Nor where its event has not been read yet.
    const [unread, third] = [flow("10.0.0.8", 7008), flow("10.0.0.9", 7008)];
    await table.create([unread]);
    await kernel.apply(store.remote("lb1", told(third), now));
    expect(await table.get(unread)).toMatchObject({ tcpState: TCP_STATE.ESTABLISHED });
  });

  it("takes the place of a copy whose end was not heard, unless this node is the one that chose the port", async () => {
    const clock = new SystemClock();
    const store = storeOf();
    const kernel = new KernelFlows({ table, store, tell: () => undefined });
    const hears = (one: FlowPlan) => kernel.apply(store.remote("lb1", told(one), clock.monotonic()));
    const [before, after, third] = [8, 9, 10].map((n) => flow(`10.0.0.${n}`, 7004)) as [
      FlowPlan,
      FlowPlan,
      FlowPlan,
    ];
    await hears(before);
    await hears(after);
    expect(await table.get(after)).toMatchObject({ reply: after.reply });
    expect(await table.get(before)).toBeUndefined();
    expect([store.counts, kernel.counters["refusedByKernel"]]).toEqual([{ own: 0, others: 1 }, 0]);
    // It is not put back.
    expect(store.upkeep(clock.monotonic()).create).toEqual([]);

    await kernel.apply(store.setActive(new Set(["edge"]), clock.monotonic()));
    await hears(third);
    expect(await table.get(after)).toMatchObject({ reply: after.reply });
    expect(kernel.counters["refusedByKernel_EEXIST"]).toBe(1);
  });

  it("takes the place of one that nobody has told of, on a node that is not Active", async () => {
    const { kernel } = withLost();
    const [stale, now] = [flow("10.0.0.8", 7005), flow("10.0.0.9", 7005)];
    expect(await table.create([{ ...stale, mark: 0 }])).toEqual([]);
    await kernel.create([now]);
    expect(await table.get(now)).toMatchObject({ reply: now.reply });
  });

  it("gives another time to live without another state", async () => {
    const { kernel } = withLost();
    const one = flow("10.0.0.8", 7006);
    await kernel.create([one]);
    await table.update([{ ...one, tcpState: TCP_STATE.TIME_WAIT, timeout: 100 }]);
    await kernel.apply({ ...nothing(), lifetime: [{ ...one, timeout: 50 }, flow("10.0.0.99", 7007)] });
    const { tcpState, timeout = 0 } = (await table.get(one)) ?? {};
    expect(tcpState).toBe(TCP_STATE.TIME_WAIT);
    expect(timeout).toBeLessThanOrEqual(50);
    expect(kernel.counters["refusedByKernel"]).toBe(0);
  });

  it("replaces the same client's earlier connection to another backend, and renews the same", async () => {
    const { kernel } = withLost();
    const [first, second] = [flow("10.0.0.7", 7002), flow("10.0.0.7", 7003, "10.1.0.12")];
    await kernel.create([first]);
    await kernel.create([second]);
    expect(await table.get(first)).toMatchObject({ reply: second.reply });
    await kernel.create([{ ...second, tcpState: TCP_STATE.CLOSE_WAIT }]);
    expect(await table.get(second)).toMatchObject({ tcpState: TCP_STATE.CLOSE_WAIT });
    expect(kernel.counters["refusedByKernel"]).toBe(0);
  });
});
