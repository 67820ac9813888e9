/** A timeout longer than the default, for busy test machines. The fence and the gate with real ARP, neighbour discovery and TCP between two namespaces. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { ip } from "../../../base/addresses.ts";
import { SystemClock } from "../../../base/system-clock.ts";
import { ms, timeSince } from "../../../base/time.ts";
import { Conntrack } from "../../conntrack.ts";
import { NftFence } from "../fence.ts";
import { attach, finish, sh, sleep } from "./namespace.ts";

const V4 = ip("10.0.0.1");
const V6 = ip("fd00::1");
const both = [V4, V6];
attach("client", "10.0.0.2/24", "10.0.0.9/24");
attach("client", "fd00::2/64", "fd00::9/64");
sh("ip addr add 10.0.0.1/32 dev v-client");
sh("ip addr add fd00::1/128 dev v-client nodad");

/** Whether an address answers from a cold neighbour cache: a closed port refuses, silence lasts 700 ms. */
function answers(address: string): boolean {
  sh("ip -n client neigh flush all");
  const probe = ["netns", "exec", "client", "timeout", "0.7", "bash", "-c", `: < /dev/tcp/${address}/9`];
  return spawnSync("ip", probe, { encoding: "utf8" }).stderr.includes("refused");
}
function resolves(address: string): boolean {
  answers(address);
  return /lladdr/.test(sh(`ip -n client neigh show ${address}`));
}

const errors: string[] = [];
const clock = new SystemClock();
const make = () => new NftFence({ clock, timeout: ms(1500), onError: (error) => errors.push(error.message) });
const fence = make();
const before = [answers(V4), answers(V6)];
await fence.install(both, false);
const closed = [resolves(V4), resolves(V6)];
const othersAnswer = resolves("10.0.0.2");
fence.renew(both, both);
const open = [answers(V4), answers(V6)];
function gated(probe: (address: string) => boolean, address: string): boolean {
  fence.renew(both, []);
  return probe(address);
}
await sleep(1600);
const gateClosed = [gated(answers, V4), gated(resolves, V4)];
const gateClosed6 = [gated(answers, V6), gated(resolves, V6)];
fence.renew(both, both);
fence.closeGate(both);
const gateCut = [answers(V4), gated(resolves, V4)];
fence.renew(both, both);
fence.close(both);
const afterClose = [resolves(V4), resolves(V6)];
fence.renew(both, both);
await sleep(1600);
const expired = [resolves(V4), resolves(V6)];
// Another process adopts what a dead one left behind; a living one's tables it may not touch.
const second = make();
const conflict = await second.install(both, false).then(
  () => "installed",
  (error: { code: string }) => error.code,
);
fence.dispose();
await second.install([V4], false);
second.renew([V4], [V4]);
const adopted = [answers(V4), answers(V6)];

/** How long a packet of a connection that is not known any more is kept away, in ms; and whether new ones are. */
async function settles(address: typeof V4): Promise<{ late: boolean; lives: boolean; opens: boolean }> {
  const server = createServer().listen(7777, address);
  await once(server, "listening");
  const client = spawn(
    "ip",
    [
      "netns",
      "exec",
      "client",
      "bash",
      "-c",
      `exec 3<>/dev/tcp/${address}/7777; read -r; echo hi >&3; sleep 5`,
    ],
    { stdio: ["pipe", "ignore", "ignore"] },
  );
  const [socket] = (await once(server, "connection")) as [import("node:net").Socket];
  const table = Conntrack.open(clock);
  await table.delete(await table.list());
  table.close();
  second.settle([address], ms(700));
  const said = clock.monotonic();
  client.stdin.write("\n");
  const heard = await Promise.race([
    once(socket, "data").then(() => timeSince(clock.monotonic(), said)),
    sleep(4000),
  ]);
  second.settle([address], ms(2000));
  const opens = answers(address);
  client.kill("SIGKILL");
  socket.destroy();
  server.close();
  return { late: (heard ?? 0) >= 690, lives: heard !== undefined, opens };
}
await second.install(both, true);
second.renew(both, both, ms(60_000));
const settling = [await settles(V4), await settles(V6)];
await second.install([V4], true);
const flushed = sh("nft flush ruleset") + sh("nft list tables");
const listed = sh("nft -j list ruleset");
await second.uninstall();
second.dispose();
finish({
  before,
  closed,
  othersAnswer,
  open,
  gateClosed,
  gateClosed6,
  gateCut,
  afterClose,
  expired,
  conflict,
  adopted,
  settling,
  survivesFlush: flushed.includes("nines-fence"),
  listed: listed.includes("fenced"),
  left: sh("nft list ruleset"),
  errors,
});
