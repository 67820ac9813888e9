import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ip, ipBytes } from "../../base/addresses.ts";
import { SystemClock } from "../../base/system-clock.ts";
import { Conntrack } from "../../linux/conntrack.ts";
import { NetworkNamespace } from "../../linux/namespace.ts";
import { canNamespace } from "../../linux/nftables/testing/namespace.ts";
import { type FlowPlan, TCP_STATE } from "../../linux/wire-conntrack.ts";
import { KernelFlows } from "./kernel.ts";

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

describe.skipIf(!canNamespace("conntrack"))("what peers tell, in this node's kernel", () => {
  let table: Conntrack;
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
    const lost: FlowPlan[] = [];
    const kernel = new KernelFlows(table, (one) => lost.push(one));
    const [before, after] = [flow("10.0.0.8", 7000), flow("10.0.0.9", 7000)];
    await kernel.create([before]);
    expect(await table.update([{ ...before, tcpState: TCP_STATE.TIME_WAIT, timeout: 120 }])).toEqual([]);
    await kernel.create([after]);
    expect(await table.get(after)).toMatchObject({ reply: after.reply });
    expect(await table.get(before)).toBeUndefined();
    expect([lost, kernel.counters["refusedByKernel"]]).toEqual([[], 0]);
  });

  it("does not end one that lives, and is tried again later", async () => {
    const lost: FlowPlan[] = [];
    const kernel = new KernelFlows(table, (one) => lost.push(one));
    const [living, other] = [flow("10.0.0.8", 7001), flow("10.0.0.9", 7001)];
    await kernel.create([living, other]);
    expect(await table.get(living)).toMatchObject({ tcpState: TCP_STATE.ESTABLISHED });
    expect(lost).toEqual([other]);
    expect(kernel.counters["refusedByKernel_EEXIST"]).toBe(1);
  });

  it("replaces the same client's earlier connection to another backend, and renews the same", async () => {
    const kernel = new KernelFlows(table, () => undefined);
    const [first, second] = [flow("10.0.0.7", 7002), flow("10.0.0.7", 7003, "10.1.0.12")];
    await kernel.create([first]);
    await kernel.create([second]);
    expect(await table.get(first)).toMatchObject({ reply: second.reply });
    await kernel.create([{ ...second, tcpState: TCP_STATE.CLOSE_WAIT }]);
    expect(await table.get(second)).toMatchObject({ tcpState: TCP_STATE.CLOSE_WAIT });
    expect(kernel.counters["refusedByKernel"]).toBe(0);
  });
});
