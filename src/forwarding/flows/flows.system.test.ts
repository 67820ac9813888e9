import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ip } from "../../base/addresses.ts";
import { NetworkNamespace } from "../../linux/namespace.ts";
import { makeKeys } from "./keys.ts";
import type { NodeCommand, NodeSetup } from "./testing/flows-node.ts";
import type { TrafficCommand } from "./testing/traffic.ts";

// A client, two directors that choose backends differently, three backends: each host a network namespace.
const root = process.getuid?.() === 0;
const present = ["nft", "conntrack", "openssl"].every((name) => spawnSync("which", [name]).status === 0);
const sleep = (span: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, span));
const sh = (command: string): string => execFileSync("bash", ["-c", command], { encoding: "utf8" });
const COUNT = 60;

interface Status {
  readonly peers: Record<
    string,
    { connected: boolean; sentAll: boolean; receivedAll: boolean; snapshots: number }
  >;
  readonly flows: { own: number; others: number };
  readonly counters: Record<string, number>;
  readonly log: { event: string; reason?: string }[];
}

describe.skipIf(!root || !present)("flows of two directors", () => {
  const hosts = new Map<string, NetworkNamespace>();
  const children = new Set<ChildProcess>();
  const nodes = new Map<string, ChildProcess>();
  let keys = "";
  let client: ChildProcess;
  const host = (name: string): NetworkNamespace => {
    const found = hosts.get(name);
    if (found === undefined) throw new Error(name);
    return found;
  };
  const on = (name: string, command: string): string => host(name).run(() => sh(command));
  const start = (name: string, file: string, argument: string): ChildProcess => {
    const child = host(name).run(() =>
      spawn(process.execPath, ["--import", "tsx", join(import.meta.dirname, "testing", file), argument], {
        stdio: ["ignore", "inherit", "inherit", "ipc"],
      }),
    );
    children.add(child);
    return child;
  };
  const ask = async (child: ChildProcess, command: NodeCommand | TrafficCommand): Promise<unknown> => {
    const answered = once(child, "message") as Promise<[{ answer: unknown }]>;
    child.send(command);
    return (await answered)[0].answer;
  };
  const node = (name: string): ChildProcess => {
    const found = nodes.get(name);
    if (found === undefined) throw new Error(name);
    return found;
  };
  const status = async (name: string): Promise<Status> => (await ask(node(name), { do: "status" })) as Status;
  const until = async (
    what: string,
    met: () => Promise<boolean>,
    asked: readonly string[] = ["lb1", "lb2"],
  ): Promise<void> => {
    for (let i = 0; i < 200; i++) {
      if (await met()) return;
      await sleep(50);
    }
    const said = await Promise.all(
      asked.map(async (name) => `${name} ${JSON.stringify(await status(name))}`),
    );
    throw new Error(`never: ${what}; ${said.join(" ")}`);
  };
  const addresses: Record<string, string> = { lb1: "10.1.0.2", lb2: "10.1.0.3" };
  async function startNode(name: "lb1" | "lb2", more: Partial<NodeSetup> = {}): Promise<void> {
    const peer = name === "lb1" ? "lb2" : "lb1";
    const setup: NodeSetup = {
      site: "shop",
      node: name,
      listen: { address: ip(addresses[name] ?? ""), port: 7400 },
      peers: [{ node: peer, address: ip(addresses[peer] ?? ""), port: 7400 }],
      keys,
      delay: 5,
      ...more,
    };
    nodes.set(name, start(name, "flows-node.ts", JSON.stringify(setup)));
    await ask(node(name), { do: "configure", services: [{ name: "web", router: "edge", mark: 0x4e000001 }] });
  }
  /** The addresses' part of a takeover: where packets go from now on. */
  const route = (name: "lb1" | "lb2"): void => {
    const last = name === "lb1" ? 2 : 3;
    on("client", `ip route replace 10.9.9.9 via 10.0.0.${last}`);
    on("backend", `ip route replace default via 10.1.0.${last}`);
  };
  const alive = async (within = 3000) => await ask(client, { do: "alive", within });
  const whole = { clientFirst: COUNT / 2, serverFirst: COUNT / 2 };

  beforeAll(async () => {
    keys = mkdtempSync(join(tmpdir(), "nines-flows-"));
    await makeKeys(keys, "shop", ["lb1", "lb2"]);
    for (const name of ["switch", "client", "lb1", "lb2", "backend"])
      hosts.set(name, NetworkNamespace.create());
    on(
      "switch",
      "ip link add br0 type bridge; ip link add br1 type bridge; ip link set br0 up; ip link set br1 up",
    );
    const plug = async (name: string, device: string, bridge: string, ...ips: string[]): Promise<void> => {
      const there = host(name).run(() => spawn("sleep", ["20"]));
      await once(there, "spawn");
      const port = `${name}-${device}`;
      on(
        "switch",
        `ip link add ${port} type veth peer name ${device} netns ${there.pid}; ip link set ${port} master ${bridge} up`,
      );
      on(
        name,
        `ip link set lo up; ip link set ${device} up; ${ips.map((a) => `ip addr add ${a}/24 dev ${device}`).join("; ")}`,
      );
      there.kill();
    };
    await plug("client", "eth0", "br0", "10.0.0.9");
    await plug("lb1", "eth0", "br0", "10.0.0.2");
    await plug("lb1", "eth1", "br1", "10.1.0.2");
    await plug("lb2", "eth0", "br0", "10.0.0.3");
    await plug("lb2", "eth1", "br1", "10.1.0.3");
    await plug("backend", "eth1", "br1", "10.1.0.11", "10.1.0.12", "10.1.0.13");
    for (const [name, seed] of [
      ["lb1", 1],
      ["lb2", 2],
    ] as const) {
      on(
        name,
        `sysctl -qw net.ipv4.ip_forward=1; nft -f - <<'END'
        table ip nines {
          chain pre {
            type nat hook prerouting priority -100
            ip daddr 10.9.9.9 tcp dport 80-81 ct mark set ct mark or 0x4e000001 dnat to jhash ip saddr . tcp sport mod 3 seed 0x${seed} map { 0 : 10.1.0.11, 1 : 10.1.0.12, 2 : 10.1.0.13 }
          }
        }
END
        sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1`,
      );
    }
    route("lb1");
    const server = start("backend", "traffic.ts", "server");
    await once(server, "message");
    client = start("client", "traffic.ts", "client");
  });
  afterAll(() => {
    for (const child of children) child.kill("SIGKILL");
    for (const namespace of hosts.values()) namespace.close();
    rmSync(keys, { recursive: true, force: true });
  });

  it("a switchover and a failback lose none of 60 established connections, half of them server-first", async () => {
    await startNode("lb1");
    await startNode("lb2");
    await ask(node("lb1"), { do: "active", routers: ["edge"] });
    expect(await ask(client, { do: "connect", address: "10.9.9.9", count: COUNT })).toBe(COUNT);
    expect(await alive()).toEqual(whole);
    await until("in sync", async () => {
      const peer = (await status("lb1")).peers["lb2"];
      return peer !== undefined && peer.sentAll && peer.receivedAll;
    });
    expect(await ask(node("lb1"), { do: "flush" })).toBe("");
    expect((await status("lb2")).flows).toEqual({ own: 0, others: COUNT });
    // Flows first, then the address.
    await ask(node("lb2"), { do: "active", routers: ["edge"] });
    route("lb2");
    await ask(node("lb1"), { do: "active", routers: [] });
    expect(await alive()).toEqual(whole);
    await until("handed over", async () => (await status("lb1")).flows.others === COUNT);
    expect((await status("lb2")).flows.own).toBe(COUNT);
    await ask(node("lb2"), { do: "flush" });
    await ask(node("lb1"), { do: "active", routers: ["edge"] });
    route("lb1");
    await ask(node("lb2"), { do: "active", routers: [] });
    expect(await alive()).toEqual(whole);
  });

  it("the Active's death loses none, and its rebirth brings it up to date by a snapshot", async () => {
    node("lb1").kill("SIGKILL");
    await ask(node("lb2"), { do: "active", routers: ["edge"] });
    route("lb2");
    on("lb1", "conntrack -F 2>/dev/null");
    expect(await alive()).toEqual(whole);
    await startNode("lb1");
    await until("up to date", async () => (await status("lb1")).flows.others === COUNT);
    expect(on("lb1", "conntrack -L --mark 0x4e000001 2>/dev/null | wc -l").trim()).toBe(String(COUNT));
  });

  it("what someone deletes from the standby's table comes back", async () => {
    on("lb1", "conntrack -F 2>/dev/null");
    await until("put back", () =>
      Promise.resolve(
        on("lb1", "conntrack -L --mark 0x4e000001 2>/dev/null | wc -l").trim() === String(COUNT),
      ),
    );
  });

  it("what ends at the Active leaves the standby's table", async () => {
    const cut = on("lb2", "conntrack -D -p tcp -r 10.1.0.12 2>/dev/null").trim().split("\n").length;
    expect(cut).toBeGreaterThan(5);
    expect(cut).toBeLessThan(COUNT - 10);
    await until("ended on both", async () => (await status("lb1")).flows.others === COUNT - cut);
  });

  it("what is closed leaves the standby's table while the Active's kernel keeps it in TIME_WAIT", async () => {
    const before = (await status("lb1")).flows.others;
    const waiting = (): number =>
      on("lb2", "conntrack -L -p tcp --state TIME_WAIT 2>/dev/null").split("\n").length - 1;
    on(
      "client",
      `for i in 1 2 3 4 5; do exec 3<>/dev/tcp/10.9.9.9/80; echo hello >&3; read -r line <&3; exec 3>&-; done`,
    );
    await until("closed at the Active", () => Promise.resolve(waiting() >= 5));
    await ask(node("lb2"), { do: "flush" });
    expect((await status("lb1")).flows.others).toBe(before);
    expect(waiting()).toBeGreaterThanOrEqual(5);
    // Without a word of the steps between its first FIN and its end.
    expect((await status("lb2")).flows.own).toBe(before);
  });

  it("connections in their handshake go over with the rest, also those that begin while it is handed over", async () => {
    const late = start("client", "traffic.ts", "client");
    const connects = async (count: number): Promise<unknown> =>
      await ask(late, { do: "connect", address: "10.9.9.9", count, from: "10.0.0.8" });
    const takes = async (name: "lb1" | "lb2"): Promise<void> => {
      await ask(node(name), { do: "active", routers: ["edge"] });
      route(name);
      await ask(node(name === "lb1" ? "lb2" : "lb1"), { do: "active", routers: [] });
    };
    // Its acknowledgements are on their way for long: the client has its connection, and nobody else does yet.
    on("client", "ip addr add 10.0.0.8/24 dev eth0");
    const hold = (): string =>
      on(
        "client",
        "nft 'add table ip hold; add chain ip hold out { type filter hook output priority 0; }; add rule ip hold out ip saddr 10.0.0.8 tcp flags == ack meta length 52 drop'",
      );
    const halfOpen = (name: string, state = "SYN_RECV"): number =>
      on(name, `conntrack -L -p tcp --state ${state} -s 10.0.0.8 2>/dev/null`).split("\n").length - 1;
    hold();
    expect(await connects(20)).toBe(20);
    expect(halfOpen("lb2")).toBe(20);
    // A listing, as after a start or an overrun, leaves them out: nothing would be heard of their end.
    const { own } = (await status("lb2")).flows;
    await ask(node("lb2"), { do: "resync" });
    await sleep(300);
    expect((await status("lb2")).flows.own).toBe(own);
    expect(await ask(node("lb2"), { do: "flush", to: "lb1" })).toBe("");
    expect(halfOpen("lb1")).toBe(20);
    await takes("lb1");
    on("client", "nft delete table ip hold");
    expect(await ask(late, { do: "alive", within: 3000 })).toEqual({ clientFirst: 10, serverFirst: 10 });

    hold();
    expect(await ask(node("lb1"), { do: "flush", to: "lb2" })).toBe("");
    expect(await connects(10)).toBe(30);
    expect([halfOpen("lb1"), halfOpen("lb2")]).toEqual([10, 0]);
    await takes("lb2");
    await until("told", () => Promise.resolve(halfOpen("lb2") === 10));
    on("client", "nft delete table ip hold");
    expect(await ask(late, { do: "alive", within: 3000 })).toEqual({ clientFirst: 15, serverFirst: 15 });

    // And where it is the backend's answer that is on its way.
    on(
      "backend",
      "nft 'add table ip hold; add chain ip hold out { type filter hook output priority 0; }; add rule ip hold out ip daddr 10.0.0.8 tcp flags == syn|ack drop'",
    );
    const connected = connects(10);
    await until("sent", () => Promise.resolve(halfOpen("lb2", "SYN_SENT") === 10));
    expect(await ask(node("lb2"), { do: "flush", to: "lb1" })).toBe("");
    expect(halfOpen("lb1", "SYN_SENT")).toBe(10);
    await takes("lb1");
    on("backend", "nft delete table ip hold");
    expect(await connected).toBe(40);
    expect(await ask(late, { do: "alive", within: 3000 })).toEqual({ clientFirst: 20, serverFirst: 20 });
    await ask(node("lb1"), { do: "flush", to: "lb2" });
    await takes("lb2");
    late.kill("SIGKILL");
    await until("closed", async () => (await status("lb1")).flows.others === (await status("lb2")).flows.own);
  });

  it("nobody waits for the acknowledgement of a process that is dead, whichever of the two dials", async () => {
    for (const [dead, other] of [
      ["lb1", "lb2"],
      ["lb2", "lb1"],
    ] as const) {
      node(dead).kill("SIGKILL");
      await until("noticed", async () => !((await status(other)).peers[dead]?.connected ?? true), [other]);
      // Its deadline is 30 s.
      expect(await ask(node(other), { do: "flush", to: dead })).toBe(`${dead} runs no flows process`);
      await startNode(dead);
      await until("back", async () => (await status(other)).peers[dead]?.sentAll ?? false);
    }
    await ask(node("lb2"), { do: "active", routers: ["edge"] });
    expect(await ask(node("lb2"), { do: "flush", to: "lb1" })).toBe("");
  }, 120_000);

  it("a node with another authority's certificate, or of another site, is refused, counted and named", async () => {
    const good = keys;
    node("lb1").kill("SIGKILL");
    const before = (await status("lb2")).counters["refusedPeers"] ?? 0;
    const own = keys;
    keys = mkdtempSync(join(tmpdir(), "nines-other-"));
    await makeKeys(keys, "shop", ["lb1"]);
    await startNode("lb1");
    await until(
      "refused by its certificate",
      async () => ((await status("lb2")).counters["refusedPeers"] ?? 0) > before,
    );
    expect((await status("lb2")).peers["lb1"]?.connected).toBe(false);
    node("lb1").kill("SIGKILL");
    rmSync(keys, { recursive: true, force: true });
    keys = own;
    await startNode("lb1", { site: "bank" });
    await until("refused by its site", async () =>
      (await status("lb2")).log.some(({ reason }) => reason === "site_other"),
    );
    expect(good).toBe(own);
  });

  it("is reached once the port is free that somebody else had", async () => {
    for (const name of ["lb1", "lb2"]) node(name).kill("SIGKILL");
    const listen = `require("node:net").createServer().listen(7400, "10.1.0.3", () => process.send("listening"))`;
    const stdio = ["ignore", "inherit", "inherit", "ipc"] as const;
    const holder = host("lb2").run(() => spawn(process.execPath, ["-e", listen], { stdio: [...stdio] }));
    children.add(holder);
    await once(holder, "message");
    await startNode("lb1");
    await startNode("lb2");
    const said = async () => (await status("lb2")).log.filter(({ event }) => event === "flows.listen_failed");
    await until("refused", async () => (await said()).length > 0);
    await sleep(600);
    // Once, however often it is tried.
    expect(await said()).toHaveLength(1);
    holder.kill("SIGKILL");
    await until("connected", async () => (await status("lb2")).peers["lb1"]?.connected ?? false);
  });

  it("control: without the flows, connections are lost", async () => {
    for (const name of ["lb1", "lb2"]) node(name).kill("SIGKILL");
    on("lb1", "conntrack -F 2>/dev/null");
    // The backend's side first: what it says first (every 50 ms) comes to a kernel that knows nothing of it, and not
    // behind an acknowledgement of the client's, which would make the entry anew.
    on("backend", "ip route replace default via 10.1.0.2");
    await sleep(200);
    route("lb1");
    const left = (await alive(1500)) as typeof whole;
    expect(left.clientFirst + left.serverFirst).toBeLessThan(COUNT * 0.6);
  });
});
