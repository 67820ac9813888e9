import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { SiteInput } from "../config/schema/site.ts";
import { makeKeys } from "../forwarding/flows/keys.ts";
import type { NetworkNamespace } from "../linux/namespace.ts";
import { RealNode, inside, pairNamespaces } from "./testing/real-node.ts";

// The whole program on two nodes: what the Active's kernel says of a connection is in the Backup's kernel.
const ready =
  process.getuid?.() === 0 &&
  ["conntrack", "openssl"].every((name) => spawnSync("which", [name]).status === 0);

describe.skipIf(!ready)("two nodes that replicate connections", () => {
  let first: NetworkNamespace;
  let second: NetworkNamespace;
  let a: RealNode;
  let b: RealNode;
  let keys = "";
  beforeAll(async () => {
    keys = mkdtempSync(join(tmpdir(), "nines-keys-"));
    await makeKeys(keys, "shop", ["a", "b"]);
    ({ first, second } = await pairNamespaces("10.9.0.2/24", "10.9.0.3/24"));
    const site: SiteInput = {
      site: "shop",
      nodes: { a: { address: "10.9.0.2" }, b: { address: "10.9.0.3" } },
      virtualRouters: {
        edge: {
          priorities: { a: 110, b: 100 },
          interval: "100ms",
          members: [{ interface: "wire0", vrid: 51, addresses: ["10.9.0.1"] }],
        },
      },
      pools: { apps: { backends: { one: "10.9.0.8:8080", two: "10.9.0.9:8080" } } },
      services: { web: { on: "edge", listen: "10.9.0.1:80/tcp", forward: { pool: "apps" } } },
      flows: { keys },
    };
    a = new RealNode(first);
    b = new RealNode(second);
    for (const node of [a, b]) node.write(site);
  });
  afterAll(async () => {
    await a.cleanUp();
    await b.cleanUp();
    first.close();
    second.close();
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
});
