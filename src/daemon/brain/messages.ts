import { z } from "zod";
import type { IpAddress } from "../../base/addresses.ts";
import { type Result, fail, ok } from "../../base/result.ts";
import type { DurationMs } from "../../base/time.ts";
import type { FlowsReport } from "../../contracts/flows.ts";
import type { RedundancyToBrain } from "../../contracts/redundancy.ts";

const ip = () => z.string().transform((text) => text as IpAddress);
const span = () => z.number().transform((value) => value as DurationMs);
const counters = z.record(z.string(), z.number());

const routerState = z.enum(["initialize", "backup", "active", "fault"]);
const routerStatus = z.object({
  router: z.string(),
  state: routerState,
  reason: z.string(),
  priority: z.number(),
  basePriority: z.number(),
  failing: z.array(z.object({ name: z.string(), reason: z.string(), lower: z.number().optional() })),
  active: z.object({ node: z.string().optional(), address: ip(), priority: z.number() }).optional(),
  others: z
    .array(z.object({ node: z.string(), state: routerState, priority: z.number().optional() }))
    .optional(),
  addresses: z.array(ip()),
  waiting: z.string().optional(),
  transitions: z.number(),
  since: span(),
  counters,
});

const redundancyToBrain = z.discriminatedUnion("type", [
  z.object({ type: z.literal("ready"), pid: z.number(), digest: z.string().optional() }),
  z.object({
    type: z.literal("status"),
    routers: z.array(routerStatus),
    counters,
    // Checked by the process that passes it on.
    flows: z.custom<FlowsReport>((value) => typeof value === "object" && value !== null).optional(),
  }),
  z.object({
    type: z.literal("flush"),
    id: z.number(),
    to: z.string(),
    within: z.number().nonnegative().max(60_000),
  }),
  z.object({ type: z.literal("event"), event: z.string(), fields: z.record(z.string(), z.unknown()) }),
  z.object({ type: z.literal("result"), id: z.number(), ok: z.boolean(), error: z.string().optional() }),
]);

/** Also where the other process runs another version of the program, in the middle of an upgrade. */
export function decodeRedundancy(value: unknown): Result<RedundancyToBrain> {
  const parsed = redundancyToBrain.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  const [issue] = parsed.error.issues;
  return fail(`${issue?.path.join(".") ?? ""}: ${issue?.message ?? "invalid"}`);
}
