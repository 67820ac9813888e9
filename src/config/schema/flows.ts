import { z } from "zod";
import { ms } from "../../base/time.ts";
import { durationBetween, port } from "./common.ts";

/** Replication of connections between the nodes: present means on, for every forwarded service. */
export const flowsSchema = z.strictObject({
  keys: z
    .string()
    .min(1)
    .describe(
      "Directory with ca.crt, NODE.crt and NODE.key, as `nines keys` makes them; relative to the site file.",
    ),
  port: port().default(7411).describe("TCP port of the nodes' own addresses on which they meet."),
  delay: durationBetween(ms(0), ms(1000), "0ms to 1s")
    .prefault("5ms")
    .describe(
      "How long a change may wait for others to travel with it, where one went less than so long ago: less bandwidth, a larger loss at a crash.",
    ),
  handover: durationBetween(ms(0), ms(10_000), "0ms to 10s")
    .prefault("2s")
    .describe(
      "How long a planned hand-over, or giving way after a partition, waits until the other node has acknowledged every connection. The node serves on meanwhile; afterwards it goes on without.",
    ),
  takeover: z
    .strictObject({
      wait: durationBetween(ms(0), ms(10_000), "0ms to 10s")
        .prefault("1s")
        .describe("How long the addresses stay closed while connections are still arriving."),
      otherwise: z
        .enum(["promote", "wait"])
        .default("promote")
        .describe("Then: promote without those that are missing, or wait as long as they arrive."),
    })
    .prefault({})
    .describe("Taking over while the other nodes' connections are not all here yet."),
});
