import { createServer } from "node:http";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type RealNode, type Wire, inside } from "./testing/real-node.ts";
import { SingleNode, apps, edgeSite } from "./testing/sites.ts";

/** A node with a proxy on a virtual address; its client and its backends are at the other end of the wire. */
const siteTs = (answer: string, more = ""): string => `
import { defineSite } from "nines";
const word = ${JSON.stringify(answer)};
const edge = ${JSON.stringify(edgeSite({ a: "10.9.0.2" }, { pools: { apps } }))};
export default defineSite({
  ...edge,
  services: {
    web: {
      on: "edge",
      listen: "10.9.0.1:80/tcp",
      proxy: {
        routes: [
          { name: "word", match: { path: "/word" }, middleware: [() => ({ status: 200, body: word })] },
          { name: "thrower", match: { path: "/throw" }, middleware: [() => { throw new Error("no"); }] },
          { name: "apps", pool: "apps" },
        ],
      },
    },
    ${more}
  },
});
`;

let single: SingleNode;
let wire: Wire;
let node: RealNode;
beforeEach(async () => {
  single = await SingleNode.open();
  ({ wire, node } = single);
  node.file = node.file.replace(/yaml$/, "ts");
  for (const port of [8001, 8002])
    single.serve(
      port,
      createServer((_, response) => response.end(`${port}`)),
    );
});
afterEach(() => single.close());

const curl = (path: string, ...more: string[]): Promise<string> =>
  inside(wire.second, "curl", "-s", "-m", "5", ...more, `http://10.9.0.1${path}`);

async function serving(): Promise<void> {
  node.start("a");
  await vi.waitFor(async () => expect((await node.status()).routers[0]?.state).toBe("active"), 30_000);
  await vi.waitFor(async () => expect((await node.status()).pools[0]?.healthy).toBe(2), 10_000);
  await vi.waitFor(async () => expect(await curl("/")).toMatch(/^800/), 15_000);
}

const metrics = (): Promise<string> =>
  inside(wire.first, "curl", "-s", "--unix-socket", `${node.runtime}/control.sock`, "http://n/metrics");

const root = process.getuid?.() === 0;

describe.skipIf(!root)("a node with a proxy", () => {
  it("runs the middleware of its site.ts, reloads it, and tells what its workers count", async () => {
    node.write(siteTs("first"));
    await serving();
    expect(await curl("/word")).toBe("first");
    expect(await curl("/throw", "-o", "/dev/null", "-w", "%{http_code}")).toBe("500");
    await vi.waitFor(async () => {
      const text = await metrics();
      expect(text).toContain('nines_proxy_events_total{event="middleware-failed"} 1');
      expect(text).toMatch(/nines_proxy_route_latency_seconds_count\{service="web",route="apps"\} \d/);
    }, 10_000);
    const status = await node.status();
    expect(status.proxy?.workers.map(({ state }) => state)).toContain("serving");
    await vi.waitFor(
      async () => expect((await node.status()).proxy?.responses["web"]).toBeGreaterThan(0),
      10_000,
    );
    // Only what the function closes over is another: its own text, and with it the digest, stays.
    node.write(siteTs("second"));
    await node.ask("POST", "/v1/reload");
    await vi.waitFor(async () => expect(await curl("/word")).toBe("second"), 15_000);
  }, 90_000);

  it("goes on with the functions it has while the site file is broken, also in a new worker", async () => {
    node.write(siteTs("first"));
    await serving();
    node.write("export default {");
    const worker = node.pidOf("proxy");
    process.kill(worker, "SIGKILL");
    await vi.waitFor(() => {
      const now = node.pidOf("proxy");
      expect(now).toBeGreaterThan(0);
      expect(now).not.toBe(worker);
    }, 15_000);
    await vi.waitFor(async () => {
      const { proxy } = await node.status();
      expect(proxy?.workers.filter(({ state }) => state === "serving").length).toBeGreaterThan(0);
      expect(proxy?.workers.every(({ state }) => state === "serving")).toBe(true);
    }, 15_000);
    // A worker without the function refuses; it never lets a request pass it.
    for (let i = 0; i < 10; i++)
      expect(["200", "500"]).toContain(await curl("/word", "-o", "/dev/null", "-w", "%{http_code}"));
    expect(await curl("/")).toMatch(/^800/);
  }, 90_000);
});
