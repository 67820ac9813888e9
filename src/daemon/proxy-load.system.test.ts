import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { NetworkNamespace } from "../linux/namespace.ts";
import { RealNode, inside } from "./testing/real-node.ts";
import { type Load, beginLoad, siteNumber, until } from "./testing/reload-drill.ts";

let namespace: NetworkNamespace;
let node: RealNode;
let load: Load | undefined;
beforeEach(() => {
  namespace = NetworkNamespace.create();
  node = new RealNode(namespace);
});
afterEach(async () => {
  load?.kill();
  load = undefined;
  await node.cleanUp();
  namespace.close();
});

const root = process.getuid?.() === 0;
const workers = () => node.processes().filter(({ name }) => name === "proxy");
const spare = () => node.processes().find(({ name, phase }) => name === "proxy-spare" && phase === "running");
const settled = () => spare() !== undefined && workers().every(({ phase }) => phase === "running");

/** The kernel spreads connections over the workers' sockets: one that nobody accepts from lets some of these wait. */
const everyWorkerAccepts = async (port: number): Promise<void> => {
  const each = ["-sS", "-f", "-m", "10", "-o", "/dev/null", "-H", "Connection: close"];
  await inside(namespace, "curl", ...each, `http://127.0.0.1:${port}/?[1-24]`);
};

describe.skipIf(!root)("a proxy under load", () => {
  // `npm run bench:reload` is the long form: 1,000 reloads under 500 requests a second with 200 WebSockets.
  it("drops nothing over fifty reloads, whatever comes and goes", async () => {
    load = await beginLoad(namespace, node, 100, 20);
    const before = workers().map(({ pid }) => pid);
    for (let number = 1; number <= 50; number++) {
      node.write(siteNumber(number));
      const { ok, errors } = await node.ask<{ ok: boolean; errors: string[] }>("POST", "/v1/reload");
      expect({ ok, errors }).toEqual({ ok: true, errors: [] });
      if (number % 10 === 5) await everyWorkerAccepts(8081);
    }
    const result = await load.end();
    expect(result.errors).toEqual({});
    expect(result.requests).toBeGreaterThan(50);
    expect(result.webSockets).toMatchObject({ opened: 20, lost: 0 });
    // The same processes: connections, counters and ejections are theirs.
    expect(workers().map(({ pid }) => pid)).toEqual(before);
  }, 240_000);

  it("has a spare that takes a crashed worker's place, and only that worker's connections die", async () => {
    load = await beginLoad(namespace, node, 50, 40);
    await until(settled, "the spare");
    const [waiting, victim] = [spare()?.pid, workers()[0]?.pid];
    // Counters come once a second: the load's 40 WebSockets have to be in them.
    let held = 0;
    for (let i = 0; i < 200; i++) {
      const told = (await node.status()).proxy?.workers ?? [];
      held = told.find(({ pid }) => pid === victim)?.connections ?? 0;
      if (told.reduce((sum, { connections }) => sum + connections, 0) >= 40) break;
      await sleep(100);
    }
    process.kill(victim ?? -1, "SIGKILL");
    await until(() => workers()[0]?.pid === waiting && workers()[0]?.phase === "running", "the spare's turn");
    await until(() => settled() && spare()?.pid !== waiting, "another spare");
    const result = await load.end();
    const others = workers().length - 1;
    // WebSockets that the victim held, and no others.
    expect(result.webSockets.lost).toBeLessThanOrEqual(held);
    if (others > 0) expect(result.webSockets.lost).toBeLessThan(40);
    // What was under way at that worker is lost; nothing is refused, and nothing fails afterwards.
    expect(result.errors["ECONNREFUSED"] ?? 0).toBe(0);
    const lost = Object.values(result.errors).reduce((sum, count) => sum + count, 0);
    expect(lost).toBeLessThan(40);
  }, 240_000);

  it("is upgraded without a refused connection", async () => {
    load = await beginLoad(namespace, node, 100, 0);
    await until(settled, "the spare");
    const before = new Set(node.processes().map(({ pid }) => pid));
    node.signal("SIGUSR2");
    await until(
      () => settled() && node.processes().every(({ pid, phase }) => !before.has(pid) && phase === "running"),
      "every process to be replaced",
      90_000,
    );
    const result = await load.end();
    expect(result.errors).toEqual({});
  }, 240_000);
});
