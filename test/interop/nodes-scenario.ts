/**
 * Two nodes of a site and a client on one LAN: the cases that need a kernel. Hands over what was seen; how
 * quickly is for the drills to say.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { finish } from "../../src/linux/nftables/testing/namespace.ts";
import {
  Nines,
  type RouterInput,
  addressesOf,
  cutOneWay,
  directory,
  has,
  inside,
  makeLan,
  now,
  planOf,
  sleep,
  until,
} from "./harness.ts";

const V4 = "10.0.0.100";
const V6 = "fd00::100";
const nodes = { a: { address: "10.0.0.10" }, b: { address: "10.0.0.20" } };
const hookFile = `${directory}/hook.json`;
const edge: RouterInput = {
  interval: "100ms",
  priorities: { a: 110, b: 100 },
  hooks: { active: ["/bin/sh", "-c", `cat >> ${hookFile}`] },
  members: [{ interface: "eth0", vrid: 51, addresses: [V4, V6] }],
};
const plan = (node: "a" | "b", change: Partial<RouterInput> = {}, digest = "d1") =>
  planOf(nodes, node, { ...edge, ...change }, digest);

makeLan("lan", { a: 10, b: 20, client: 30 });
const seen: Record<string, unknown> = {};
const see = (name: string, value: unknown): void => void (seen[name] = value);
const holders = (address = V4): string[] => ["a", "b"].filter((node) => has(node, address));
/**
 * Connects to a port where nobody listens: a reset tells that the address is reached. Prints how many of
 * `count` attempts, 20 ms apart, were not answered within 500 ms.
 */
const prober = `
  const net = require("node:net");
  const [address, count] = process.argv.slice(1);
  let lost = 0, left = Number(count);
  const probe = () => {
    const socket = net.connect(9, address);
    const timer = setTimeout(() => end(true), 500);
    const end = (bad) => { clearTimeout(timer); socket.destroy(); if (bad) lost++; if (--left === 0) console.log(lost); };
    socket.on("error", (error) => end(error.code !== "ECONNREFUSED"));
  };
  for (let i = 0; i < Number(count); i++) setTimeout(probe, i * 20);
`;
const lostOf = (count: number): number =>
  Number(inside("client", process.execPath, "-e", prober, V4, String(count)).trim());
/** The same beside what else goes on. */
async function lostDuring(count: number, body: () => Promise<void>): Promise<number> {
  const child = spawn("ip", ["netns", "exec", "client", process.execPath, "-e", prober, V4, String(count)]);
  let out = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  const ended = new Promise((resolve) => child.on("exit", resolve));
  await sleep(400);
  await body();
  await ended;
  return Number(out.trim() || "-1");
}
const forget = (): void => void inside("client", "ip", "neigh", "flush", "all");

let a = new Nines("a");
let b = new Nines("b");
await until(() => a.pid > 0 && b.pid > 0, 10_000);
a.send(plan("a"));
await a.is("active");
b.send(plan("b"));
await b.is("backup");
await until(() => b.router()?.active?.node === "a", 10_000);
see("start", { holders: holders(), holders6: holders(V6), activeAsBSees: b.router()?.active?.node });
see("hook", JSON.parse(readFileSync(hookFile, "utf8").split("\n")[0] ?? ""));

// Someone else deletes the addresses.
inside("a", "ip", "address", "del", `${V4}/32`, "dev", "eth0");
inside("a", "ip", "address", "del", `${V6}/128`, "dev", "eth0");
const restored = await until(() => has("a", V4) && has("a", V6), 10_000);
await sleep(200);
see("restored", {
  within1s: restored !== undefined && restored < 1000,
  events: a.events("redundancy.address_restored").length,
});

// Planned: make before break, and back.
const lost = await lostDuring(60, async () => see("switchover", await a.switchover("b")));
see("switchoverLost", lost);
await until(() => b.state() === "active" && a.state() === "backup", 10_000);
see("switchoverHolders", holders());
see("switchoverAskedOnBackup", await a.switchover("a"));
await until(() => a.state() === "active" && b.state() === "backup", 10_000);
see("switchoverBackHolders", holders());
see("switchoverUnknown", await a.switchover("c"));

// Asleep for five seconds (case 22): the other one takes over, the addresses of the sleeper expire.
a.signal("SIGSTOP");
const stalledTakeover = await b.is("active");
await sleep(600);
forget();
const lostWhileAsleep = lostOf(5);
const expired = await until(() => !has("a", V4) && !has("a", V6), 10_000);
await sleep(2000);
a.signal("SIGCONT");
const woke = await until(() => a.state() === "backup", 10_000);
await sleep(500);
see("stall", {
  takeover: stalledTakeover !== undefined,
  lost: lostWhileAsleep,
  expired: expired !== undefined && expired < 3000,
  woke: woke !== undefined,
  holders: holders(),
  states: [a.state(), b.state()],
});

// kill -9 (case 23): gone within the lease.
b.signal("SIGKILL");
const killedTakeover = await a.is("active");
const gone = await until(() => !has("b", V4) && !has("b", V6), 10_000);
see("kill", {
  takeover: killedTakeover !== undefined,
  gone: gone !== undefined && gone < 3000,
  holders: holders(),
});
b = new Nines("b");
await until(() => b.pid > 0, 10_000);
b.send(plan("b"));
await b.is("backup");
await sleep(300);

