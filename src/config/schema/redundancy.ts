import { z } from "zod";
import { ipFamily } from "../../base/addresses.ts";
import { ms, seconds } from "../../base/time.ts";
import { command, duration, durationBetween, ipAddress, nameOf, virtualAddress } from "./common.ts";

const effect = {
  lower: z
    .int()
    .min(1)
    .max(254)
    .optional()
    .describe("Lower the priority by this much while it fails; without it a failure faults the router."),
};

export const trackSchema = z.union([
  z.strictObject({
    interface: z.string().min(1).describe("Fails while the link is down or missing."),
    ...effect,
  }),
  z.strictObject({
    gateway: z
      .array(ipAddress())
      .min(1)
      .describe("Answers to ARP or ND are awaited from these; fails when none answers."),
    interval: duration().prefault("1s"),
    timeout: duration().prefault("500ms"),
    fall: z.int().min(1).default(3),
    rise: z.int().min(1).default(2),
    ...effect,
  }),
  z.strictObject({
    pool: nameOf("pools").describe("Fails while the pool has fewer healthy backends than `atLeast`."),
    atLeast: z.int().min(1).default(1),
    ...effect,
  }),
  z.strictObject({
    process: z.string().min(1).describe("Fails while no local process has this name."),
    ...effect,
  }),
  z.strictObject({
    script: command().describe("Fails while the program exits other than 0 or passes its deadline."),
    interval: duration().prefault("1s"),
    timeout: duration().prefault("1s"),
    fall: z.int().min(1).default(2),
    rise: z.int().min(1).default(2),
    ...effect,
  }),
]);

const memberAddress = z.union([
  virtualAddress(),
  z.strictObject({
    address: virtualAddress(),
    interface: z.string().optional().describe("Install on another interface than the member's."),
    advertise: z.boolean().default(true).describe("false keeps the address out of the advertisement."),
  }),
]);

export const memberSchema = z.strictObject({
  interface: z
    .union([z.string().min(1), z.record(nameOf("nodes"), z.string().min(1))])
    .describe("The interface, or one per node where they differ."),
  vrid: z
    .int()
    .min(1)
    .max(255)
    .describe("Virtual router id; the same on all nodes, unique on its link per family."),
  addresses: z
    .array(memberAddress)
    .min(1)
    .describe("The virtual addresses, without a prefix length; IPv4 and IPv6 may mix."),
  peers: z
    .record(nameOf("nodes"), z.array(ipAddress()).min(1))
    .optional()
    .describe("For transport unicast: the addresses of each node on this link; default: the node's address."),
});

const routerFields = z.strictObject({
  protocol: z.literal("vrrp").default("vrrp"),
  version: z
    .union([z.literal(2), z.literal(3)])
    .default(3)
    .describe("VRRP version: 3 (RFC 9568) or 2 (RFC 3768, IPv4 and whole seconds only)."),
  priorities: z
    .record(nameOf("nodes"), z.int().min(1).max(255))
    .describe("Priority per node; 255 is the address owner."),
  interval: durationBetween(ms(10), ms(40950), "10ms to 40950ms")
    .prefault("1s")
    .describe("Advertisement interval."),
  preempt: z
    .union([z.boolean(), z.strictObject({ delay: duration() })])
    .default(false)
    .describe("Whether a node with a higher priority takes the addresses back, and after which delay."),
  startDelay: duration().prefault("0s").describe("How long a starting node stays out of the election."),
  transport: z.enum(["multicast", "unicast"]).default("multicast"),
  minHopLimit: z
    .int()
    .min(1)
    .max(255)
    .default(255)
    .describe(
      "Unicast only: drop packets that arrive with a lower TTL or hop limit. 255 accepts nobody beyond the link; lower it by one for every router between the nodes. keepalived sends unicast over IPv6 with 64 unless its unicast_ttl says 255.",
    ),
  checksum: z
    .enum(["auto", "rfc", "pseudo-header"])
    .default("auto")
    .describe("VRRPv3 over IPv4 only: auto sends per RFC 9568 and accepts both forms."),
  password: z
    .string()
    .regex(/^[\x21-\x7e]{1,8}$/, "1 to 8 printable ASCII characters")
    .optional()
    .describe(
      "Version 2 only: the simple text password of RFC 2338, for old peers that demand one. Anyone on the link reads it: it is no secret and protects nothing.",
    ),
  virtualMac: z.boolean().default(false).describe("Use the protocol's MAC address on a macvlan."),
  lease: durationBetween(seconds(1), seconds(60), "1s to 60s")
    .optional()
    .describe(
      "Lifetime of an installed address; the kernel removes it when nobody renews it. Default: ActiveDownInterval and a second for a restart, in whole seconds.",
    ),
  fence: z
    .boolean()
    .default(true)
    .describe("Let the kernel answer ARP and neighbour requests only while this process is alive."),
  announce: z
    .strictObject({
      count: z.int().min(1).max(20).default(5).describe("Announcements in a burst."),
      interval: duration().prefault("20ms").describe("Between the announcements of a burst."),
      again: duration().prefault("5s").describe("A second burst, this long after a takeover."),
      refresh: duration().prefault("60s").describe("One announcement this often while Active; 0s for none."),
    })
    .prefault({}),
  track: z.array(trackSchema).default([]),
  hooks: z
    .strictObject({
      active: command().optional(),
      backup: command().optional(),
      fault: command().optional(),
      timeout: duration().prefault("10s"),
    })
    .prefault({})
    .describe("Programs run after a change; never awaited. JSON on stdin: router, state, previous, reason."),
  members: z.array(memberSchema).min(1).describe("Links that move together: one faults, all move."),
});

export const virtualRouterSchema = routerFields.superRefine((router, context) => {
  const wrong = (path: string[], message: string): void =>
    context.addIssue({ code: "custom", path, message });
  if (router.minHopLimit < 255 && router.transport === "multicast")
    wrong(["minHopLimit"], "multicast never leaves the link: remove it or use transport: unicast");
  if (router.version === 3) {
    if (router.password !== undefined)
      wrong(["password"], "version 3 has no password (RFC 9568, 9); remove it or use version 2");
    if (router.interval % 10 !== 0)
      wrong(["interval"], "version 3 counts in whole centiseconds: use a multiple of 10ms");
    return;
  }
  if (router.interval % 1000 !== 0 || router.interval > 255_000)
    wrong(["interval"], "version 2 counts in whole seconds, 1s to 255s: use 1s or more, or version 3");
  router.members.forEach((member, i) =>
    member.addresses.forEach((entry, j) => {
      const address = typeof entry === "string" ? entry : entry.address;
      if (ipFamily(address) === 6)
        wrong(
          ["members", String(i), "addresses", String(j)],
          `version 2 knows IPv4 only, found ${address}: use version 3`,
        );
    }),
  );
});
