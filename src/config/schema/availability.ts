import { z } from "zod";
import { command, duration, name, nameOf } from "./common.ts";

const probability = () => z.number().min(0).max(1);

/** Mean time between failures and mean time to repair. */
const rates = z.strictObject({
  mtbf: duration().describe("Mean time between failures: 8760h, 365d."),
  mttr: duration().describe("Mean time until it is repaired."),
});

export const RATED_KINDS = ["hardware", "system", "application", "zone", "power", "network"] as const;

const domainSchema = z.strictObject({
  members: z
    .array(name())
    .min(1)
    .describe("Nodes and backends that need it. Who is in several of a kind needs only one of them."),
  mtbf: duration().optional(),
  mttr: duration().optional(),
});

const machineSchema = z.strictObject({
  hardware: rates.optional(),
  system: rates.optional().describe("Operating system and what runs beside the service: crashes, reboots."),
  application: rates.optional().describe("The backend's own program."),
  parts: z
    .record(name(), rates)
    .default({})
    .describe("Further parts that the machine needs: a disk, a link, a power supply without a twin."),
});

const dependencySchema = z
  .strictObject({
    services: z.array(nameOf("services")).optional().describe("Who needs it; default: every service."),
    mtbf: duration().optional(),
    mttr: duration().optional(),
    availability: z
      .number()
      .min(0)
      .max(100)
      .optional()
      .describe("Per cent, where only a promise is known: 99.95. Estimated, not guaranteed."),
    sla: z.string().optional().describe("A provider's promise by name: `nines nines --cloud` lists them."),
    copies: z
      .int()
      .min(1)
      .max(16)
      .default(1)
      .describe("How many of them there are, on machines of their own."),
    needed: z.int().min(1).max(16).default(1).describe("How many of them it takes."),
    failover: duration().prefault("0s").describe("How long another copy takes to take over."),
  })
  .describe("What a service needs outside this site file: a database, Redis, a provider, a data center.");

const creditSchema = z.strictObject({
  below: z.number().min(0).max(100).describe("Per cent of the window, e.g. 99.9."),
  credit: z.number().min(0).max(100).describe("Per cent of the bill that is given back."),
});

export const targetSchema = z.strictObject({
  slo: z.number().min(0).max(100).describe("Promised availability in per cent: 99.95."),
  window: duration().prefault("30d").describe("Over which it is held; 30d and 28d are usual."),
  latency: duration().optional().describe("A slower answer counts as a bad one."),
  credits: z.array(creditSchema).default([]).describe("What missing it costs, tier by tier."),
  bill: z
    .number()
    .min(0)
    .optional()
    .describe("The customer's bill for one window; the credits are a share of it."),
  hour: z.number().min(0).optional().describe("What an hour of outage costs you, in the same currency."),
});

const capacitySchema = z.strictObject({
  peak: z
    .number()
    .positive()
    .describe("What the pool must carry at peak: requests or connections per second."),
  each: z.number().positive().describe("What one backend carries."),
  backends: z.record(name(), z.number().positive()).default({}).describe("Those that carry another amount."),
});

export const availabilitySchema = z
  .strictObject({
    rates: z
      .partialRecord(z.enum(RATED_KINDS), rates)
      .default({})
      .describe("Failure and repair times per kind, instead of the documented defaults."),
    machines: z
      .record(name(), machineSchema)
      .default({})
      .describe("Nodes and backends that differ from their kind."),
    power: z.record(name(), domainSchema).default({}).describe("Power feeds."),
    network: z.record(name(), domainSchema).default({}).describe("Switches and links that machines share."),
    zones: z.record(name(), rates).default({}).describe("Zones that differ from the default."),
    failover: z
      .strictObject({
        coverage: probability().optional().describe("Chance that a takeover works; drills know better."),
        manual: duration().prefault("1h").describe("How long a takeover that failed takes a person."),
        move: duration()
          .prefault("10ms")
          .describe("From the decision until traffic arrives at the new node."),
        clients: duration().prefault("0s").describe("Until clients have come back, e.g. a DNS TTL."),
        beta: probability()
          .optional()
          .describe(
            "Share of failures that strike all members at once: 0.01 where they differ, 0.1 for twins.",
          ),
        latentMtbf: duration().prefault("8760h").describe("How often a standby breaks unnoticed."),
        drillEvery: duration().prefault("30d").describe("How often a takeover is tried out."),
        oneCrew: z.boolean().default(true).describe("Whether one crew repairs everything."),
      })
      .prefault({}),
    dependencies: z.record(name(), dependencySchema).default({}),
    capacity: z.record(nameOf("pools"), capacitySchema).default({}).describe("Per pool."),
    targets: z
      .record(nameOf("services"), targetSchema)
      .default({})
      .describe("Per service: what is promised."),
    hooks: z
      .strictObject({
        alert: command().optional(),
        timeout: duration().prefault("10s"),
      })
      .prefault({})
      .describe(
        "Program run when a burn-rate alert begins or ends; never awaited. JSON on stdin: service, severity, firing, rates, windows.",
      ),
    currency: z.string().max(8).default("EUR"),
    maintenance: z
      .array(
        z.strictObject({
          from: z.iso.datetime({ offset: true }),
          to: z.iso.datetime({ offset: true }),
          services: z.array(nameOf("services")).optional(),
          reason: z.string().default("planned maintenance"),
        }),
      )
      .default([])
      .describe("Planned maintenance: shown in the accounts and not counted against the target."),
  })
  .describe("For `nines plan` and `nines slo`: how often things break, what is promised.");
