/** The forwarder among others: another node, foreign marks and policies, lost tables, dead UDP backends, kill. */
import { Conntrack } from "../../linux/conntrack.ts";
import { finish, sh, sleep } from "../../linux/nftables/testing/namespace.ts";
import { Forwarder } from "../service.ts";
import { client, clock, log, logged, makeWorld, site, status, tally } from "./world.ts";

await makeWorld();
const c = client("c");
const services = {
  web: { on: "edge", listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } },
  dns: { on: "edge", listen: "10.0.0.1:53/udp", forward: { pool: "apps" } },
  masked: { on: "edge", listen: "10.0.0.1:81/tcp", forward: { pool: "apps", masquerade: "10.2.0.1" } },
};
const ports = Array.from({ length: 30 }, (_, i) => 41000 + i);
const choices = async (): Promise<string[]> => {
  const replies: string[] = [];
  for (const localPort of ports)
    replies.push(...(await c({ op: "tcp", host: "10.0.0.1", port: 80, localPort })));
  return replies;
};
const whole = site({ services });
const open = (node: string, ownTables = true) => Forwarder.open({ clock, log, node, ownTables });

// The other node, with its pools and services in another order, chooses alike.
const lb2 = await open("lb2");
const { apps } = whole.pools;
const turned = {
  ...whole,
  services: Object.fromEntries(Object.entries(whole.services).toReversed()),
  pools: apps
    ? { apps: { ...apps, backends: Object.fromEntries(Object.entries(apps.backends).toReversed()) } }
    : {},
};
lb2.apply(turned, []);
await lb2.settled();
const other = await choices();
const conntrack = Conntrack.open(clock);
/** Of the ports that a node's masquerade took: the lower or the upper half of 1024 to 65535. */
const shares: string[] = [];
async function share(node: string): Promise<void> {
  await client("c")({ op: "open", host: "10.0.0.1", port: 81, count: 20 });
  const taken = (await conntrack.list()).filter((flow) => flow.original.destinationPort === 81);
  const halves = new Set(taken.map((flow) => (flow.reply.destinationPort < 33_280 ? "lower" : "upper")));
  for (const half of halves) shares.push(`${node} ${half}`);
  await conntrack.delete(taken);
}
await share("lb2");
await lb2.stop(true);

// Others' marks, and routing by mark as transparent proxies have it.
sh("ip rule add fwmark 1 lookup 100");
sh("ip rule add fwmark 2 lookup 100");
sh("ip route add local default dev lo table 100");
sh("nft add table ip foreign");
sh("nft add chain ip foreign pre { type filter hook prerouting priority -150 ; }");
sh("nft add rule ip foreign pre meta mark set 0x70");
sh("nft add rule ip foreign pre ct mark 0 ct mark set 0x00abc000");
const lb1 = await open("lb1");
lb1.apply(whole, []);
await lb1.settled();
const mine = await choices();
await share("lb1");
await c({ op: "open", host: "10.0.0.1", port: 80, count: 20 });
const marks = (await conntrack.list()).filter((flow) => flow.protocol === 6 && flow.tcpState === 3);
const foreignBits = [...new Set(marks.map((flow) => flow.mark & 0x00fff000))];
const ownBits = [...new Set(marks.map((flow) => (flow.mark & 0xff000000) >>> 0))];
sh("nft delete table ip foreign");
const masked = await c({ op: "tcp", host: "10.0.0.1", port: 81, count: 5 });

// The connection table is lost: client-first streams go on where they were.
const before = await c({ op: "say" });
await conntrack.delete(await conntrack.list());
const after = await c({ op: "say" });

// A client with a fixed port leaves a dead UDP backend; kill ends streams.
const udp = async () =>
  (await c({ op: "udp", host: "10.0.0.1", port: 53, localPort: 42000 }))[0]?.split(" ")[0] ?? "";
const first = await udp();
lb1.apply(whole, [status("apps", first, "down")]);
await lb1.settled();
const second = await udp();
lb1.apply(
  whole,
  ["b1", "b2", "b3"].map((one) => status("apps", one, "up")),
);
await lb1.settled();
const onB1 = after.filter((one) => one.startsWith("b1")).length;
lb1.apply(whole, [status("apps", "b1", "up", "maintenance")]);
await lb1.settled();
const killed = await lb1.kill("apps", "b1");
const afterKill = tally(await c({ op: "say" }));
conntrack.close();
await lb1.stop(true);

// Without owners, what others delete comes back.
const plain = await open("lb1", false);
plain.apply(whole, []);
await plain.settled();
sh("nft delete table ip nines");
await sleep(900);
const repaired = tally(await c({ op: "tcp", host: "10.0.0.1", port: 80, count: 10 }));
sh("nft flush chain ip nines prerouting");
sh("sysctl -qw net.ipv4.ip_forward=0");
await sleep(900);
const repairedChain = tally(await c({ op: "tcp", host: "10.0.0.1", port: 80, count: 10 }));
const repairs = plain.counters()["repairs"];
const metrics = (await plain.metrics()).map((one) => one.name);
await plain.stop(true);
finish({
  chooses: other.length === 30 && other.join() === mine.join() && new Set(other).size > 1,
  foreignBits,
  ownBits,
  masked: [...new Set(masked.map((one) => one.split(" ")[1]))],
  shares: shares.sort(),
  survived: before.join() === after.join() && !before.includes("timeout") && before.length === 20,
  udpMoved: first !== second && /^b\d$/.test(first) && /^b\d$/.test(second),
  killed: onB1 > 0 && killed >= onB1 && afterKill["closed"] === onB1,
  repaired,
  repairedChain,
  repairs,
  metrics: [...new Set(metrics)].sort(),
  left: sh("nft list ruleset"),
  problems: logged.filter((one) => /refused|unavailable/.test(one.event)),
});
