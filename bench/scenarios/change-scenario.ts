/** One backend of N goes and comes, again and again: what a change costs this process, and a peer, in CPU and time. */
import { spawn } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../../src/base/log.ts";
import { SystemClock } from "../../src/base/system-clock.ts";
import { ms } from "../../src/base/time.ts";
import { siteSchema } from "../../src/config/schema/site.ts";
import type { BackendStatus } from "../../src/contracts/forwarding.ts";
import type { Site } from "../../src/contracts/site.ts";
import { Forwarder } from "../../src/forwarding/service.ts";
import { finish } from "../../src/linux/nftables/testing/namespace.ts";
import { threadSeconds } from "../support/cpu.ts";

export interface Change {
  readonly subject: string;
  readonly backends: number;
  /** Milliseconds of CPU for one change, over all changes. */
  readonly cpu: number;
  /** Milliseconds from the order until it is in force, of each change. */
  readonly times: readonly number[];
}

const { sizes, changes, haproxy } = JSON.parse(process.argv[2] ?? "{}") as {
  sizes: number[];
  changes: number;
  haproxy: boolean;
};
const silent = (): void => undefined;
const loud = (fields: object): void => console.error(JSON.stringify(fields));
const log: Log = { debug: silent, info: silent, warn: loud, error: loud };

const addresses = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => `10.2.${i >> 8}.${i & 255}:8080`);

const siteOf = (count: number): Site =>
  siteSchema.parse({
    site: "bench",
    nodes: { lb1: { address: "10.9.0.1" } },
    virtualRouters: {
      edge: { priorities: { lb1: 100 }, members: [{ interface: "lo", vrid: 51, addresses: ["10.0.0.1"] }] },
    },
    pools: { apps: { backends: Object.fromEntries(addresses(count).map((at, i) => [`b${i}`, at])) } },
    services: { web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } } },
  });

const statusOf = (backend: string, up: boolean): BackendStatus => ({
  pool: "apps",
  backend,
  health: up ? "up" : "down",
  admin: "enabled",
  reason: "set by the bench",
  effectiveWeight: up ? 1 : 0,
  since: ms(0),
});

async function nines(count: number): Promise<Change> {
  const forwarder = await Forwarder.open({ clock: new SystemClock(), log, node: "lb1" });
  const site = siteOf(count);
  const apply = async (up: boolean, which: number): Promise<number> => {
    const begin = performance.now();
    forwarder.apply(
      site,
      Array.from({ length: count }, (_, i) => statusOf(`b${i}`, up || i !== which)),
    );
    await forwarder.settled();
    return performance.now() - begin;
  };
  await apply(true, 0);
  for (let i = 0; i < 40; i++) await apply(i % 2 === 1, i % count);
  const times: number[] = [];
  const before = process.cpuUsage();
  for (let i = 0; i < changes; i++) times.push(await apply(i % 2 === 1, (i >> 1) % count));
  const { user, system } = process.cpuUsage(before);
  if (forwarder.problem() !== "") throw new Error(forwarder.problem());
  await forwarder.stop(true);
  return { subject: "nines", backends: count, cpu: (user + system) / 1000 / changes, times };
}

async function proxy(count: number): Promise<Change> {
  const directory = mkdtempSync("/run/change-");
  writeFileSync(
    `${directory}/haproxy.cfg`,
    `global
  stats socket ${directory}/socket level admin
  maxconn 1000
defaults
  mode tcp
  timeout connect 2s
  timeout client 60s
  timeout server 60s
frontend web
  bind 127.0.0.1:81
  default_backend apps
backend apps
  balance roundrobin
${addresses(count)
  .map((at, i) => `  server b${i} ${at}`)
  .join("\n")}
`,
  );
  const child = spawn("haproxy", ["-f", `${directory}/haproxy.cfg`], { stdio: "ignore" });
  await sleep(1500);
  const apply = (up: boolean, which: number): Promise<number> => {
    const begin = performance.now();
    return new Promise((resolve, reject) => {
      const socket = connect(`${directory}/socket`);
      socket
        .once("error", reject)
        .once("close", () => resolve(performance.now() - begin))
        .resume();
      socket.end(`set server apps/b${which} state ${up ? "ready" : "maint"}\n`);
    });
  };
  for (let i = 0; i < 40; i++) await apply(i % 2 === 1, i % count);
  const times: number[] = [];
  const before = threadSeconds(child.pid ?? 0);
  for (let i = 0; i < changes; i++) times.push(await apply(i % 2 === 1, (i >> 1) % count));
  const cpu = ((threadSeconds(child.pid ?? 0) - before) * 1000) / changes;
  child.kill("SIGKILL");
  return { subject: "haproxy", backends: count, cpu, times };
}

const seen: Change[] = [];
for (const size of sizes) {
  seen.push(await nines(size));
  if (haproxy) seen.push(await proxy(size));
}
finish(seen);
