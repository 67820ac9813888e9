import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { SiteInput } from "../config/schema/site.ts";
import { makeKeys } from "../forwarding/flows/keys.ts";
import type { NetworkNamespace } from "../linux/namespace.ts";
import { type RealNode, inside } from "./testing/real-node.ts";
import { type NodePair, PAIR, edgeSite, openPair } from "./testing/sites.ts";

// The whole program on two nodes: what the Active's kernel says of a connection is in the Backup's kernel.
const ready =
  process.getuid?.() === 0 &&
  ["conntrack", "openssl"].every((name) => spawnSync("which", [name]).status === 0);

describe.skipIf(!ready)("two nodes that replicate connections", () => {
  let pair: NodePair;
  let first: NetworkNamespace;
  let second: NetworkNamespace;
  let a: RealNode;
  let b: RealNode;
  let keys = "";
  const site = (delay: string): SiteInput =>
    edgeSite(PAIR, {
      pools: { apps: { backends: { one: "10.9.0.8:8080", two: "10.9.0.9:8080" } } },
      services: { web: { on: "edge", listen: "10.9.0.1:80/tcp", forward: { pool: "apps" } } },
      flows: { keys, delay: delay },
    });
  beforeAll(async () => {
    keys = mkdtempSync(join(tmpdir(), "nines-keys-"));
    await makeKeys(keys, "shop", ["a", "b"]);
    pair = await openPair(site("5ms"));
    ({ first, second, a, b } = pair);
  });
  afterAll(async () => {
    await pair.end();
    rmSync(keys, { recursive: true, force: true });
  });

  it("tell each other every connection of a service, and its end", async () => {
    a.start("a");
    await vi.waitFor(async () => expect((await a.status()).routers[0]?.state).toBe("active"), 20_000);
    b.start("b");
    const connected = (node: RealNode) => node.events("flows.peer_connected").length;
    await vi.waitFor(() => expect([connected(a) > 0, connected(b) > 0]).toEqual([true, true]), 20_000);
    for (const node of [a, b])
      await vi.waitFor(
        () => expect(node.events("flows.services").at(-1)?.["services"]).toEqual(["web"]),
        10_000,
      );
    // As a client's connection would have left it: assured, translated, marked by the service's chain.
    const flow = ["-p", "tcp", "-s", "10.9.0.77", "-d", "10.9.0.1", "--sport", "4711", "--dport", "80"];
    const nat = ["--dst-nat", "10.9.0.8:8080"];
    const state = ["--state", "ESTABLISHED", "-u", "SEEN_REPLY,ASSURED", "-t", "600"];
    await inside(first, "conntrack", "-I", ...flow, ...nat, ...state, "--mark", "0x4e000001");
    await inside(first, "conntrack", "-U", ...flow, "-t", "700", "-u", "SEEN_REPLY,ASSURED");
    const held = () => inside(second, "conntrack", "-L", "-p", "tcp").catch(() => "");
    await vi.waitFor(
      async () =>
        expect(await held()).toMatch(/src=10.9.0.77 .*dport=80 .*src=10.9.0.8 .*sport=8080 .*ASSURED/),
      { timeout: 10_000, interval: 100 },
    );
    await inside(first, "conntrack", "-D", ...flow);
    await vi.waitFor(async () => expect(await held()).not.toContain("10.9.0.77"), {
      timeout: 10_000,
      interval: 100,
    });
  });

  it("say that they are in sync", async () => {
    for (const node of [a, b])
      await vi.waitFor(
        async () =>
          expect((await node.status()).flows?.peers).toMatchObject([
            { connected: true, sentAll: true, receivedAll: true },
          ]),
        { timeout: 20_000, interval: 200 },
      );
  });
  it("hand over after the other node has acknowledged every connection", async () => {
    await a.ask("POST", "/v1/switchover", { router: "edge", to: "b" });
    await vi.waitFor(async () => expect((await b.status()).routers[0]?.state).toBe("active"), {
      timeout: 20_000,
      interval: 100,
    });
    expect(a.events("redundancy.flows_flushed")).toMatchObject([{ router: "edge", node: "b" }]);
    await a.ask("POST", "/v1/switchover", { router: "edge", to: "a" });
    await vi.waitFor(async () => expect((await a.status()).routers[0]?.state).toBe("active"), {
      timeout: 20_000,
      interval: 100,
    });
  });
  it("hand over without it where the process is gone, and say so", async () => {
    const hung = b.pidOf("flows");
    process.kill(hung, "SIGSTOP");
    try {
      await vi.waitFor(
        async () => expect((await a.status()).flows?.peers).toMatchObject([{ connected: false }]),
        { timeout: 20_000, interval: 100 },
      );
      await a.ask("POST", "/v1/switchover", { router: "edge", to: "b" });
      await vi.waitFor(async () => expect((await b.status()).routers[0]?.state).toBe("active"), {
        timeout: 20_000,
        interval: 100,
      });
      expect(a.events("redundancy.flows_not_flushed").length).toBeGreaterThan(0);
    } finally {
      process.kill(hung, "SIGCONT");
    }
  });
  it("follow another site file without a new connection between them", async () => {
    const before = [a, b].map((node) => node.events("flows.peer_connected").length);
    await vi.waitFor(
      async () =>
        expect((await a.status()).flows?.peers).toMatchObject([{ connected: true, receivedAll: true }]),
      { timeout: 20_000, interval: 200 },
    );
    for (const node of [a, b]) node.write(site("20ms"));
    // Nobody has accepted it yet.
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect([a, b].map((node) => node.events("flows.reconfigured").length)).toEqual([0, 0]);
    for (const node of [a, b]) await node.ask("POST", "/v1/reload");
    for (const node of [a, b])
      await vi.waitFor(() => expect(node.events("flows.reconfigured").length).toBe(1), 20_000);
    expect([a, b].map((node) => node.events("flows.peer_lost").length)).toEqual(
      [a, b].map((node) => node.events("flows.peer_connected").length - 1),
    );
    expect(before.every((count) => count >= 1)).toBe(true);
  });
});
