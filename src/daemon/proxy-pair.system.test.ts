import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { NetworkNamespace } from "../linux/namespace.ts";
import { RealNode, bridgedNamespaces, inside } from "./testing/real-node.ts";
import { PAIR, edgeSite, serveIn } from "./testing/sites.ts";

/** The classic pair: proxy and virtual router on the same two nodes; a layer-4 service shares the address. */
const site = edgeSite(PAIR, {
  pools: {
    apps: { backends: { one: "10.9.0.4:8001" }, check: { tcp: true, interval: "300ms", rise: 1, fall: 2 } },
  },
  services: {
    web: {
      on: "edge",
      listen: "10.9.0.1:80/tcp",
      proxy: { pool: "apps", health: { path: "/alive", announce: "3s" } },
    },
    direct: { on: "edge", listen: "10.9.0.1:81/tcp", forward: { pool: "apps", masquerade: "10.9.0.1" } },
    own: { listen: "0.0.0.0:8080/tcp", proxy: { pool: "apps", health: { path: "/alive", announce: "3s" } } },
  },
});

const HOSTS = ["10.9.0.2", "10.9.0.3", "10.9.0.4"] as const;
let lan: Awaited<ReturnType<typeof bridgedNamespaces>>;
let outside: NetworkNamespace;
let a: RealNode;
let b: RealNode;
let closing: (() => void)[];

beforeEach(async () => {
  closing = [];
  lan = await bridgedNamespaces(HOSTS);
  const [one, two, three] = lan.spaces;
  if (one === undefined || two === undefined || three === undefined) throw new Error("three were asked for");
  outside = three;
  a = new RealNode(one);
  b = new RealNode(two);
  for (const node of [a, b]) node.write(site);
  const server = createServer((_, response) => response.end("one"));
  serveIn(client(), "10.9.0.4", 8001, server);
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

const client = (): NetworkNamespace => outside;
const curl = (url: string, ...more: string[]): Promise<string> =>
  inside(client(), "curl", "-s", "-m", "3", ...more, `http://${url}`);
const status = (url: string): Promise<string> =>
  curl(url, "-o", "/dev/null", "-w", "%{http_code}").catch(() => "none");
const patient = { timeout: 30_000, interval: 100 };
const becomes = (node: RealNode, state: string) =>
  vi.waitFor(async () => {
    const now = await node.status().catch(() => undefined);
    expect(now?.routers[0]?.state).toBe(state);
  }, patient);

/** Says nothing after its request, as one that waits for a message of a WebSocket does; tells how it ended. */
const WAITER = `
  const socket = require("node:net").connect(80, "10.9.0.1");
  socket.once("data", () => console.log("answered"));
  socket.on("error", (error) => { console.log(error.code); process.exit(); });
  socket.on("end", () => { console.log("end"); process.exit(); });
  socket.write("GET / HTTP/1.1\\r\\nHost: shop\\r\\n\\r\\n");
`;

async function waiting(): Promise<() => string> {
  const child = client().run(() =>
    spawn(process.execPath, ["-e", WAITER], { stdio: ["ignore", "pipe", "inherit"] }),
  );
  closing.push(() => child.kill("SIGKILL"));
  let text = "";
  child.stdout.on("data", (part: Buffer) => (text += part.toString()));
  await vi.waitFor(() => expect(text).toBe("answered\n"), patient);
  return () => text.slice("answered\n".length).trim();
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
  await vi.waitFor(async () => expect(await status("10.9.0.1/")).toBe("200"), patient);
}

const root = process.getuid?.() === 0;

describe.skipIf(!root)("the classic pair", () => {
  it("shares an address between layer 7 and layer 4; who is connected when it moves is reset at once", async () => {
    await pair();
    expect(await curl("10.9.0.1/")).toBe("one");
    await vi.waitFor(async () => expect(await curl("10.9.0.1:81/").catch(() => "")).toBe("one"), patient);
    const held = await waiting();
    await a.ask("POST", "/v1/switchover", { to: "b" });
    // The client sends nothing: without a RST from the node that lost the address it would wait for ever.
    await vi.waitFor(() => expect(held()).toBe("ECONNRESET"), patient);
    await vi.waitFor(async () => expect(await status("10.9.0.1/")).toBe("200"), patient);
    await vi.waitFor(async () => expect(await curl("10.9.0.1:81/").catch(() => "")).toBe("one"), patient);
    expect(a.events("proxy.connections_reset").length).toBeGreaterThan(0);
  }, 120_000);

  it("moves the address when the proxies of the Active die, and tells why", async () => {
    await pair();
    const proxies = () =>
      a.processes().filter(({ name, pid }) => name.startsWith("proxy") && pid !== undefined);
    // Again and again, as a program does that cannot start: a single crash is the spare's to mend.
    const killing = setInterval(() => {
      for (const { pid } of proxies()) {
        try {
          if (pid !== undefined) process.kill(pid, "SIGKILL");
        } catch {
          // It has just died by itself.
        }
      }
    }, 20);
    closing.push(() => clearInterval(killing));
    await becomes(b, "active");
    const now = await a.status();
    expect(now.routers[0]?.failing.map(({ name }) => name)).toContain("proxy");
    // Not in the first moments of a node, in which workers start.
    await vi.waitFor(
      async () => expect((await a.status()).alarms.map(({ name }) => name)).toContain("proxy_down"),
      patient,
    );
    expect(await status("10.9.0.1/")).toBe("200");
    clearInterval(killing);
    await vi.waitFor(async () => expect((await a.status()).routers[0]?.priority).toBe(110), patient);
  }, 120_000);

  it("fails the health question first, then refuses, when the node stops", async () => {
    await pair();
    expect(await status("10.9.0.2:8080/alive")).toBe("200");
    a.signal("SIGTERM");
    await vi.waitFor(async () => expect(await status("10.9.0.2:8080/alive")).toBe("503"), {
      timeout: 30_000,
      interval: 50,
    });
    // Still served: whoever checks has not noticed yet.
    expect(await status("10.9.0.2:8080/")).toBe("200");
    expect(await a.ended).toBe(0);
    expect(await status("10.9.0.1/")).toBe("200");
  }, 120_000);
});
