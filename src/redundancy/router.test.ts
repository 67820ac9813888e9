/** The shell of one virtual router, without a kernel under it. */
import { describe, expect, it } from "vitest";
import { type IpAddress, ip } from "../base/addresses.ts";
import { instant, ms, seconds } from "../base/time.ts";
import { VirtualClock } from "../base/virtual-clock.ts";
import type { RouterPlan } from "../contracts/redundancy.ts";
import { virtualAddresses } from "./plan.ts";
import { type RouterOptions, RouterRunner } from "./router.ts";

const linkLocal = (vrid: number): IpAddress => ip(`fe80::5e:${vrid}`);
const base = ip("fe80::2");

const planOf = (router: string, vrid: number): RouterPlan => ({
  router,
  version: 3,
  priority: 110,
  interval: ms(100),
  preempt: false,
  preemptDelay: ms(0),
  startDelay: ms(0),
  checksum: "auto",
  minHopLimit: 255,
  virtualMac: false,
  lease: seconds(2),
  fence: true,
  announce: { count: 1, interval: ms(20), again: seconds(5), refresh: seconds(60) },
  tracks: [{ name: "script x", kind: "reported", lower: 30 }],
  hooks: { timeout: seconds(10) },
  instances: [
    {
      interface: "eth0",
      vrid,
      family: 6,
      unicast: false,
      addresses: [{ address: linkLocal(vrid), interface: "eth0", advertise: true }],
      peers: [],
    },
  ],
  nodes: [
    { node: "lb1", address: ip("10.9.0.2"), priority: 110 },
    { node: "lb2", address: ip("10.9.0.3"), priority: 100 },
  ],
});

/** `present`: the addresses of eth0, as the kernel lists them. */
function started(plan: RouterPlan, plans: readonly RouterPlan[], present: readonly IpAddress[]) {
  let changes = 0;
  const silent = { debug() {}, info() {}, warn() {}, error() {} };
  const runner = new RouterRunner({
    clock: new VirtualClock(instant(0)),
    log: silent,
    node: "lb1",
    plan,
    firstId: 1,
    links: {
      usable: (_name: string, _family: number, virtual: ReadonlySet<IpAddress>) => ({
        up: true,
        reason: "up",
        ifindex: 2,
        source: present.find((address) => !virtual.has(address)),
      }),
    },
    sockets: { listen: () => true, unlisten() {}, send: () => 0 },
    keeper: { all: virtualAddresses([plan]), leftovers: () => false, held: false },
    virtual: () => new Set(virtualAddresses(plans)),
    onChange: () => changes++,
    onEvent() {},
  } as unknown as RouterOptions);
  runner.start();
  return { runner, changes: () => changes };
}

describe("a virtual router", () => {
  it("never sends from another one's virtual address on the same link", () => {
    const [edge, inner] = [planOf("edge", 51), planOf("inner", 52)];
    const { runner } = started(edge, [edge, inner], [linkLocal(52), linkLocal(51), base]);
    expect(runner.state.links[0]?.source).toBe(base);
  });
  it("tells at once when its priority is another one, since the others decide by what hello told", () => {
    const plan = planOf("edge", 51);
    const { runner, changes } = started(plan, [plan], [base]);
    runner.settle();
    const before = changes();
    runner.step({ type: "track", name: "script x", good: false, reason: "exit 1" });
    expect(changes()).toBe(before + 1);
    runner.step({ type: "track", name: "script x", good: false, reason: "exit 2" });
    expect(changes()).toBe(before + 1);
  });
});