// One-way loss, each direction (case 24). a (110) is Active.
let heal = cutOneWay("lan", 20, 10);
await sleep(1500);
see("deafActive", { states: [a.state(), b.state()] });
heal();
heal = cutOneWay("lan", 10, 20);
const two = await until(() => b.state() === "active", 10_000);
await sleep(500);
see("deafBackup", { states: [a.state(), b.state()], two: two !== undefined });
heal();
await until(() => b.state() === "backup", 10_000);
see("healed", {
  states: [a.state(), b.state()],
  holders: holders(),
});

// The link goes away, and comes back (keeps to preemption being off).
inside("a", "ip", "link", "set", "eth0", "down");
await a.is("fault");
const linkDown = await b.is("active");
see("linkDown", { takeover: linkDown !== undefined, reason: a.router()?.reason });
inside("a", "ip", "link", "set", "eth0", "up");
await a.is("backup");
await sleep(600);
see("linkUp", { states: [a.state(), b.state()] });

// Two nodes with different site files.
b.send(plan("b", {}, "d2"));
await until(() => a.events("redundancy.site_differs").length > 0, 10_000);
see("differs", { told: a.events("redundancy.site_differs").length > 0, states: [a.state(), b.state()] });
b.send(plan("b"));
await until(() => a.events("redundancy.site_agrees").length > 0, 10_000);
see("agrees", a.events("redundancy.site_agrees").length > 0);

// A reload that adds and removes an address: no change of state.
const transitions = b.router()?.transitions;
b.send(plan("b", { members: [{ interface: "eth0", vrid: 51, addresses: ["10.0.0.101", V6] }] }));
await until(() => has("b", "10.0.0.101") && !has("b", V4), 10_000);
see("reload", {
  added: has("b", "10.0.0.101"),
  removed: !has("b", V4),
  flapped: b.router()?.transitions !== transitions,
});
b.send(plan("b"));
await until(() => has("b", V4), 10_000);

// An interface that does not exist yet.
const missing = [{ interface: "eth9", vrid: 60, addresses: ["10.9.0.1"] }];
a.send(plan("a", { members: missing }));
await a.is("fault");
const missingReason = a.router()?.reason;
inside("a", "ip", "link", "add", "eth9", "type", "veth", "peer", "name", "eth9p");
inside("a", "ip", "address", "add", "10.9.0.9/24", "dev", "eth9");
inside("a", "ip", "link", "set", "eth9p", "up");
inside("a", "ip", "link", "set", "eth9", "up");
see("missing", { reason: missingReason, came: (await a.is("active", 10_000)) !== undefined });

// The brain falls silent: the priority sinks, the address stays.
see("reported", await silentBrain());
async function silentBrain() {
  b.silenceBrain();
  const lowered = await until(() => (b.router()?.priority ?? 100) < 100, 30_000);
  return { lowered: lowered !== undefined, state: b.state(), failing: b.router()?.failing[0]?.name };
}

// Stopped: nothing stays.
await Promise.all([a.stop(), b.stop()]);
await sleep(100);
see("stopped", {
  holders: holders(),
  tables: inside("b", "nft", "list", "tables").trim(),
});

// The protocol's MAC address.
a = new Nines("a");
b = new Nines("b");
await until(() => a.pid > 0 && b.pid > 0, 10_000);
const virtual = { virtualMac: true, members: [{ interface: "eth0", vrid: 51, addresses: [V4] }] };
a.send(plan("a", virtual));
await a.is("active");
b.send(plan("b", virtual));
await b.is("backup");
forget();
const virtualLost = lostOf(3);
const links = (node: string): { ifname: string; flags: string[]; address: string }[] =>
  JSON.parse(inside(node, "ip", "-j", "link", "show", "type", "macvlan")) as {
    ifname: string;
    flags: string[];
    address: string;
  }[];
see("virtualMac", {
  lost: virtualLost,
  neighbour: /lladdr (\S+)/.exec(inside("client", "ip", "neigh", "show", V4))?.[1],
  active: links("a").map((l) => [l.address, l.flags.includes("UP")]),
  backup: links("b").map((l) => [l.address, l.flags.includes("UP")]),
  held: addressesOf("a", links("a")[0]?.ifname).map((x) => x.local),
  arpIgnore: inside("a", "sysctl", "-n", "net.ipv4.conf.eth0.arp_ignore").trim(),
});
see("virtualMacSwitchover", await a.switchover("b"));
await until(() => b.state() === "active", 10_000);
see("virtualMacLost", lostOf(3));
await Promise.all([a.stop(), b.stop()]);
see("virtualMacStopped", [...links("a"), ...links("b")]);

// Restarted by its parent: the successor goes on with the leases, the other node never takes over.
const slow = { interval: "1s", members: [{ interface: "eth0", vrid: 51, addresses: [V4] }] };
a = new Nines("a");
b = new Nines("b");
await until(() => a.pid > 0 && b.pid > 0, 10_000);
a.send(plan("a", slow));
await a.is("active", 8000);
b.send(plan("b", slow));
await b.is("backup");
await sleep(1200);
const successor = new Nines("a", {});
await until(() => successor.pid > 0, 10_000);
a.send({ type: "stop", keep: true });
await until(() => a.exited, 10_000);
const kept = has("a", V4);
const left = now();
successor.send(plan("a", slow));
await successor.is("active", 10_000);
see("restart", {
  kept,
  resumed: now() - left < 2500,
  other: b.router()?.transitions,
  state: successor.state(),
});
await Promise.all([successor.stop(), b.stop()]);
see("noise", a.noise + b.noise + successor.noise);
finish(seen);
