import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { SiteInput } from "../../config/schema/site.ts";
import { type Wire, inside, main, wireNamespaces } from "../testing/real-node.ts";
import type { Finding } from "./policy.ts";

let wire: Wire;
let directory: string;
beforeEach(async () => {
  wire = await wireNamespaces();
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

  it.skipIf(!existsSync("/usr/sbin/keepalived")).each([2, 3])(
    "hears that a keepalived with version %i has the VRID already, for other addresses",
    async (version) => {
      const at = (name: string): string => join(directory, name);
      writeFileSync(
        at("keepalived.conf"),
        `global_defs {
  vrrp_version ${version}
}
vrrp_instance other {
  state MASTER
  interface wire0
  virtual_router_id 51
  priority 200
  advert_int 1
  virtual_ipaddress {
    10.9.0.77/32
  }
}
`,
      );
      const files = ["-f", at("keepalived.conf"), "-p", at("k.pid"), "-r", at("v.pid")];
      const keepalived = wire.second.run(() =>
        spawn("/usr/sbin/keepalived", ["-n", "-l", "-P", ...files], { stdio: "ignore" }),
      );
      const ended = new Promise((resolve) => keepalived.once("exit", resolve));
      try {
        await vi.waitFor(
          async () => expect(await inside(wire.second, "ip", "-br", "address")).toContain("10.9.0.77"),
          { timeout: 30_000, interval: 200 },
        );
        const file = at("site.json");
        writeFileSync(file, JSON.stringify(site("10.9.0.1")));
        // It listens for some seconds; on a busy machine one look may hear nothing.
        await vi.waitFor(
          async () => {
            const { code, findings } = await run(file, "a");
            expect([code, findings.find((each) => each.name === "vrid_in_use")?.what]).toEqual([
              1,
              "10.9.0.3 advertises VRID 51 on wire0 for 10.9.0.77, which are not this router's addresses",
            ]);
          },
          { timeout: 60_000, interval: 200 },
        );
        // Its own addresses: the peer of this very router, and no stranger.
        writeFileSync(file, JSON.stringify(site("10.9.0.77")));
        expect((await run(file, "a")).findings.map((each) => each.name)).not.toContain("vrid_in_use");
      } finally {
        keepalived.kill("SIGTERM");
        await ended;
      }
    },
    120_000,
  );
});
