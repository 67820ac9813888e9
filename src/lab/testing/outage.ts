/**
 * Process 1 of a lab without any subject: the client probes a backend directly while we cut the wire for a
 * known time. Prints what was made and what was measured, as one line of JSON.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { siteSchema } from "../../config/schema/site.ts";
import { hostClock } from "../host-clock.ts";
import { Lab } from "../lab.ts";
import { settleIn } from "../outer.ts";
import { summarise } from "../policy.ts";
import type { StreamSpec } from "../probe/stream.ts";
import { Probers } from "../probers.ts";

const site = siteSchema.parse({
  site: "outage",
  nodes: {},
  pools: { apps: { backends: { app1: "10.0.0.11:8080" } } },
  lab: { networks: { front: "10.0.0.0/24" } },
});

const common = { address: "10.0.0.11", port: 8080, interval: 10, deadline: 200, backends: ["app1"] };
const streams: StreamSpec[] = [
  { ...common, stream: "connect", kind: "connect", connections: 1 },
  { ...common, stream: "http", kind: "http", connections: 4 },
  { ...common, stream: "udp", kind: "udp", connections: 4 },
  { ...common, stream: "client-first", kind: "established-client-first", connections: 10 },
  { ...common, stream: "server-first", kind: "established-server-first", connections: 10 },
  { ...common, stream: "elsewhere", kind: "connect", connections: 1, backends: ["app2"] },
  { ...common, stream: "closed", kind: "connect", connections: 1, port: 81 },
];

await settleIn();
const lab = new Lab(site, "outage");
await lab.up();
const probers = new Probers(lab.client, false);
await probers.begin(streams);
await sleep(500);
const cut = ['iifname "client-eth0" drop'];
await lab.cables.set("outage", cut);
const from = hostClock.monotonic();
await sleep(Number(process.argv[2] ?? 400));
const to = hostClock.monotonic();
await lab.cables.clear("outage");
await sleep(1500);
// A reset in the middle must not end the prober.
lab.stopBackend("app1");
await sleep(150);
await lab.startBackend("app1");
await sleep(300);
const { lag, kept } = await probers.end();
const outcomes = streams.map(({ stream, kind }) =>
  summarise(stream, kind, probers.observations.get(stream) ?? [], from, kept.get(stream)),
);
console.log(JSON.stringify({ made: to - from, lag, outcomes }));
process.exit(0);
