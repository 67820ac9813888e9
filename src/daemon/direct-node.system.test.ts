import { type ChildProcess, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { SiteInput } from "../config/schema/site.ts";
import { Lan } from "./testing/lan.ts";
import { RealNode } from "./testing/real-node.ts";

// Two balancers, a client and three backends on one LAN; the backends answer the client themselves.
const ready =
  process.getuid?.() === 0 && ["nft", "ip", "curl"].every((name) => spawnSync("which", [name]).status === 0);
const BACKENDS = ["b1", "b2", "b3"] as const;
type Name = (typeof BACKENDS)[number];
const VIPS = ["10.0.0.1", "fd00::1"];
const at = (address: string): string => (address.includes(":") ? `[${address}]` : address);

const SERVER = `
  const name = process.argv[1];
  require("node:http").createServer((_, response) => response.end(name)).listen(80, "::");
  require("node:net").createServer((socket) => socket.on("error", () => {}).on("data", () => socket.write(name + "\\n"))).listen(81, "::");
  // On the service's address: a socket for all addresses would answer from the backend's own.
  for (const [type, address] of [["udp4", "10.0.0.1"], ["udp6", "fd00::1"]]) {
    const udp = require("node:dgram").createSocket(type);
    udp.on("message", (_, from) => udp.send(name, from.port, from.address)).bind(53, address);
  }
`;
// Streams: "open ADDRESS N", "say": which backend each is at, or "closed". Datagrams: "udp ADDRESS N".
const CLIENT = `
  const { connect } = require("node:net");
  const streams = [];
  const datagram = (address) => new Promise((resolve) => {
    const socket = require("node:dgram").createSocket(address.includes(":") ? "udp6" : "udp4");
    const timer = setTimeout(() => done("timeout"), 3000);
    const done = (text) => { clearTimeout(timer); socket.close(); resolve(text); };
    socket.on("error", (error) => done(error.code)).on("message", (data) => done(data.toString()));
    socket.connect(53, address, () => socket.send("x"));
  });
  const said = (socket) => new Promise((resolve) => {
    if (socket.destroyed) return resolve("closed");
    const timer = setTimeout(() => resolve("timeout"), 3000);
    const done = (text) => { clearTimeout(timer); resolve(text); };
    socket.once("data", (data) => done(data.toString().trim())).once("close", () => done("closed"));
    socket.write("x");
  });
  require("node:readline").createInterface({ input: process.stdin }).on("line", async (line) => {
    const [op, address, count] = line.split(" ");
    if (op === "open")
      for (let i = 0; i < Number(count); i++) {
        const socket = connect(81, address).on("error", () => {});
        await new Promise((resolve) => socket.once("connect", resolve).once("close", resolve));
        streams.push(socket);
      }
    const asked = op === "udp" ? Array.from({ length: Number(count) }, () => datagram(address)) : streams.map(said);
    console.log(JSON.stringify(await Promise.all(asked)));
  });
`;

describe.skipIf(!ready)("direct server return", () => {
  let lan: Lan;
  let a: RealNode;
  let b: RealNode;
  let client: ChildProcess;
  const children: ChildProcess[] = [];
  const forward = { pool: "apps", mode: "direct" } as const;
  const pool = (port: number, v6 = false) => ({
    backends: Object.fromEntries(
      BACKENDS.map((name, i) => [name, v6 ? `[fd00::1${i + 1}]:${port}` : `10.0.0.1${i + 1}:${port}`]),
    ),
    check: { tcp: true, interval: "200ms", timeout: "150ms", rise: 1, fall: 1 } as const,
  });
  const site: SiteInput = {
    site: "shop",
    nodes: { a: { address: "10.0.0.2" }, b: { address: "10.0.0.3" } },
    virtualRouters: {
      edge: {
        priorities: { a: 110, b: 100 },
        interval: "100ms",
        preempt: false,
        members: [
          { interface: "eth0", vrid: 51, addresses: ["10.0.0.1"] },
          { interface: "eth0", vrid: 52, addresses: ["fe80::1", "fd00::1"] },
        ],
      },
    },
    pools: {
      apps: pool(80),
      apps6: pool(80, true),
      streams: pool(81),
      streams6: pool(81, true),
      names: { backends: pool(53).backends },
      names6: { backends: pool(53, true).backends },
    },
    services: {
      web: { on: "edge", listen: "10.0.0.1:80/tcp", forward },
      web6: { on: "edge", listen: "[fd00::1]:80/tcp", forward: { ...forward, pool: "apps6" } },
      streams: { on: "edge", listen: "10.0.0.1:81/tcp", forward: { ...forward, pool: "streams" } },
      streams6: { on: "edge", listen: "[fd00::1]:81/tcp", forward: { ...forward, pool: "streams6" } },
      dns: { on: "edge", listen: "10.0.0.1:53/udp", forward: { ...forward, pool: "names" } },
      dns6: { on: "edge", listen: "[fd00::1]:53/udp", forward: { ...forward, pool: "names6" } },
    },
  };
  const visits = (address: string, count: number): string[] =>
    Array.from({ length: count }, () =>
      lan.on("client", `curl -s --max-time 3 http://${at(address)}/ || echo failed`).trim(),
    );
  const ask = async (line: string): Promise<string[]> => {
    const { stdin, stdout } = client;
    if (!stdin || !stdout) throw new Error("no client");
    const lines = createInterface({ input: stdout });
    stdin.write(`${line}\n`);
    const [answer] = (await once(lines, "line")) as [string];
    lines.close();
    return JSON.parse(answer) as string[];
  };
  const active = (node: RealNode) =>
    vi.waitFor(async () => expect((await node.status()).routers[0]?.state).toBe("active"), 60_000);
  const admin = async (node: RealNode, backend: Name, state: string) => {
    for (const name of ["apps", "apps6", "streams", "streams6", "names", "names6"])
      await node.ask("POST", "/v1/backends", { pool: name, backend, state });
  };
  /** Packets that come in on a balancer with a service's address as their source: answers that should not be there. */
  const answersSeen = (node: string): number =>
    [...lan.on(node, "nft list table netdev watch").matchAll(/packets (\d+)/g)].reduce(
      (sum, [, n]) => sum + Number(n),
      0,
    );
  const watch = (node: string) =>
    lan.on(
      node,
      `nft -f - <<'END'
table netdev watch {
  chain in {
    type filter hook ingress device eth0 priority -300
    ip saddr 10.0.0.1 ip protocol { tcp, udp } counter
    ip6 saddr fd00::1 ip6 nexthdr { tcp, udp } counter
  }
}
END`,
    );

  beforeAll(async () => {
    lan = await Lan.open("br0");
    await lan.plug("client", "eth0", "br0", "10.0.0.9/24", "fd00::9/64");
    await lan.plug("lb1", "eth0", "br0", "10.0.0.2/24", "fd00::2/64");
    await lan.plug("lb2", "eth0", "br0", "10.0.0.3/24", "fd00::3/64");
    for (const [i, name] of BACKENDS.entries()) {
      await lan.plug(name, "eth0", "br0", `10.0.0.1${i + 1}/24`, `fd00::1${i + 1}/64`);
      // As the guide says.
      lan.on(
        name,
        `sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
         ip address add 10.0.0.1/32 dev lo; ip address add fd00::1/128 dev lo nodad`,
      );
      children.push(lan.start(name, process.execPath, "-e", SERVER, name));
    }
    client = lan.start("client", process.execPath, "-e", CLIENT);
    for (const node of ["lb1", "lb2"]) watch(node);
    a = new RealNode(lan.host("lb1"));
    b = new RealNode(lan.host("lb2"));
    for (const node of [a, b]) node.write(site);
    a.start("a");
    await active(a);
    b.start("b");
    await vi.waitFor(async () => expect((await b.status()).routers[0]?.state).toBe("backup"), 60_000);
  }, 150_000);
  afterAll(async () => {
    await a.cleanUp();
    await b.cleanUp();
    for (const child of [client, ...children]) child.kill("SIGKILL");
    lan.close();
  });

  it("spreads connections and datagrams over IPv4 and IPv6, and no answer passes the balancer", async () => {
    await vi.waitFor(() => expect(visits("10.0.0.1", 1)).not.toContain("failed"), 10_000);
    for (const vip of VIPS) {
      expect(new Set(visits(vip, 20)), vip).toEqual(new Set(BACKENDS));
      const names = await ask(`udp ${vip} 30`);
      expect(new Set(names), vip).toEqual(new Set(BACKENDS));
    }
    expect([answersSeen("lb1"), answersSeen("lb2")]).toEqual([0, 0]);
    // Its table can be read, and the connection table has none of it.
    expect(lan.on("lb1", "nft list table netdev nines")).toContain("fwd ip to 10.0.0.11");
    const [explained] = await a.ask<{ detail?: unknown }[]>("GET", "/v1/explain?pool=apps&backend=b1");
    expect(JSON.stringify(explained)).toContain("loopback");
  });

  let before: string[] = [];
  it("keeps connections where they are when a backend is drained, and sends new ones elsewhere", async () => {
    await ask("open 10.0.0.1 15");
    before = await ask("open fd00::1 15");
    expect(new Set(before)).toEqual(new Set(BACKENDS));
    await admin(a, "b1", "drain");
    await vi.waitFor(() => expect(visits("10.0.0.1", 10)).not.toContain("b1"), 10_000);
    expect(await ask("say")).toEqual(before);
    await admin(a, "b1", "enabled");
    await vi.waitFor(() => expect(visits("10.0.0.1", 15)).toContain("b1"), 10_000);
  });

  it("keeps all connections when the other balancer takes over, though it never saw them", async () => {
    await a.cleanUp();
    lan.on("lb1", "ip link set eth0 down");
    await active(b);
    expect(await ask("say")).toEqual(before);
    expect(answersSeen("lb2")).toBe(0);
  });

  it("ends the connections of a dead backend with a RST, and leaves the others alone", async () => {
    // Checks cannot reach b2 any more; its clients could, and their packets do not go there.
    lan.on("b2", "ip address del 10.0.0.12/24 dev eth0; ip address del fd00::12/64 dev eth0");
    await vi.waitFor(() => expect(visits("10.0.0.1", 10)).not.toContain("failed"), 10_000);
    const after = before.map((one) => (one === "b2" ? "closed" : one));
    await vi.waitFor(async () => expect(await ask("say")).toEqual(after), { timeout: 20_000, interval: 500 });
    expect(new Set(visits("10.0.0.1", 15))).toEqual(new Set(["b1", "b3"]));
  });

  it("a killed brain leaves packets alone, and the next one takes the table over", async () => {
    process.kill(b.pidOf("brain"), "SIGKILL");
    expect(visits("10.0.0.1", 3)).not.toContain("failed");
    await vi.waitFor(() => expect(b.events("forwarding.adopted").length).toBe(1), 20_000);
    expect(visits("fd00::1", 3)).not.toContain("failed");
    expect((await ask("say")).filter((one) => one === "closed").length).toBe(
      before.filter((one) => one === "b2").length,
    );
  });
});
