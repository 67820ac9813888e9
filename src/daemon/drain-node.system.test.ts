import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { NodeAdminStatus } from "../contracts/api.ts";
import type { AdminState } from "../contracts/forwarding.ts";
import { makeKeys } from "../forwarding/flows/keys.ts";
import type { NetworkNamespace } from "../linux/namespace.ts";
import { type RealNode, bridgedNamespaces, inside, main, RealNode as Node } from "./testing/real-node.ts";
import { PAIR, edgeSite, serveIn } from "./testing/sites.ts";

// With preempt a node that is out would show at once that it is not: it has the higher priority.
const site = edgeSite(PAIR, {
  virtualRouters: {
    edge: {
      priorities: { a: 110, b: 100 },
      interval: "100ms",
      preempt: true,
      members: [{ interface: "wire0", vrid: 51, addresses: ["10.9.0.1"] }],
    },
  },
  pools: {
    apps: { backends: { one: "10.9.0.4:8001" }, check: { tcp: true, interval: "300ms", rise: 1, fall: 2 } },
  },
  services: {
    direct: { on: "edge", listen: "10.9.0.1:81/tcp", forward: { pool: "apps", masquerade: "10.9.0.1" } },
    own: { listen: "0.0.0.0:8080/tcp", proxy: { pool: "apps", health: { path: "/alive", announce: "1s" } } },
  },
});
let lan: Awaited<ReturnType<typeof bridgedNamespaces>>;
let outside: NetworkNamespace;
let first: NetworkNamespace;
let a: RealNode;
let b: RealNode;
let closing: (() => void)[];

beforeEach(async () => {
  closing = [];
  lan = await bridgedNamespaces(["10.9.0.2", "10.9.0.3", "10.9.0.4"]);
  const [one, two, three] = lan.spaces;
  if (one === undefined || two === undefined || three === undefined) throw new Error("three were asked for");
  [first, outside] = [one, three];
  [a, b] = [new Node(one), new Node(two)];
  for (const node of [a, b]) node.write(site);
  const server = createServer((_, response) => response.end("one"));
  serveIn(outside, "10.9.0.4", 8001, server);
  closing.push(() => {
    server.close();
    server.closeAllConnections();
  });
});
afterEach(async () => {
  for (const close of closing) close();
  await a.cleanUp();
  await b.cleanUp();
  lan.close();
});

const patient = { timeout: 30_000, interval: 100 };
const stateOf = async (node: RealNode) => (await node.status().catch(() => undefined))?.routers[0]?.state;
const becomes = (node: RealNode, state: string) =>
  vi.waitFor(async () => expect(await stateOf(node), node.stderr).toBe(state), patient);
const health = (address: string): Promise<string> =>
  inside(
    outside,
    "curl",
    "-s",
    "-m",
    "3",
    "-o",
    "/dev/null",
    "-w",
    "%{http_code}",
    `http://${address}:8080/alive`,
  ).catch(() => "none");
const set = (node: RealNode, name: string, state: AdminState, more: object = {}) =>
  node.ask<NodeAdminStatus>("POST", "/v1/node", { node: name, state, ...more });
const settled = (node: RealNode) =>
  vi.waitFor(async () => {
    const { admin } = await node.status();
    expect(admin.phase).toBe("done");
    return admin;
  }, patient);

/** A new connection every 10 ms; tells how many failed. */
const PROBE = `
  const net = require("node:net");
  let lost = 0, all = 0;
  setInterval(() => {
    all++;
    const socket = net.connect(81, "10.9.0.1");
    let good = false;
    socket.setTimeout(2000, () => socket.destroy());
    socket.on("connect", () => socket.write("GET / HTTP/1.0\\r\\n\\r\\n"));
    socket.on("data", () => { good = true; });
    socket.on("error", () => undefined);
    socket.on("close", () => { if (!good) lost++; });
  }, 10);
  process.on("SIGTERM", () => setTimeout(() => { console.log(JSON.stringify({ lost, all })); process.exit(); }, 2500));
`;
function probe(): () => Promise<{ lost: number; all: number }> {
  const child = outside.run(() =>
    spawn(process.execPath, ["-e", PROBE], { stdio: ["ignore", "pipe", "inherit"] }),
  );
  closing.push(() => child.kill("SIGKILL"));
  let text = "";
  child.stdout.on("data", (part: Buffer) => (text += part.toString()));
  return async () => {
    child.kill("SIGTERM");
    await new Promise((resolve) => child.on("exit", resolve));
    return JSON.parse(text) as { lost: number; all: number };
  };
}
async function pair(): Promise<void> {
  a.start("a");
  await becomes(a, "active");
  b.start("b");
  await becomes(b, "backup");
  for (const node of [a, b])
    await vi.waitFor(async () => {
      const { pools, proxy } = await node.status();
      expect(pools[0]?.healthy).toBe(1);
      expect(proxy?.workers.some(({ state }) => state === "serving")).toBe(true);
    }, patient);
  await vi.waitFor(async () => expect(await health("10.9.0.2")).toBe("200"), patient);
}

const root = process.getuid?.() === 0;

