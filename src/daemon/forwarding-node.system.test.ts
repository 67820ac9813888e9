import { createServer } from "node:net";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ip } from "../base/addresses.ts";
import type { SiteInput } from "../config/schema/site.ts";
import { openListener } from "../linux/listen.ts";
import type { NetworkNamespace } from "../linux/namespace.ts";
import { RealNode, inside, pairNamespaces, type Wire } from "./testing/real-node.ts";

/** A single node; its clients and its backends are on one wire, so that replies need a masquerade. */
const site: SiteInput = {
  site: "shop",
  nodes: { a: { address: "10.9.0.2" } },
  virtualRouters: {
    edge: {
      priorities: { a: 110 },
      interval: "100ms",
      members: [{ interface: "wire0", vrid: 51, addresses: ["10.9.0.1"] }],
    },
  },
  pools: {
    apps: {
      backends: { one: "10.9.0.3:8001", two: "10.9.0.3:8002" },
      check: { tcp: true, interval: "200ms", timeout: "150ms", rise: 1, fall: 1 },
    },
  },
  services: {
    web: { on: "edge", listen: "10.9.0.1:80/tcp", forward: { pool: "apps", masquerade: "10.9.0.1" } },
  },
};

let wire: Wire;
let node: RealNode;
let servers: { close(): void }[];
beforeEach(async () => {
  wire = await pairNamespaces("10.9.0.2/24", "10.9.0.3/24");
  node = new RealNode(wire.first);
  node.write(site);
  servers = [8001, 8002].map((port) => {
    const server = createServer((socket) => socket.on("error", () => {}).end(`${port}\n`));
    const fd = wire.second.run(() => openListener({ address: ip("10.9.0.3"), port, protocol: "tcp" }));
    server.listen({ fd });
    return server;
  });
});
afterEach(async () => {
  for (const server of servers) server.close();
  await node.cleanUp();
  wire.close();
});

const root = process.getuid?.() === 0;
/** Which backends answered twenty new connections from the other end of the wire. */
async function answers(namespace: NetworkNamespace): Promise<Set<string>> {
  const loop =
    "for i in $(seq 20); do socat -t 1 - TCP:10.9.0.1:80,connect-timeout=1 </dev/null || echo none; done";
  return new Set((await inside(namespace, "sh", "-c", loop)).trim().split("\n"));
}

describe.skipIf(!root)("a node that forwards", () => {
  it("sends connections to healthy backends, drains, goes on without a brain and leaves nothing", async () => {
    node.start("a");
    await vi.waitFor(async () => expect((await node.status()).routers[0]?.state).toBe("active"), 15_000);
    await vi.waitFor(async () => expect((await node.status()).pools[0]?.healthy).toBe(2), 5000);
    await vi.waitFor(
      async () => expect(await answers(wire.second)).toEqual(new Set(["8001", "8002"])),
      10_000,
    );
    await node.ask("POST", "/v1/backends", { pool: "apps", backend: "one", state: "drain" });
    await vi.waitFor(async () => expect(await answers(wire.second)).toEqual(new Set(["8002"])), 5000);
    process.kill(node.pidOf("brain"), "SIGSTOP");
    expect(await answers(wire.second)).toEqual(new Set(["8002"]));
    process.kill(node.pidOf("brain"), "SIGKILL");
    await vi.waitFor(async () => expect((await node.status()).processes[0]?.restarts).toBe(1), 10_000);
    const text = await inside(wire.first, "nft", "list", "tables");
    expect(text).toContain("nines");
    node.signal("SIGTERM");
    expect(await node.ended).toBe(0);
    expect((await inside(wire.first, "nft", "list", "tables")).trim()).toBe("");
    expect(await inside(wire.first, "ip", "address", "show", "dev", "wire0")).not.toContain("10.9.0.1/32");
  });
});
