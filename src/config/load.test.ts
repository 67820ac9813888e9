import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { ConfigError } from "../base/errors.ts";
import { siteDigest } from "./digest.ts";
import { type SiteReport, examineSite, examineSource, loadSite } from "./load.ts";
import { readYaml } from "./source/yaml.ts";

const examine = (text: string): SiteReport => examineSource(readYaml("site.yaml", text));
const lines = (report: SiteReport): string[] =>
  report.issues.map(
    ({ line, column, path, message, hint }) =>
      `${line}:${column} ${path}: ${message}${hint === undefined ? "" : ` (${hint})`}`,
  );

const good = `
site: shop
nodes: { lb1: { address: 10.1.0.2 }, lb2: { address: 10.1.0.3 } }
virtualRouters:
  edge:
    priorities: { lb1: 110, lb2: 100 }
    members: [{ interface: eth0, vrid: 51, addresses: [10.0.0.1] }]
pools:
  apps: { backends: { app1: "10.1.0.11:8080" }, check: { tcp: true } }
services:
  web: { on: edge, listen: 10.0.0.1:80/tcp, forward: { pool: apps } }
`;

describe("a site file", () => {
  it("becomes a site with its defaults", () => {
    const { loaded, issues, warnings } = examine(good);
    expect([issues, warnings]).toEqual([[], []]);
    expect(loaded?.site.virtualRouters["edge"]).toMatchObject({
      interval: 1000,
      preempt: false,
    });
    expect(loaded?.site.services["web"]?.listen).toEqual([
      { address: "10.0.0.1", ports: [80, 80], protocol: "tcp" },
    ]);
  });

  it("tells all mistakes at once, each with its place, what was found and what is expected", () => {
    const report = examine(`
site: my shop
nodes: { lb1: { adress: 10.1.0.2 }, lb2: { address: 10.1.0.3 } }
virtualRouter: {}
virtualRouters:
  edge:
    priorities: { lb1: 300, lb2: 100 }
    interval: 1 second
    transport: unicats
    members: [{ interface: eth0, vrid: "51", addresses: [10.0.0.256] }]
pools:
  apps: { backends: { app1: 10.1.0.11 }, check: { htpp: /health } }
  other: { backends: { b: "10.1.0.12:80" }, check: { tcp: true, exec: [x] } }
services:
  web: { on: egde, listen: 10.0.0.1:80/tcp, forward: { pool: app } }
`);
    expect(lines(report)).toEqual([
      '2:7 site: found "my shop", expected a name: a letter, then letters, digits and hyphens, 63 at most',
      '3:17 nodes.lb1.adress: unknown key "adress" (did you mean "address"?)',
      '4:1 virtualRouter: unknown key "virtualRouter" (did you mean "virtualRouters"?)',
      "7:24 virtualRouters.edge.priorities.lb1: found 300, expected a whole number from 1 to 255",
      '8:15 virtualRouters.edge.interval: "1 second" is not a duration such as 100ms, 3s, 5m, 1h',
      '9:16 virtualRouters.edge.transport: found "unicats", expected one of multicast, unicast (did you mean "unicast"?)',
      '10:40 virtualRouters.edge.members[0].vrid: found "51", expected a whole number from 1 to 255 (write the number without quotes)',
      '10:58 virtualRouters.edge.members[0].addresses[0]: "10.0.0.256" is not an IPv4 or IPv6 address',
      '12:29 pools.apps.backends.app1: "10.1.0.11" is not address:port, such as 10.0.0.1:80 or [2001:db8::1]:80',
      '12:51 pools.apps.check.htpp: one of the keys tcp, udp, dns, http, exec is needed here (instead of "htpp", did you mean "http"?)',
      "13:52 pools.other.check: tcp and exec exclude each other (keep one of them)",
      '15:14 services.web.on: there is no virtual router "egde" (did you mean "edge"?)',
      '15:62 services.web.forward.pool: there is no pool "app" (did you mean "apps"?)',
    ]);
  });

  it("knows a name that nothing has also in an object with another mistake", () => {
    const report = examine(`
site: shop
nodes: { lb1: { address: 10.1.0.2 }, lb2: { address: 10.1.0.3 } }
virtualRouters:
  edge:
    priorities: { lb1: 110, lb3: 100 }
    members: [{ interface: { lb1: eth0, lb4: eth1 }, vrid: 51, addresses: [10.0.0.1/24, { address: "fe80::1/64" }] }]
    track: [{ pool: aps, weight: -20 }, { pool: apps, atLeast: 0 }]
pools:
  apps: { backends: { app1: 10.1.0.11 }, check: { tcp: true } }
services:
  web: { on: egde, listen: 10.0.0.1:80, forward: { pool: app, scheduler: wrr } }
  shop:
    listen: 10.0.0.1:81/tcp
    proxy: { routes: [{ pool: { apps: 95, canary: 5 }, mirror: { pool: x }, compres: true }], tcp: { serverNames: { a.example: b } } }
availability: { targets: { wbe: { availability: much } } }
lab: { networks: { front: 10.0.0.0 }, nodes: { lb9: {} } }
`);
    expect(lines(report).filter((line) => line.includes("there is no"))).toEqual([
      '6:29 virtualRouters.edge.priorities.lb3: there is no node "lb3" (did you mean "lb1"?)',
      '7:41 virtualRouters.edge.members[0].interface.lb4: there is no node "lb4" (did you mean "lb1"?)',
      '8:21 virtualRouters.edge.track[0].pool: there is no pool "aps" (did you mean "apps"?)',
      '12:14 services.web.on: there is no virtual router "egde" (did you mean "edge"?)',
      '12:58 services.web.forward.pool: there is no pool "app" (did you mean "apps"?)',
      '15:43 services.shop.proxy.routes[0].pool.canary: there is no pool "canary" (pools: apps)',
      '15:72 services.shop.proxy.routes[0].mirror.pool: there is no pool "x" (pools: apps)',
      '15:128 services.shop.proxy.tcp.serverNames["a.example"]: there is no pool "b" (pools: apps)',
      '16:28 availability.targets.wbe: there is no service "wbe" (did you mean "web"?)',
      '17:48 lab.nodes.lb9: there is no node "lb9" (did you mean "lb1"?)',
    ]);
    expect(lines(report)).toContain(
      "7:76 virtualRouters.edge.members[0].addresses[0]: a virtual address is written without a prefix length: 10.0.0.1, not 10.0.0.1/24",
    );
  });

  it("never prints a secret that stands in the file", () => {
    const report = examine(
      good.replace(
        "forward: { pool: apps }",
        "proxy: { routes: [{ pool: apps, sticky: { secret: hunter2 } }] }",
      ),
    );
    expect(lines(report)).toEqual(
      [
        "11:94 services.web.proxy.routes[0].sticky.secret: a secret stands in the site file itself (write { file: PATH } or { env: NAME }, and the secret there)",
      ].map((line) => expect.stringContaining(line.slice(6)) as string),
    );
    expect(JSON.stringify(report)).not.toContain("hunter2");
  });

  it("never throws and never speaks in the library's words, whatever the values", () => {
    const keys = fc.constantFrom(
      "site",
      "nodes",
      "virtualRouters",
      "pools",
      "services",
      "lb1",
      "members",
      "check",
      "http",
      "backends",
      "listen",
      "proxy",
      "track",
      "forward",
      "interval",
      "x",
    );
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof(
        { maxDepth: 5, depthSize: "medium" },
        fc.constantFrom<unknown>("a", "10.0.0.1", "1s", "", 5, -1, 1.5, true, null),
        fc.array(tie("tree"), { maxLength: 3 }),
        fc.dictionary(keys, tie("tree"), { maxKeys: 5 }),
      ),
    }));
    fc.assert(
      fc.property(tree, (value) => {
        const report = examine(JSON.stringify(value));
        expect(report.issues.length > 0).toBe(report.loaded === undefined);
        for (const { message } of report.issues)
          expect(message).not.toMatch(/Invalid input|received|Unrecognized/);
      }),
      { numRuns: 300 },
    );
  });
});

