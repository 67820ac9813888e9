/** Schedulers, backup backends, limits per client. */
import { seconds } from "../../base/time.ts";
import { finish, sh, sleep } from "../../linux/nftables/testing/namespace.ts";
import { Forwarder } from "../service.ts";
import { client, clock, log, logged, makeWorld, site, status, tally } from "./world.ts";

await makeWorld();
const c = client("c");
const forward = (more: object) => ({ pool: "apps", ...more });
const on = "edge";
const whole = site({
  pools: {
    apps: {
      backends: {
        b1: { address: "10.2.0.11:8080", weight: 2 },
        b2: "10.2.0.12:8080",
        b3: { address: "10.2.0.13:8080", backup: true },
      },
    },
    two: { backends: { b1: "10.2.0.11:8080", b2: "10.2.0.12:8080" } },
    young: { slowStart: "10m", backends: { b1: "10.2.0.11:8080", b2: "10.2.0.12:8080" } },
    apps6: { backends: { b1: "[fd02::11]:8080" } },
  },
  services: {
    source: { on, listen: "10.0.0.1:81/tcp", forward: forward({ scheduler: "source" }) },
    smooth: { on, listen: "10.0.0.1:82/tcp", forward: forward({ scheduler: "smooth" }) },
    least: { on, listen: "10.0.0.1:83/tcp", forward: forward({ scheduler: "least-connections" }) },
    few: { on, listen: "10.0.0.1:84/tcp", forward: forward({ limits: { sourceConnections: 5 } }) },
    full: { on, listen: "10.0.0.1:86/tcp", forward: forward({ limits: { backendConnections: 4 } }) },
    full6: { on, listen: "[fd00::1]:86/tcp", forward: { pool: "apps6", limits: { backendConnections: 3 } } },
    fewest: { on, listen: "10.0.0.1:87/tcp", forward: { pool: "two", scheduler: "least-connections" } },
    young: { on, listen: "10.0.0.1:88/tcp", forward: { pool: "young", scheduler: "smooth" } },
    slow: { on, listen: "10.0.0.1:85/tcp", forward: forward({ limits: { sourceRate: 2, sourceBurst: 3 } }) },
  },
});
const lb1 = await Forwarder.open({ clock, log, node: "lb1" });
lb1.apply(whole, []);
await lb1.settled();
const ask = async (port: number, count: number) =>
  tally(await c({ op: "tcp", host: "10.0.0.1", port, count }));
const source = await ask(81, 20);
const smooth = await ask(82, 30);
await c({ op: "open", host: "10.0.0.1", port: 84, count: 8 });
const few = tally(await c({ op: "say" }));
// Those that are open now are told apart from those of the service before: `say` asks all.
const fuller = client("c");
await fuller({ op: "open", host: "10.0.0.1", port: 86, count: 30 });
const full = tally(await fuller({ op: "say" }));
const fuller6 = client("c");
await fuller6({ op: "open", host: "fd00::1", port: 86, count: 10 });
const full6 = tally(await fuller6({ op: "say" }));
const slow = await ask(85, 12);
const least = await ask(83, 30);
// Twelve connections are at b1 when b2 comes back: what comes now goes to where there are fewest.
lb1.apply(whole, [status("two", "b2", "up", "drain")]);
await lb1.settled();
const holder = client("c");
await holder({ op: "open", host: "10.0.0.1", port: 87, count: 12 });
const held = tally(await holder({ op: "say" }));
lb1.apply(whole, [status("two", "b2", "up")]);
await lb1.settled();
for (
  let i = 0;
  i < 100 && (lb1.explain().find((one) => one.service === "fewest")?.backends[1]?.share ?? 0) < 0.6;
  i++
)
  await sleep(50);
const fewest = await ask(87, 12);
// b2 has just come up: a tenth of its weight.
lb1.apply(whole, [status("young", "b1", "up"), { ...status("young", "b2", "up"), back: seconds(0) }]);
await lb1.settled();
const young = await ask(88, 22);
// However many changes within a tick: one transaction.
const { transactions: before = 0 } = lb1.counters();
for (const health of ["down", "up", "down"] as const) lb1.apply(whole, [status("apps", "b1", health)]);
await lb1.settled();
const { transactions: after = 0 } = lb1.counters();
lb1.apply(whole, [status("apps", "b1", "down"), status("apps", "b2", "down")]);
await lb1.settled();
const backup = await ask(82, 10);
const reasons = lb1
  .explain()
  .find((one) => one.service === "smooth")
  ?.backends.map((one) => one.reason);
// Limits that change count anew for a client that is there already, and for a backend.
const limited = (count: number) =>
  site({
    pools: { one: { backends: { b1: "10.2.0.11:8080" } } },
    services: {
      client: {
        on,
        listen: "10.0.0.1:90/tcp",
        forward: { pool: "one", limits: { sourceConnections: count } },
      },
      backend: {
        on,
        listen: "10.0.0.1:91/tcp",
        forward: { pool: "one", limits: { backendConnections: count } },
      },
    },
  });
const changed: number[][] = [];
for (const count of [4, 8, 2]) {
  lb1.apply(limited(count), []);
  await lb1.settled();
  const open: number[] = [];
  for (const port of [90, 91]) {
    const one = client("c");
    await one({ op: "open", host: "10.0.0.1", port, count: 12 });
    open.push(tally(await one({ op: "say" }))["b1"] ?? 0);
  }
  changed.push(open);
}
// In turn over a range whose ports only one of two backends keeps.
lb1.apply(
  site({
    pools: { mixed: { backends: { b1: "10.2.0.11:5000", b2: "10.2.0.12:8080" } } },
    services: {
      range: { on, listen: "10.0.0.1:5000-5009/tcp", forward: { pool: "mixed", scheduler: "smooth" } },
    },
  }),
  [],
);
await lb1.settled();
const mixed = await ask(5002, 40);
const listed = sh("nft -j list ruleset").length > 1000;
const problem = lb1.problem();
await lb1.stop(true);
finish({
  source,
  smooth,
  few,
  full,
  full6,
  slow,
  least,
  held,
  fewest,
  young,
  transactions: after - before,
  backup,
  reasons,
  changed,
  mixed,
  listed,
  problem,
  logged: logged.map((one) => one.event),
});
