/** Somebody flushes the ruleset while no process owns the forwarder's tables, with a pin (argument) or without. */
import { ConnectionPin } from "../../linux/nftables/pin.ts";
import { finish, sh, sleep } from "../../linux/nftables/testing/namespace.ts";
import { Forwarder } from "../service.ts";
import { client, clock, log, makeWorld, site, tally } from "./world.ts";

await makeWorld();
const c = client("c");
const on = "edge";
const whole = site({ services: { web: { on, listen: "10.0.0.1:80/tcp", forward: { pool: "apps" } } } });
const problems: string[] = [];
// In a node the redundancy process holds it: any other socket than the forwarder's.
const pin =
  process.argv[2] === "pinned" ? ConnectionPin.open(clock, "nines", (one) => problems.push(one)) : undefined;
const first = await Forwarder.open({ clock, log, node: "lb1" });
first.apply(whole, []);
await first.settled();
await c({ op: "open", host: "10.0.0.1", port: 80, count: 30 });
const before = tally(await c({ op: "say" }));
await first.stop(false);
if (pin) for (let i = 0; i < 200 && !sh("nft list tables").includes("nines-pin"); i++) await sleep(50);
const left = sh("nft list tables");
sh("nft flush ruleset");
const flushed = sh("nft list tables");
const meanwhile = tally(await c({ op: "say" }));
const second = await Forwarder.open({ clock, log, node: "lb1" });
second.apply(whole, []);
await second.settled();
const after = tally(await c({ op: "say" }));
const fresh = tally(await c({ op: "tcp", host: "10.0.0.1", port: 80, count: 10 }));
problems.push(second.problem());
await second.stop(true);
pin?.close();
const end = sh("nft list ruleset");
finish({ before, left, flushed, meanwhile, after, fresh, problems, end });
