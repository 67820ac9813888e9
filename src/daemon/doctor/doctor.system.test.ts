import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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

  it("finds an input chain that lets the other node's messages not in, and none in the firewall of the guide", async () => {
    const file = join(directory, "site.json");
    writeFileSync(file, JSON.stringify({ ...site("10.9.0.1"), flows: { keys: directory } }));
    const closed = async (rules: string): Promise<Finding | undefined> => {
      writeFileSync(join(directory, "rules"), rules);
      await inside(wire.first, "nft", "-f", join(directory, "rules"));
      const { findings } = await run(file, "a");
      await inside(wire.first, "nft", "flush", "ruleset");
      return findings.find((each) => each.name === "input_drop");
    };
    const chain = (rules: string, policy: string): string =>
      `table inet filter {
        chain peers {
          ip saddr 10.9.0.3 udp dport 5112 accept
        }
        chain input {
          type filter hook input priority 0; policy ${policy};
          ct state established,related accept
          iifname lo accept
          meta l4proto { icmp, icmpv6 } accept
          tcp dport { 22, 80 } accept
          ${rules}
        }
      }
      `;
    expect((await closed(chain("", "drop")))?.what).toMatch(
      /inet filter input .* accepts VRRP \(IP protocol 112\), hand-over \(UDP 5112\), connections \(TCP 7411\)$/,
    );
    expect((await closed(chain("jump peers\nip protocol vrrp accept\nreject", "accept")))?.what).toMatch(
      /accepts connections \(TCP 7411\)$/,
    );
    expect(await closed(chain("", "accept"))).toBeUndefined();
    expect(await closed(chain("ip saddr 10.9.0.0/24 accept", "drop"))).toBeUndefined();
    const guide = readFileSync(new URL("../../../docs/guide/operations.md", import.meta.url), "utf8");
    const shown = /```nft\n([\s\S]*?)```/.exec(guide)?.[1] ?? "";
    expect(await closed(shown)).toBeUndefined();
    expect((await closed(shown.replace("7411", "7499")))?.what).toMatch(/accepts connections \(TCP 7411\)$/);
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
