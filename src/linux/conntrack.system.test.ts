import { execFileSync, spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ip, ipBytes, ipFromBytes } from "../base/addresses.ts";
import { SystemClock } from "../base/system-clock.ts";
import { ms } from "../base/time.ts";
import { Conntrack, FlowEvents } from "./conntrack.ts";
import { NetworkNamespace } from "./namespace.ts";
import { type Flow, type FlowPlan, TCP_STATE, describeFlow } from "./wire-conntrack.ts";

// Our view of the connection table against that of conntrack(8), in a namespace of this test's own.
const root = process.getuid?.() === 0;
const present = ["conntrack", "nft"].every((name) => spawnSync("which", [name]).status === 0);
const clock = new SystemClock();
const sh = (command: string): string => execFileSync("sh", ["-c", command], { encoding: "utf8" });
const sleep = (span: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, span));
const tuple = (source: string, sourcePort: number, destination: string, destinationPort: number) => ({
  source: ipBytes(ip(source)),
  destination: ipBytes(ip(destination)),
  sourcePort,
  destinationPort,
});
const ours = { value: 0x4e000000, mask: 0xff000000 };
const plan = (n: number, extra: Partial<FlowPlan> = {}): FlowPlan => {
  const port = 10_000 + (n % 50_000);
  const client = `10.20.${Math.floor(n / 50_000)}.9`;
  return {
    family: 4,
    protocol: 6,
    original: tuple(client, port, "10.0.0.1", 80),
    reply: tuple("10.1.0.11", 8080, client, port),
    mark: 0x4e000001,
    timeout: 300,
    tcpState: TCP_STATE.ESTABLISHED,
    windowScales: [7, 9],
    ...extra,
  };
};

