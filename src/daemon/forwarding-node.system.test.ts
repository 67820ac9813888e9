import { createServer } from "node:net";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { NetworkNamespace } from "../linux/namespace.ts";
import { type RealNode, type Wire, inside } from "./testing/real-node.ts";
import { SingleNode, apps, edgeSite, forwardApps } from "./testing/sites.ts";

const site = edgeSite({ a: "10.9.0.2" }, { pools: { apps }, services: { web: forwardApps } });

let single: SingleNode;
let wire: Wire;
let node: RealNode;
beforeEach(async () => {
  single = await SingleNode.open();
  ({ wire, node } = single);
  node.write(site);
  for (const port of [8001, 8002])
    single.serve(
      port,
      createServer((socket) => socket.on("error", () => {}).end(`${port}\n`)),
    );
});
afterEach(() => single.close());

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
