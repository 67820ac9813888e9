import { execFile } from "node:child_process";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { type Server, createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ip } from "../base/addresses.ts";
import { readJournal } from "../availability/accounts/journal.ts";
import type { AccountsReport } from "../availability/accounts/report.ts";
import type { SiteInput } from "../config/schema/site.ts";
import { openListener } from "../linux/listen.ts";
import { RealNode, main, pairNamespaces, type Wire } from "./testing/real-node.ts";

let wire: Wire;
let node: RealNode;
let server: Server | undefined;
beforeEach(async () => {
  wire = await pairNamespaces("10.9.0.2/24", "10.9.0.3/24");
  node = new RealNode(wire.first);
});
afterEach(async () => {
  server?.close();
  await node.cleanUp();
  wire.close();
});

const site = (hook: string): SiteInput => ({
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
  availability: { targets: { web: { slo: 99.99 } }, hooks: { alert: [hook] } },
});

const root = process.getuid?.() === 0;
const patient = { timeout: 40_000, interval: 200 };

describe.skipIf(!root)("what a running node measured", () => {
  it("is in its accounts: the outage with its cause, whole although the brain was killed in it", async () => {
    const told = join(node.directory, "told.json");
    const hook = join(node.directory, "hook.sh");
    writeFileSync(hook, `#!/bin/sh\ncat >> ${told}\n`);
    chmodSync(hook, 0o755);
    node.write(site(hook));
    const store = join(node.directory, "state", "accounts");
    const kinds = (): string[] =>
      readJournal(store).facts.flatMap(({ kind }) => (kind === "down" || kind === "up" ? kind : []));

    node.start("a");
    await vi.waitFor(() => expect(kinds()).toEqual(["down"]), patient);
    process.kill(node.pidOf("brain"), "SIGKILL");
    await vi.waitFor(async () => expect((await node.status()).processes[0]?.restarts).toBe(1), patient);
    // The alert of the first hour burns: nothing else was seen yet.
    await vi.waitFor(
      () =>
        expect(JSON.parse(readFileSync(told, "utf8").split("\n")[0] ?? "")).toMatchObject({
          service: "web",
          severity: "page",
          firing: true,
        }),
      patient,
    );
    const metrics = await promisify(execFile)("curl", [
      "-s",
      "--unix-socket",
      join(node.runtime, "control.sock"),
      "http://node/metrics",
    ]);
    expect(metrics.stdout).toMatch(/nines_availability_burn_alert_active\{[^}]*service="web"[^}]*\} 1/);

    server = createServer((socket) => socket.on("error", () => {}).end("hello\n"));
    server.listen({
      fd: wire.second.run(() => openListener({ address: ip("10.9.0.3"), port: 8001, protocol: "tcp" })),
    });
    await vi.waitFor(() => expect(kinds()).toEqual(["down", "up"]), patient);
    node.signal("SIGTERM");
    expect(await node.ended).toBe(0);

    const { stdout } = await promisify(execFile)(process.execPath, [
      main,
      "slo",
      node.file,
      "--store",
      store,
      "--json",
    ]);
    const [web] = (JSON.parse(stdout) as AccountsReport).services;
    expect(web?.figures.outages.map(({ cause }) => cause)).toEqual([
      expect.stringMatching(/^no backend of apps is healthy: one \(.*refused.*\), two \(.*refused.*\)$/),
    ]);
    expect(web?.figures.down).toBeGreaterThan(0);
    expect([web?.ongoing, web?.target?.kept]).toEqual([false, false]);
  }, 120_000);
});
