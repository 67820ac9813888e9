import { execFile } from "node:child_process";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { readJournal } from "../availability/accounts/journal.ts";
import type { AccountsReport } from "../availability/accounts/report.ts";
import type { SiteInput } from "../config/schema/site.ts";
import { type RealNode, main } from "./testing/real-node.ts";
import { SingleNode, apps, edgeSite, forwardApps } from "./testing/sites.ts";

let single: SingleNode;
let node: RealNode;
beforeEach(async () => {
  single = await SingleNode.open();
  ({ node } = single);
});
afterEach(() => single.close());

const site = (hook: string): SiteInput =>
  edgeSite(
    { a: "10.9.0.2" },
    {
      pools: { apps },
      services: { web: forwardApps },
      availability: { targets: { web: { slo: 99.99 } }, hooks: { alert: [hook] } },
    },
  );

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

    single.serve(
      8001,
      createServer((socket) => socket.on("error", () => {}).end("hello\n")),
    );
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
