import { z } from "zod";
import { duration, ipAddress, ipPrefix, name, nameOf } from "./common.ts";

/** Every drill that `nines drill` knows, in the order in which it runs them. */
export const DRILL_NAMES = [
  "switchover",
  "failback",
  "kill-all",
  "power-cut",
  "link-down-front",
  "link-down-back",
  "link-flap",
  "hang",
  "adverts-one-way",
  "partition",
  "backend-killed",
  "brain-killed",
  "both-brains-killed",
  "redundancy-killed",
  "proxy-killed",
  "proxy-cut",
  "flows-killed",
  "rolling-upgrade",
  "node-drained",
  "backend-changed",
  "address-deleted",
  "ruleset-flushed",
  "foreign-mark",
  "forward-drop",
  "hung-resolver",
  "starvation",
] as const;

const interfaceName = () => z.string().regex(/^[a-zA-Z][a-zA-Z0-9._-]{0,14}$/, "an interface name");

const attachment = z.strictObject({
  network: name().describe("The network of the lab that the interface is plugged into."),
  addresses: z.array(ipAddress()).default([]).describe("Own addresses; default: the next free ones."),
});

export const labSchema = z
  .strictObject({
    networks: z
      .record(name(), z.union([ipPrefix().transform((one) => [one]), z.array(ipPrefix()).min(1)]))
      .describe("A bridge each, with its prefixes: `front: 10.0.0.0/24`."),
    nodes: z
      .record(nameOf("nodes"), z.record(interfaceName(), attachment))
      .default({})
      .describe("Interfaces of nodes that no virtual router names, or that need certain addresses."),
    clients: z
      .record(name(), attachment.partial())
      .default({ client: {} })
      .describe("Hosts from which the prober works; default: one on the network of the first service."),
  })
  .describe("How the site is built from namespaces on one machine; `nines run` ignores it.");

export const budgetSchema = z.strictObject({
  gap: duration().optional().describe("Longest time from a first failed to a first good new connection."),
  lost: z.int().min(0).optional().describe("Failed new connections in the whole run."),
  kept: z.number().min(0).max(1).optional().describe("Share of established connections that live on."),
  noOwner: duration().optional().describe("Time in which no node had a virtual address."),
  twoOwners: duration().optional().describe("Time in which two nodes had a virtual address."),
  takeovers: z.int().min(0).optional().describe("Changes of the Active node."),
  settled: duration().optional().describe("From the fault until the last failed new connection."),
});

export const drillsSchema = z
  .partialRecord(z.enum(DRILL_NAMES), budgetSchema)
  .describe("Budgets of drills; what is not given is what the protocol promises (docs/guide/drills.md).");
