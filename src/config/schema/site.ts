import { z } from "zod";
import { availabilitySchema } from "./availability.ts";
import { name } from "./common.ts";
import { certificatesSchema } from "./certificates.ts";
import { controlSchema } from "./control.ts";
import { flowsSchema } from "./flows.ts";
import { drillsSchema, labSchema } from "./lab.ts";
import { nodeSchema } from "./nodes.ts";
import { poolSchema } from "./pools.ts";
import { virtualRouterSchema } from "./redundancy.ts";
import { serviceSchema } from "./services.ts";

/** The whole site file. Each room's part lives in a file of its own beside this one. */
export const siteSchema = z.strictObject({
  site: name().describe("The site's name."),
  nodes: z.record(name(), nodeSchema),
  virtualRouters: z.record(name(), virtualRouterSchema).default({}),
  pools: z.record(name(), poolSchema).default({}),
  services: z.record(name(), serviceSchema).default({}),
  flows: flowsSchema.optional(),
  control: controlSchema.optional(),
  certificates: certificatesSchema.optional(),
  lab: labSchema.optional(),
  drills: drillsSchema.default({}),
  availability: availabilitySchema.prefault({}),
});

/** What the user writes. */
export type SiteInput = z.input<typeof siteSchema>;
/** What the program reads: defaults filled in, text forms parsed. */
export type Site = z.output<typeof siteSchema>;