describe.skipIf(!root || !present)("the connection table", () => {
  let table: Conntrack;
  beforeAll(() => {
    NetworkNamespace.create().enter();
    sh("ip link set lo up; sysctl -qw net.netfilter.nf_conntrack_acct=1");
    sh(`nft -f - <<'END'
      table ip t {
        chain c {
          type filter hook output priority -150;
          tcp dport 8080 ct mark set ct mark or 0x4e000007
          udp dport 5353 ct mark set ct mark or 0x4e000008
        }
        chain n {
          type nat hook output priority -100
          tcp dport 8888 dnat to 127.0.0.1:8080
        }
      }
      table ip6 t {
        chain c {
          type nat hook output priority -100
          ct state new counter
        }
      }
END`);
    table = Conntrack.open(clock);
  });
  afterAll(() => table.close());

  it("shows new entries to conntrack(8) with translation, state, mark and lifetime", async () => {
    const six: FlowPlan = {
      ...plan(0),
      family: 6,
      protocol: 17,
      original: tuple("2001:db8::9", 999, "2001:db8::1", 53),
      reply: tuple("2001:db8:1::11", 5353, "2001:db8:1::1", 40_000),
    };
    expect(await table.create([plan(1), plan(2, { protocol: 17, timeout: 60 }), six])).toEqual([]);
    const lines = sh("conntrack -L -o extended 2>/dev/null; conntrack -L -f ipv6 -o extended 2>/dev/null");
    expect(lines).toMatch(
      /tcp +6 (300|299) ESTABLISHED src=10.20.0.9 dst=10.0.0.1 sport=10001 dport=80 .*src=10.1.0.11 dst=10.20.0.9 sport=8080 dport=10001 .*\[ASSURED\] mark=1308622849/,
    );
    expect(lines).toMatch(/udp +17 (60|59) src=10.20.0.9 .*sport=10002.*src=10.1.0.11 .*\[ASSURED\]/);
    expect(lines).toMatch(
      /udp +17 (300|299) src=2001:db8::9 dst=2001:db8::1 sport=999 dport=53 .*src=2001:db8:1::11 dst=2001:db8:1::1 sport=5353 dport=40000/,
    );
    const [read] = (await table.list({ mark: ours })).filter((flow) => flow.original.sourcePort === 10_001);
    expect(read).toMatchObject({
      reply: plan(1).reply,
      mark: 0x4e000001,
      tcpState: TCP_STATE.ESTABLISHED,
      windowScales: [7, 9],
      status: 0x2 | 0x4 | 0x8 | 0x20 | 0x80 | 0x100,
    });
  });

  it("refuses a second one, updates and prolongs the first, and finds and deletes by name and id", async () => {
    expect(await table.create([plan(3), plan(3), plan(4)])).toMatchObject([{ index: 1, errno: 17 }]);
    expect(
      await table.update([plan(3, { timeout: 1000, tcpState: TCP_STATE.FIN_WAIT }), plan(99)]),
    ).toMatchObject([{ index: 1, errno: 2 }]);
    const updated = await table.get(plan(3));
    expect(updated).toMatchObject({ tcpState: TCP_STATE.FIN_WAIT, reply: plan(3).reply });
    expect(updated?.timeout).toBeGreaterThan(990);
    expect(await table.prolong([plan(3, { timeout: 5000 })])).toEqual([]);
    expect((await table.get(plan(3)))?.timeout).toBeGreaterThan(4990);
    const id = updated?.id ?? 0;
    expect(id).not.toBe(0);
    expect(await table.delete([{ ...plan(3), id: id ^ 1 }])).toMatchObject([{ index: 0, errno: 2 }]);
    expect(await table.delete([{ ...plan(3), id }, plan(4)])).toEqual([]);
    expect(await table.get(plan(3))).toBeUndefined();
  });

  it("reads what conntrack(8) reads, and the kernel filters by mark and family", async () => {
    const count = (text: string): number => text.split("\n").filter((line) => line !== "").length;
    const all = await table.list();
    expect(all).toHaveLength(count(sh("conntrack -L 2>/dev/null")));
    sh(
      "conntrack -I -p tcp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2 --state ESTABLISHED -t 100 2>/dev/null",
    );
    expect((await table.list()).length).toBe(all.length + 1);
    expect((await table.list({ mark: ours })).length).toBe(all.length);
    expect((await table.list({ family: 6 })).every((flow) => flow.family === 6)).toBe(true);
    const { count: now, max } = Conntrack.occupancy() ?? { count: 0, max: 0 };
    expect([now, max > 0]).toEqual([all.length + 1, true]);
  });

  it("hears of a connection once it is assured, and of its end; nothing of others'", async () => {
    const heard: string[] = [];
    const flows: Flow[] = [];
    const events = FlowEvents.open({
      gather: () => ms(1),
      clock,
      mark: ours,
      onFlow: (flow, by) => {
        flows.push(flow);
        heard.push(
          `flow ${ipFromBytes(flow.original.destination)}:${flow.original.destinationPort} by ${by === table.portid ? "us" : by}`,
        );
      },
      onEnd: (flow, by) =>
        heard.push(`end ${flow.original.destinationPort} by ${by === table.portid ? "us" : by}`),
      onOverrun: () => heard.push("overrun"),
    });
    const servers = [8080, 9090].map((port) =>
      createServer((socket) => socket.end()).listen(port, "127.0.0.1"),
    );
    for (const port of [8080, 9090, 8888]) {
      const client = connect(port, "127.0.0.1").resume();
      await once(client, "close");
    }
    await sleep(50);
    events.drain();
    // 9090 has no mark, and 8888 gets its translation after the rule that would have marked it.
    expect(heard.filter((line) => line.startsWith("flow")).length).toBeGreaterThanOrEqual(1);
    expect(heard.every((line) => /^flow 127.0.0.1:8080 by 0$/.test(line))).toBe(true);
    expect(flows[0]).toMatchObject({ mark: 0x4e000007, protocol: 6 });
    heard.length = 0;
    // A UDP flow that is never answered is not assured: its end is not heard of either.
    const udp = createSocket("udp4");
    await new Promise((resolve) => udp.send("x", 5353, "127.0.0.1", resolve));
    udp.close();
    const ports = async (assured?: boolean): Promise<number[]> =>
      (await table.list({ mark: ours, ...(assured !== undefined && { assured }) })).map(
        ({ original }) => original.destinationPort,
      );
    // Nor does a listing have it, unless it is asked for.
    expect(await ports(false)).toEqual([5353]);
    expect(await ports(true)).not.toContain(5353);
    expect(await ports()).toContain(5353);
    sh("conntrack -D -p udp --dport 5353 2>/dev/null");
    events.drain();
    expect(heard).toEqual([]);
    await table.create([plan(10)]);
    await table.update([plan(10, { timeout: 500 })]);
    await table.delete([plan(10)]);
    events.drain();
    expect(heard.at(-1)).toBe("end 80 by us");
    expect(heard.slice(0, -1).every((line) => line === "flow 10.0.0.1:80 by us")).toBe(true);
    events.close();
    for (const server of servers) server.close();
  });

  it("50,000 flows go in, are counted, are read back and go out", async () => {
    const { count: before } = Conntrack.occupancy() ?? { count: 0 };
    const flows = Array.from({ length: 50_000 }, (_, i) => plan(100_000 + i));
    expect(await table.create(flows)).toEqual([]);
    expect(Conntrack.occupancy()?.count).toBe(before + 50_000);
    const keys = new Set((await table.list({ mark: ours })).map(describeFlow));
    expect(keys.size).toBeGreaterThanOrEqual(50_000);
    expect(await table.delete(flows)).toEqual([]);
    expect(Conntrack.occupancy()?.count).toBe(before);
  });

  it("of our own changes nothing is told; what waits together is told together", async () => {
    const heard: string[] = [];
    const events = FlowEvents.open({
      gather: () => ms(1),
      clock,
      mark: ours,
      except: table.portid,
      onFlow: (flow) => heard.push(`flow ${flow.original.sourcePort}`),
      onEnd: (flow) => heard.push(`end ${flow.original.sourcePort}`),
      onRead: () => heard.push("read"),
      onOverrun: () => heard.push("overrun"),
    });
    const other = Conntrack.open(clock);
    const flows = Array.from({ length: 300 }, (_, i) => plan(30_000 + i));
    await table.create(flows);
    events.drain();
    await table.update(flows);
    await other.update(flows.slice(0, 200));
    await table.delete(flows.slice(200));
    await other.delete(flows.slice(0, 200));
    events.drain();
    for (let i = 0; i < 100 && heard.filter((line) => line.startsWith("end")).length < 200; i++)
      await sleep(20);
    const told = heard.filter((line) => line !== "read");
    const ports = flows.slice(0, 200).map(({ original }) => original.sourcePort);
    expect(told).toEqual([...ports.map((port) => `flow ${port}`), ...ports.map((port) => `end ${port}`)]);
    expect(heard.at(-1)).toBe("read");
    expect(heard.length - told.length).toBeLessThan(50);
    events.close();
    other.close();
  });

  it("gathers what follows one another, and reads each at once from when it is asked to", async () => {
    let ends = 0;
    let span = 60_000;
    const events = FlowEvents.open({
      gather: () => ms(span),
      clock,
      mark: ours,
      onFlow: () => undefined,
      onEnd: () => ends++,
      onOverrun: () => undefined,
    });
    const other = Conntrack.open(clock);
    const end = async (n: number): Promise<void> => {
      await other.create([plan(46_000 + n)]);
      await other.delete([plan(46_000 + n)]);
      await sleep(50);
    };
    // The first is read alone, and so close behind it the socket goes deaf.
    await end(1);
    await end(2);
    await end(3);
    const gathered = ends;
    expect(gathered).toBeLessThan(3);
    span = 0;
    events.drain();
    expect(ends).toBe(3);
    for (const n of [4, 5, 6]) {
      await end(n);
      expect(ends).toBe(n);
    }
    events.close();
    other.close();
  });

  it("events go on after an overrun, which is told", async () => {
    const overruns: string[] = [];
    const ended = new Set<number>();
    const events = FlowEvents.open({
      gather: () => ms(1),
      clock,
      mark: ours,
      onFlow: () => undefined,
      onEnd: (flow) => ended.add(flow.original.sourcePort),
      onOverrun: () => overruns.push("told"),
      receiveBuffer: 32_768,
    });
    const flows = Array.from({ length: 4000 }, (_, i) => plan(40_000 + i));
    await table.create(flows);
    // In one turn of the event loop: its socket cannot be read meanwhile.
    sh("conntrack -D --mark 0x4e000001/0xff0000ff >/dev/null 2>&1");
    for (let i = 0; i < 200 && overruns.length === 0; i++) await sleep(50);
    expect(overruns.length).toBeGreaterThan(0);
    // Until it has calmed down; then it hears again.
    const last = plan(45_000);
    for (let i = 0; i < 100 && !ended.has(last.original.sourcePort); i++) {
      await table.create([last]);
      await table.delete([last]);
      await sleep(50);
    }
    expect(ended.has(last.original.sourcePort)).toBe(true);
    events.close();
  });
});
