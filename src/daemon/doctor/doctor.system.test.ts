import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { SiteInput } from "../../config/schema/site.ts";
import { type Wire, inside, main, pairNamespaces } from "../testing/real-node.ts";
import type { Finding } from "./policy.ts";

let wire: Wire;
let directory: string;
beforeEach(async () => {
  wire = await pairNamespaces("10.9.0.2/24", "10.9.0.3/24");
  directory = mkdtempSync(join(tmpdir(), "nines-doctor-"));
});
afterEach(() => {
  wire.close();
  rmSync(directory, { recursive: true, force: true });
});

const site = (vip: string): SiteInput => ({
  site: "shop",
  nodes: { a: { address: "10.9.0.2" }, b: { address: "10.9.0.3" } },
  virtualRouters: {
    edge: {
      priorities: { a: 110, b: 100 },
      interval: "100ms",
      members: [{ interface: "wire0", vrid: 51, addresses: [vip] }],
    },
  },
  pools: { apps: { backends: { one: "10.9.0.9:80" } } },
  services: { web: { on: "edge", listen: `${vip}:80/tcp`, forward: { pool: "apps" } } },
});

function run(file: string, node: string): Promise<{ code: number | null; findings: Finding[] }> {
  return new Promise((resolve) => {
    const child = wire.first.run(() =>
      spawn(process.execPath, [main, "doctor", file, "--node", node, "--json"]),
    );
    let text = "";
    child.stdout.on("data", (part: Buffer) => (text += part.toString()));
    child.on("close", (code) =>
      resolve({ code, findings: (JSON.parse(text) as { findings: Finding[] }).findings }),
    );
  });
}

const root = process.getuid?.() === 0;

describe.skipIf(!root)("nines doctor", () => {
  it("finds a dropping forward policy, foreign marks and mark rules in the kernel, and changes nothing", async () => {
    // nft 1.0.6 wants line ends where others do not.
    const rules = `table ip filter {
      chain FORWARD {
        type filter hook forward priority 0; policy drop;
      }
    }
    table inet other {
      chain marks {
        type filter hook prerouting priority -150;
        meta mark set 7
      }
    }
    `;
    writeFileSync(join(directory, "rules"), rules);
    await inside(wire.first, "nft", "-f", join(directory, "rules"));
    await inside(wire.first, "ip", "rule", "add", "fwmark", "7", "lookup", "100");
    await inside(wire.first, "sysctl", "-qw", "net.ipv4.conf.wire0.rp_filter=1");
    const before = await inside(wire.first, "nft", "list", "ruleset");
    const file = join(directory, "site.json");
    writeFileSync(file, JSON.stringify(site("10.9.0.1")));
    const { code, findings } = await run(file, "a");
    expect(code).toBe(1);
    const names = findings.map((each) => each.name);
    expect(names).toEqual(
      expect.arrayContaining(["forward_drop", "foreign_marks", "mark_rules", "rp_filter_strict"]),
    );
    expect(findings.find((each) => each.name === "forward_drop")?.what).toContain("ip filter FORWARD");
    expect(await inside(wire.first, "nft", "list", "ruleset")).toBe(before);
  });
});
