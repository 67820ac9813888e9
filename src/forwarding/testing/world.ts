/** What the scenarios of this room share: a director (this namespace), backends on one link, a client. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Log, LogFields } from "../../base/log.ts";
import { SystemClock } from "../../base/system-clock.ts";
import { ms } from "../../base/time.ts";
import { siteSchema } from "../../config/schema/site.ts";
import type { AdminState, BackendStatus, HealthState } from "../../contracts/forwarding.ts";
import type { Site, SiteInput } from "../../contracts/site.ts";
import { sh, sleep } from "../../linux/nftables/testing/namespace.ts";
import { readSysctl, writeSysctl } from "../../linux/sysctl.ts";
import type { Ask } from "./agent.ts";

export const clock = new SystemClock();
export const logged: LogFields[] = [];
const push = (fields: LogFields): void => void logged.push(fields);
export const log: Log = { debug: push, info: push, warn: push, error: push };

/** br0 (10.2.0.1, fd02::1) with b1, b2, b3 (.11-.13); wire v-c to the client (10.0.0.9, fd00::9). */
export async function makeWorld(backends = 3): Promise<void> {
  sh("ip link add br0 type bridge");
  // Where br_netfilter is loaded, it would translate addresses before the packet is routed.
  for (const name of ["iptables", "ip6tables"]) setSysctlIfThere(`net/bridge/bridge-nf-call-${name}`, "0");
  sh("ip addr add 10.2.0.1/24 dev br0");
  sh("ip addr add fd02::1/64 dev br0 nodad");
  sh("ip link set br0 up");
  for (let i = 1; i <= backends; i++) onBridge(`b${i}`, `10.2.0.${10 + i}`, `fd02::${10 + i}`);
  namespace("c", "v-c");
  sh("ip addr add 10.0.0.1/24 dev v-c");
  sh("ip addr add fd00::1/64 dev v-c nodad");
  sh("ip -n c addr add 10.0.0.9/24 dev eth0");
  sh("ip -n c addr add fd00::9/64 dev eth0 nodad");
  sh("ip -n c route add default via 10.0.0.1");
  sh("ip -n c -6 route add default via fd00::1");
  for (let i = 1; i <= backends; i++) serve(`b${i}`, 8080, 5000, 5001, 5002, 5003);
  await sleep(1200);
}

function setSysctlIfThere(name: string, value: string): void {
  if (readSysctl(name) !== undefined) writeSysctl(name, value);
}

export function onBridge(name: string, v4: string, v6: string): void {
  namespace(name, `v-${name}`);
  sh(`ip link set v-${name} master br0`);
  sh(`ip -n ${name} addr add ${v4}/24 dev eth0`);
  sh(`ip -n ${name} addr add ${v6}/64 dev eth0 nodad`);
  sh(`ip -n ${name} route add default via 10.2.0.1`);
  sh(`ip -n ${name} -6 route add default via fd02::1`);
}

function namespace(name: string, near: string): void {
  sh(`ip netns add ${name}`);
  sh(`ip link add ${near} type veth peer name eth0 netns ${name}`);
  sh(`ip -n ${name} link set lo up`);
  sh(`ip -n ${name} link set eth0 up`);
  sh(`ip link set ${near} up`);
}

const agent = fileURLToPath(new URL("agent.ts", import.meta.url));
const start = (namespace: string, ...args: string[]) => {
  const node = [process.execPath, "--import", "tsx", agent, ...args];
  const inside = namespace === "" ? node : ["ip", "netns", "exec", namespace, ...node];
  const [command = "", ...rest] = inside;
  return spawn(command, rest, { stdio: ["pipe", "pipe", "inherit"] });
};
function serve(name: string, ...ports: number[]): void {
  start(name, "server", name, ...ports.map(String));
}

export type AskClient = (ask: Omit<Ask, "id">) => Promise<string[]>;
/** A client in a namespace; in the director's own with "". */
export function client(namespace: string): AskClient {
  const child = start(namespace, "client");
  const waiting = new Map<number, (result: string[]) => void>();
  let next = 0;
  createInterface({ input: child.stdout }).on("line", (line) => {
    const { id, result } = JSON.parse(line) as { id: number; result: string[] };
    waiting.get(id)?.(result);
    waiting.delete(id);
  });
  return (ask) =>
    new Promise((resolve) => {
      waiting.set(++next, resolve);
      child.stdin.write(`${JSON.stringify({ ...ask, id: next })}\n`);
    });
}

/** A site with one router, the pool `apps` and these services. */
export function site(change: {
  readonly services: SiteInput["services"];
  readonly pools?: SiteInput["pools"];
  readonly nodes?: readonly string[];
}): Site {
  const nodes = change.nodes ?? ["lb1", "lb2"];
  return siteSchema.parse({
    site: "shop",
    nodes: Object.fromEntries(nodes.map((name, i) => [name, { address: `10.2.0.${i + 1}` }])),
    virtualRouters: {
      edge: {
        priorities: Object.fromEntries(nodes.map((name, i) => [name, 110 - i])),
        members: [
          { interface: "v-c", vrid: 51, addresses: ["10.0.0.1", "10.0.0.2"] },
          { interface: "v-c", vrid: 52, addresses: ["fd00::1"] },
          { interface: "br0", vrid: 53, addresses: ["10.2.0.1"] },
          { interface: "br0", vrid: 54, addresses: ["fd02::1"] },
        ],
      },
    },
    pools: change.pools ?? { apps: { backends: appBackends } },
    services: change.services,
  });
}
export const appBackends = { b1: "10.2.0.11:8080", b2: "10.2.0.12:8080", b3: "10.2.0.13:8080" };

export const status = (
  pool: string,
  backend: string,
  health: HealthState,
  admin: AdminState = "enabled",
): BackendStatus => ({
  pool,
  backend,
  health,
  admin,
  reason: "set by the test",
  effectiveWeight: 1,
  since: ms(0),
});

/** How often each backend answered. */
export function tally(replies: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const reply of replies) {
    const name = reply.split(" ")[0] ?? "";
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}
