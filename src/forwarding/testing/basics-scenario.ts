/** Real packets: who answers, with which addresses, as backends come and go. */
import { spawnSync } from "node:child_process";
import { finish, sh, sleep } from "../../linux/nftables/testing/namespace.ts";
import { Forwarder } from "../service.ts";
import { client, clock, log, logged, makeWorld, site, status, tally } from "./world.ts";

await makeWorld();
const c = client("c");
const web = { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } };
const services = {
  web,
  web6: { on: "edge", listen: "[fd00::1]:80/tcp", forward: { pool: "apps6" } },
  dns: { on: "edge", listen: "10.0.0.1:53/udp", forward: { pool: "apps" } },
  range: { on: "edge", listen: "10.0.0.1:5000-5002/tcp", forward: { pool: "media" } },
};
const pools = {
  apps: {
    backends: { b1: { address: "10.2.0.11:8080", weight: 2 }, b2: "10.2.0.12:8080", b3: "10.2.0.13:8080" },
  },
  apps6: { backends: { b1: "[fd02::11]:8080", b2: "[fd02::12]:8080" } },
  // b1 keeps the ports of the range, b2 takes all of them on one.
  media: { backends: { b1: "10.2.0.11:5000", b2: "10.2.0.12:8080" } },
};
const whole = site({ services, pools });
const lb1 = await Forwarder.open({ clock, log, node: "lb1" });
lb1.apply(whole, []);
await lb1.settled();
const problem = lb1.problem();

const spread = tally(await c({ op: "tcp", host: "10.0.0.1", port: 80, count: 400 }));
const sticky = await c({ op: "tcp", host: "10.0.0.1", port: 80, count: 5, localPort: 40000 });
const six = await c({ op: "tcp", host: "fd00::1", port: 80, count: 40 });
const udp = await c({ op: "udp", host: "10.0.0.1", port: 53, count: 40 });
const range = await c({ op: "tcp", host: "10.0.0.1", port: 5002, count: 40 });
const own = await c({ op: "tcp", host: "10.0.0.1", port: 22 });
const local = client("");
const fromNode = tally(await local({ op: "tcp", host: "10.0.0.1", port: 80, count: 20 }));
const hairpin = await client("b1")({ op: "tcp", host: "10.0.0.1", port: 80, count: 30 });

// Drain: what is established stays, what is new goes elsewhere.
await c({ op: "open", host: "10.0.0.1", port: 80, count: 30 });
const before = await c({ op: "say" });
lb1.apply(whole, [status("apps", "b1", "up", "drain")]);
await lb1.settled();
const drained = tally(await c({ op: "tcp", host: "10.0.0.1", port: 80, count: 60 }));
const after = await c({ op: "say" });

// A dead backend, then all dead, then one of them back.
lb1.apply(whole, [status("apps", "b2", "down")]);
await lb1.settled();
const dead = tally(await c({ op: "tcp", host: "10.0.0.1", port: 80, count: 60 }));
lb1.apply(
  whole,
  ["b1", "b2", "b3"].map((one) => status("apps", one, "down")),
);
await lb1.settled();
const refused = tally(await c({ op: "tcp", host: "10.0.0.1", port: 80, count: 3 }));
const refusedUdp = tally(await c({ op: "udp", host: "10.0.0.1", port: 53, count: 1 }));
const explained = lb1.explain().find((one) => one.service === "web");
lb1.apply(whole, [status("apps", "b1", "up"), status("apps", "b2", "down"), status("apps", "b3", "down")]);
await lb1.settled();
const back = tally(await c({ op: "tcp", host: "10.0.0.1", port: 80, count: 20 }));
lb1.apply(whole, []);
await lb1.settled();

// Others flush: the owned table stays, and with it every stream.
const alive = tally(await c({ op: "say" }));
const flush = spawnSync("nft", ["flush", "ruleset"], { encoding: "utf8" });
const remove = spawnSync("nft", ["delete", "table", "ip", "nines"], { encoding: "utf8" });
await sleep(700);
const flushed = sh("nft list tables");
const stillAlive = tally(await c({ op: "say" }));
const traffic = await lb1.traffic();

// The next process adopts what the one before left and changes nothing. While nobody owns the tables, others can.
await lb1.stop(false);
/** Without what counts and without the owner. */
const listing = (): string =>
  sh("nft list ruleset")
    .replaceAll(/packets \d+ bytes \d+/g, "")
    .replaceAll(/\n\tflags [^\n]*| # progname node/g, "");
const idle = listing();
const meanwhile = tally(await c({ op: "say" }));
const next = await Forwarder.open({ clock, log, node: "lb1" });
next.apply(whole, []);
await next.settled();
const adopted = listing();
const events = next.counters();
const adoptedProblem = next.problem();
await next.stop(true);
const left = sh("nft list ruleset");
finish({
  problem,
  spread,
  sticky,
  six: tally(six),
  sixClient: six[0]?.split(" ")[1],
  udp: tally(udp),
  udpClient: udp[0]?.split(" ")[1],
  range: [...new Set(range)].sort(),
  own,
  fromNode,
  hairpin: [...new Set(hairpin.map((one) => one.split(" ")[1]))],
  hairpinAnswers: hairpin.filter((one) => one.startsWith("b")).length,
  drained,
  same: before.join() === after.join() && !before.includes("timeout"),
  onDrained: before.filter((one) => one.startsWith("b1")).length,
  dead,
  refused,
  refusedUdp,
  explained,
  back,
  alive,
  flushStatus: [flush.status, remove.stderr.includes("not permitted")],
  flushed,
  stillAlive,
  traffic,
  meanwhile,
  unchanged: idle === adopted,
  events,
  adoptedProblem,
  left,
  logged: logged.map((one) => one.event).filter((one) => one !== "forwarding.connections_cut"),
});