describe("the digest", () => {
  it("knows no order of keys, no comments, no layout", () => {
    const other = `# a comment\n${good.replace("{ lb1: 110, lb2: 100 }", "{ lb2: 100, lb1: 110 } # swapped")}`;
    expect(examine(other).loaded?.digest).toBe(examine(good).loaded?.digest);
  });
  it("differs where a value or the order of a list differs", () => {
    expect(siteDigest({ a: [1, 2] })).not.toBe(siteDigest({ a: [2, 1] }));
    expect(siteDigest({ a: "1" })).not.toBe(siteDigest({ a: 1 }));
    expect(siteDigest({ a: { b: 1 } })).not.toBe(siteDigest({ "a.b": 1 }));
    expect(examine(good.replace("110", "111")).loaded?.digest).not.toBe(examine(good).loaded?.digest);
  });
});

describe("files", { timeout: 30_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), "nines-load-"));
  afterAll(() => rmSync(directory, { recursive: true }));
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };

  it("are read from YAML, or a ConfigError says why not", async () => {
    expect((await loadSite(file("a.yaml", good))).site.site).toBe("shop");
    await expect(loadSite(file("b.yaml", "site: 5"))).rejects.toBeInstanceOf(ConfigError);
    await expect(loadSite(join(directory, "none.yaml"))).rejects.toThrow("the file cannot be read");
    await expect(loadSite(file("a.toml", ""))).rejects.toThrow("a site file ends with");
  });

  it("are read from TypeScript afresh each time, mistakes with their lines", async () => {
    const text = (priority: number) => `import { defineSite } from "nines";
const priority: number = ${priority};
export default defineSite({
  site: "shop",
  nodes: { lb1: { address: "10.1.0.2" } },
  virtualRouters: {
    edge: { priorities: { lb1: priority }, members: [{ interface: "eth0", vrid: 1, addresses: ["10.0.0.1"] }] },
  },
});
`;
    const path = file("site.ts", text(7));
    expect((await loadSite(path)).site.virtualRouters["edge"]?.priorities).toEqual({ lb1: 7 });
    file("site.ts", text(700));
    const { issues } = await examineSite(path);
    expect(issues).toEqual([
      expect.objectContaining({
        line: 7,
        column: 27,
        message: "found 700, expected a whole number from 1 to 255",
      }),
    ]);
    const none = await examineSite(file("none.ts", "export const site = 1;\n"));
    expect(none.issues[0]?.message).toContain("no default export");
    const broken = await examineSite(file("broken.ts", "throw new Error('not today');\n"));
    expect(broken.issues[0]?.message).toContain("not today");
  });
});
