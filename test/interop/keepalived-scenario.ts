/**
 * nines and keepalived on one LAN, in both roles, for one way of talking (first argument). Hands over how
 * long everything took; undefined where it did not happen.
 */
import { finish } from "../../src/linux/nftables/testing/namespace.ts";
import {
  Capture,
  Keepalived,
  Nines,
  type RouterInput,
  addressesOf,
  has,
  isolate,
  linkLocal,
  makeLan,
  now,
  planOf,
  sleep,
  until,
} from "./harness.ts";

export interface Way {
  readonly version: 2 | 3;
  readonly family: 4 | 6;
  readonly transport: "multicast" | "unicast";
}

const way = JSON.parse(process.argv[2] ?? "") as Way;
const { version, family, transport } = way;
const seconds = version === 2 ? 1 : 0.1;
const interval = version === 2 ? "1s" : "100ms";
const address = family === 4 ? "10.0.0.100" : "fd00::100";
const peer = (n: number): string => (family === 4 ? `10.0.0.${n}` : linkLocal(n));

makeLan("lan", { ka: 130, lb: 20, high: 200 });
const hosts = { lb: 20, high: 200 };
const nodes = { lb: { address: "10.0.0.20" }, other: { address: "10.0.0.130" } };
const router = (change: Partial<RouterInput> = {}): RouterInput => ({
  version,
  interval,
  priorities: { lb: 100 },
  transport,
  members: [
    {
      interface: "eth0",
      vrid: 51,
      addresses: [...(family === 6 ? ["fe80::51"] : []), address],
      peers: { lb: [peer(20)], other: [peer(130)] },
    },
  ],
  ...change,
});
/** keepalived is no node of the site; for unicast its address is named as one that has no part in nodes' messages. */
function plan(change: Partial<RouterInput> = {}, host: keyof typeof hosts = "lb") {
  const members = router().members.map((m) => ({
    ...m,
    peers: { lb: [peer(hosts[host])], other: [peer(130)] },
  }));
  const message = planOf(
    nodes,
    "lb",
    router({ members, ...change, priorities: { ...change.priorities, other: 1 } }),
  );
  if (message.type !== "plan") throw new Error("no plan");
  const routers = message.plan.routers.map((r) => ({ ...r, nodes: r.nodes.filter((n) => n.node === "lb") }));
  return { ...message, plan: { ...message.plan, routers } };
}
const keepalived = (priority: number, more = "", other = 20): Keepalived =>
  new Keepalived(
    "ka",
    [
      `virtual_router_id 51`,
      `version ${version}`,
      `priority ${priority}`,
      `advert_int ${seconds}`,
      transport === "unicast"
        ? `unicast_ttl 255\nunicast_src_ip ${peer(130)}\nunicast_peer {\n${peer(other)}\n}`
        : "",
      more,
      `virtual_ipaddress {\n${family === 6 ? "fe80::51/64\n" : ""}${address}/${family === 4 ? 32 : 128}\n}`,
    ].join("\n"),
  );

const capture = new Capture("lan");
await sleep(300);
const lb = new Nines("lb");

// keepalived Active, nines Backup: death, and the return of the higher priority.
const first = keepalived(110);
const firstMaster = await first.is("MASTER");
lb.send(plan({ priorities: { lb: 100 } }));
const backup = await lb.is("backup");
await sleep(5 * 1000 * seconds);
const respected = lb.state() === "backup";
await first.end("SIGKILL");
const takeover = await lb.is("active");
const installed = addressesOf("lb").find(({ local }) => local === address);
const second = keepalived(110);
const yielded = await lb.is("backup", 12_000);
await second.is("MASTER");
const removed = !has("lb", address);
// Priority 0.
await second.end("SIGTERM");
const afterRelease = await lb.is("active");

// The other role: keepalived Backup, nines releases, then dies.
const third = keepalived(90);
await third.is("BACKUP");
await sleep(5 * 1000 * seconds);
const respectedByKeepalived = third.state === "BACKUP";
await lb.stop();
const keepalivedAfterRelease = await third.is("MASTER");

// Preemption by nines.
const again = new Nines("lb");
again.send(plan({ priorities: { lb: 120 }, preempt: true }));
const preempts = await again.is("active", 12_000);
const keepalivedGaveWay = await third.is("BACKUP");
again.signal("SIGKILL");
const keepalivedAfterDeath = await third.is("MASTER", 12_000);
await third.end("SIGTERM");

// A tie: both Active while nothing passes between them. keepalived's address is above lb's, below high's.
const tie = async (host: "lb" | "high", number: number): Promise<[Nines, Keepalived]> => {
  isolate("lan", [number, 130], true);
  const node = new Nines(host);
  node.send(plan({ priorities: { lb: 100 } }, host));
  const other = keepalived(100, "", number);
  await Promise.all([node.is("active", 12_000), other.is("MASTER", 12_000)]);
  isolate("lan", [number, 130], false);
  return [node, other];
};
const [low, above] = await tie("lb", 20);
const tieLost = await low.is("backup");
await above.end("SIGTERM");
await low.stop();
const [high, below] = await tie("high", 200);
const tieWon = await below.is("BACKUP");
const wonStays = high.state() === "active";
const answered = await until(() => (high.router()?.counters["lower_priority_answered"] ?? 0) > 0, 3000);
await below.end("SIGTERM");
await high.stop();

// Its interval is learned (version 3): the Active advertises each 500 ms, this node each 100 ms.
let learned: number | undefined;
let respectedSlow = true;
let slowMaster: number | undefined;
if (version === 3) {
  const slow = keepalived(110, "advert_int 0.5");
  slowMaster = await slow.is("MASTER");
  const learner = new Nines("lb");
  learner.send(plan({ priorities: { lb: 100 } }));
  await learner.is("backup");
  // It starts by its own 361 ms and may even take over once; from the first advertisement on it waits.
  let since = now();
  respectedSlow =
    (await until(() => {
      if (learner.state() !== "backup" || slow.state !== "MASTER") since = now();
      return now() - since > 1500;
    }, 10_000)) !== undefined;
  await slow.end("SIGKILL");
  learned = await learner.is("active");
  await learner.stop();
}
await capture.stop();

const ours = family === 4 ? "vrrp && ip.src == 10.0.0.20" : `vrrp && ipv6.src == ${linkLocal(20)}`;
finish({
  firstMaster,
  backup,
  respected,
  takeover,
  installed,
  yielded,
  removed,
  afterRelease,
  respectedByKeepalived,
  keepalivedAfterRelease,
  preempts,
  keepalivedGaveWay,
  keepalivedAfterDeath,
  tieLost,
  tieWon,
  wonStays,
  answered,
  slowMaster,
  respectedSlow,
  learned,
  packets: capture.count("vrrp"),
  own: capture.count(ours),
  malformed: capture.count(`${ours} && _ws.malformed`),
  badChecksum: capture.count(`${ours} && vrrp.checksum.status == 0`),
  complaints: capture.count(`${ours} && _ws.expert.severity >= 0x600000 && !(vrrp.checksum.status == 0)`),
  counters: again.router()?.counters,
  noise: lb.noise + again.noise + low.noise + high.noise,
});
