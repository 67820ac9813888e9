import { type ChildProcess, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { SiteInput } from "../config/schema/site.ts";
import { makeKeys } from "../forwarding/flows/keys.ts";
import { Lan } from "./testing/lan.ts";
import { RealNode } from "./testing/real-node.ts";

// The whole program on two nodes, twelve clients, three backends, and a scheduler that would send nobody back.
const ready =
  process.getuid?.() === 0 &&
  ["nft", "openssl", "curl", "ip"].every((name) => spawnSync("which", [name]).status === 0);
const CLIENTS = Array.from({ length: 12 }, (_, i) => `10.0.0.${101 + i}`);
const SERVER = `
  const { createServer } = require("node:http");
  for (const address of ["10.1.0.11", "10.1.0.12", "10.1.0.13"])
    createServer((request, response) => response.end(request.socket.localAddress)).listen(80, address);
`;

describe.skipIf(!ready)("clients that stay with their backend", () => {
  let lan: Lan;
  let a: RealNode;
  let b: RealNode;
  let server: ChildProcess;
  let keys = "";
  const site = (): SiteInput => ({
    site: "shop",
    nodes: { a: { address: "10.1.0.2" }, b: { address: "10.1.0.3" } },
    virtualRouters: {
      edge: {
        priorities: { a: 110, b: 100 },
        interval: "100ms",
        preempt: false,
        members: [
          { interface: "eth0", vrid: 51, addresses: ["10.0.0.1"] },
          { interface: "eth1", vrid: 52, addresses: ["10.1.0.1"] },
        ],
      },
    },
    pools: { apps: { backends: { app1: "10.1.0.11:80", app2: "10.1.0.12:80", app3: "10.1.0.13:80" } } },
    services: Object.fromEntries(
      (
        [
          ["kept", 80, "30m", "replicated"],
          ["alone", 81, "30m", "off"],
          ["brief", 82, "10s", "replicated"],
        ] as const
      ).map(([name, port, timeout, flows]) => [
        name,
        {
          on: "edge",
          listen: `10.0.0.1:${port}/tcp`,
          forward: { pool: "apps", scheduler: "smooth", affinity: { timeout }, flows },
        },
      ]),
    ),
    flows: { keys },
  });
  /** Which backend each client meets, by a connection of its own from a port of the kernel's choice. */
  const visit = (port: number, clients: readonly string[] = CLIENTS): string[] =>
    clients.map((client) =>
      lan.on("client", `curl -s --max-time 3 --interface ${client} http://10.0.0.1:${port}/`),
    );
  const held = (node: "lb1" | "lb2", service: string): number =>
    [...lan.on(node, `nft list map ip nines affinity-${service}`).matchAll(/expires/g)].length;
  const active = (node: RealNode) =>
    vi.waitFor(async () => expect((await node.status()).routers[0]?.state).toBe("active"), 60_000);

  beforeAll(async () => {
    keys = mkdtempSync(join(tmpdir(), "nines-keys-"));
    await makeKeys(keys, "shop", ["a", "b"]);
    lan = await Lan.open("br0", "br1");
    await lan.plug("client", "eth0", "br0", ...CLIENTS.map((one) => `${one}/24`));
    await lan.plug("lb1", "eth0", "br0", "10.0.0.2/24");
    await lan.plug("lb1", "eth1", "br1", "10.1.0.2/24");
    await lan.plug("lb2", "eth0", "br0", "10.0.0.3/24");
    await lan.plug("lb2", "eth1", "br1", "10.1.0.3/24");
    await lan.plug("backend", "eth1", "br1", "10.1.0.11/24", "10.1.0.12/24", "10.1.0.13/24");
    lan.on("backend", "ip route add default via 10.1.0.1");
    server = lan.start("backend", process.execPath, "-e", SERVER);
    a = new RealNode(lan.host("lb1"));
    b = new RealNode(lan.host("lb2"));
    for (const node of [a, b]) node.write(site());
    a.start("a");
    await active(a);
    b.start("b");
    for (const node of [a, b])
      await vi.waitFor(
        async () =>
          expect((await node.status()).flows?.peers).toMatchObject([{ sentAll: true, receivedAll: true }]),
        { timeout: 60_000, interval: 200 },
      );
  }, 150_000);
  afterAll(async () => {
    await a.cleanUp();
    await b.cleanUp();
    server.kill("SIGKILL");
    lan.close();
    rmSync(keys, { recursive: true, force: true });
  });

  let first: string[] = [];
  let alone: string[] = [];
  it("meet it again from another port, while others are spread", () => {
    first = visit(80);
    expect(new Set(first)).toEqual(new Set(["10.1.0.11", "10.1.0.12", "10.1.0.13"]));
    expect(visit(80)).toEqual(first);
    alone = visit(81);
    expect(visit(81)).toEqual(alone);
    expect(held("lb1", "kept")).toBe(CLIENTS.length);
  });

  it("meet it again in drain, unlike new clients, and leave it at once in maintenance", async () => {
    await a.ask("POST", "/v1/backends", { pool: "apps", backend: "app1", state: "drain" });
    // Before: who is met meanwhile keeps its clients.
    await vi.waitFor(
      () => expect(lan.on("lb1", "nft list map ip nines slots-brief")).not.toContain("10.1.0.11"),
      20_000,
    );
    expect(visit(82)).not.toContain("10.1.0.11");
    expect(visit(80)).toEqual(first);
    await a.ask("POST", "/v1/backends", { pool: "apps", backend: "app1", state: "maintenance" });
    await vi.waitFor(() => expect(visit(80)).not.toContain("10.1.0.11"), 20_000);
    const moved = visit(80);
    // Who was elsewhere stays there; who moved stays where it is now, also when the backend is back.
    expect(moved.filter((at, i) => at !== first[i]).length).toBe(
      first.filter((at) => at === "10.1.0.11").length,
    );
    await a.ask("POST", "/v1/backends", { pool: "apps", backend: "app1", state: "enabled" });
    expect(visit(80)).toEqual(moved);
    first = moved;
  });

  it("meet it again after the node died; where nobody was told, they do not", async () => {
    alone = visit(81);
    await vi.waitFor(() => expect(held("lb2", "kept")).toBe(CLIENTS.length), {
      timeout: 20_000,
      interval: 200,
    });
    // The last news of a client that moved takes a look more.
    await vi.waitFor(
      () => {
        const text = lan.on("lb2", "nft list map ip nines affinity-kept");
        for (const [i, client] of CLIENTS.entries())
          expect(text).toMatch(new RegExp(`${client} timeout [^:]*: ${first[i]} `));
      },
      { timeout: 10_000, interval: 200 },
    );
    expect(held("lb2", "alone")).toBe(0);
    await a.cleanUp();
    lan.on("lb1", "ip link set eth0 down; ip link set eth1 down");
    await active(b);
    // In another order, so that taking turns anew would lead elsewhere.
    const back = (port: number): string[] => visit(port, CLIENTS.toReversed()).toReversed();
    expect(back(80)).toEqual(first);
    expect(back(81)).not.toEqual(alone);
  });

  it("meet it again after the brain was killed, with its memory where it was", async () => {
    const before = b.pidOf("brain");
    process.kill(before, "SIGKILL");
    await vi.waitFor(() => expect(b.events("forwarding.adopted").length).toBe(1), 20_000);
    expect(held("lb2", "kept")).toBe(CLIENTS.length);
    expect(visit(80)).toEqual(first);
  });

  it("are forgotten when their time is over", async () => {
    const [client = ""] = CLIENTS;
    const [at] = visit(82, [client]);
    expect(visit(82, [client])).toEqual([at]);
    await vi.waitFor(() => expect(held("lb2", "brief")).toBe(0), { timeout: 20_000, interval: 500 });
    // Turn by turn: the next one is another.
    expect(visit(82, [client])).not.toEqual([at]);
    expect(held("lb2", "kept")).toBe(CLIENTS.length);
  });

  it("come back to the node that was dead, and it is told of them", async () => {
    lan.on("lb1", "ip link set eth0 up; ip link set eth1 up; nft flush ruleset");
    a = new RealNode(lan.host("lb1"));
    a.write(site());
    a.start("a");
    await vi.waitFor(() => expect(held("lb1", "kept")).toBe(CLIENTS.length), {
      timeout: 30_000,
      interval: 300,
    });
    await b.ask("POST", "/v1/switchover", { router: "edge", to: "a" });
    await active(a);
    expect(visit(80)).toEqual(first);
  });
});