describe.skipIf(!root)("a node that is drained", () => {
  it("says so at its health question, hands over without a lost connection, and stays out over a restart until it is enabled", async () => {
    await pair();
    const stop = probe();
    await set(a, "a", "drain", { within: 5000 });
    await vi.waitFor(async () => expect(await health("10.9.0.2")).toBe("503"), {
      timeout: 10_000,
      interval: 20,
    });
    const { left, state } = await settled(a);
    expect([state, left]).toEqual(["drain", []]);
    await becomes(b, "active");
    await becomes(a, "backup");
    expect(await stop()).toMatchObject({ lost: 0 });
    const out = await a.status();
    expect(out.routers[0]?.priority).toBe(1);
    expect(out.alarms.map(({ name }) => name)).toContain("node_out");
    const explained = await a.ask<{ sentences: string[] }[]>("GET", "/v1/explain?router=edge");
    expect(explained[0]?.sentences.join(" ")).toMatch(
      /a is drained: it serves only while no healthier node is heard/,
    );
    expect(a.events("node.taken_out")).toHaveLength(1);

    // A restart, and a start without the brain's word: the plan on disk has it.
    a.signal("SIGTERM");
    expect(await a.ended).toBe(0);
    a.start("a");
    await becomes(a, "backup");
    await vi.waitFor(async () => expect(await health("10.9.0.2")).toBe("503"), patient);
    expect((await a.status()).admin.state).toBe("drain");
    expect(await stateOf(b)).toBe("active");
    await expect(a.ask("POST", "/v1/switchover", { to: "a" })).rejects.toThrow(/in maintenance/);

    // Nobody healthier: it serves. A healthier one is back: it hands over.
    for (const { pid } of b.processes()) if (pid !== undefined) process.kill(pid, "SIGKILL");
    b.signal("SIGKILL");
    await becomes(a, "active");
    b.start("b");
    await becomes(b, "active");
    await becomes(a, "backup");

    const cli = await inside(first, process.execPath, main, "enable", "a", "--runtime", a.runtime);
    expect(cli).toMatch(/^a: enabled/);
    await becomes(a, "active");
    expect(await health("10.9.0.2")).toBe("200");
    expect((await a.status()).alarms.map(({ name }) => name)).not.toContain("node_out");
  }, 180_000);

  it("may be another one than the one that is asked, where the site has a control API", async () => {
    const folder = a.directory;
    await makeKeys(join(folder, "keys"), "shop", ["a", "b"]);
    writeFileSync(join(folder, "token"), "0123456789abcdef0123456789abcdef");
    const control = { keys: join(folder, "keys"), token: { file: join(folder, "token") } };
    for (const node of [a, b]) node.write({ ...site, control });
    await pair();
    const drained = await inside(
      first,
      process.execPath,
      main,
      "drain",
      "b",
      "--within",
      "0s",
      "--runtime",
      a.runtime,
    );
    expect(drained).toMatch(/^b: drained, also after a restart; nines enable b brings it back/);
    expect((await b.status()).admin.state).toBe("drain");
    expect((await a.status()).admin.state).toBe("enabled");
    const status = await inside(first, process.execPath, main, "status", "--runtime", b.runtime);
    expect(status).toMatch(/warning b is drained since 20/);
    // Now nobody is left for a's addresses.
    await vi.waitFor(
      async () => expect((await a.status()).routers[0]?.others).toMatchObject([{ node: "b", priority: 1 }]),
      patient,
    );
    await expect(set(a, "a", "drain")).rejects.toThrow(/b is lowered to priority 1 of 100/);
    expect(await inside(first, process.execPath, main, "enable", "b", "--runtime", a.runtime)).toMatch(
      /^b: enabled/,
    );
    expect((await b.status()).admin.state).toBe("enabled");
  }, 120_000);

  it("is refused where nobody can take over, for another node, and for a name that is none; --force does it", async () => {
    a.start("a");
    await becomes(a, "active");
    const cli = (...args: string[]) =>
      inside(first, process.execPath, main, ...args, "--runtime", a.runtime).catch(
        (error: unknown) => (error as Error).message,
      );
    expect(await cli("drain", "a")).toMatch(
      /nobody can take over edge: b is not heard.*--force.*\[CONFLICT\]/,
    );
    expect(await cli("drain", "b")).toMatch(
      /this is node a, and a node takes out only itself: run the command on b/,
    );
    expect(await cli("maintenance", "aa")).toMatch(
      /the site has no node "aa" \(did you mean "a"\?; .*\[NOT_FOUND\]/,
    );
    expect(await stateOf(a)).toBe("active");
    expect((await a.status()).admin).toEqual({ state: "enabled", phase: "done", left: [] });
    expect(await cli("maintenance", "a", "--force", "--within", "0s")).toMatch(
      /a: in maintenance, also after a restart[^]*edge stays here until a healthier node is heard: b is not heard/,
    );
    expect(await stateOf(a)).toBe("active");
    b.start("b");
    await becomes(b, "active");
    await becomes(a, "backup");
    // Both out: the address stays where it is. What nodes say of themselves is up to a second old.
    await vi.waitFor(
      () => expect(set(b, "b", "maintenance")).rejects.toThrow(/a is lowered to priority 1 of 110/),
      patient,
    );
    await set(b, "b", "maintenance", { force: true });
    expect((await settled(b)).left).toHaveLength(1);
    await new Promise((resolve) => setTimeout(resolve, 5000));
    expect([await stateOf(a), await stateOf(b)]).toEqual(["backup", "active"]);
    await set(a, "a", "enabled");
    await becomes(a, "active");
  }, 120_000);
});
