import { z } from "zod";

/** Bodies of requests. Unknown keys are errors, as in the site file. */
export const switchoverRequest = z.strictObject({
  router: z.string().optional(),
  to: z.string().optional(),
});

export const backendRequest = z.strictObject({
  pool: z.string(),
  backend: z.string(),
  state: z.enum(["enabled", "drain", "maintenance"]),
  persist: z.boolean().default(false),
});

export const nodeRequest = z.strictObject({
  node: z.string(),
  state: z.enum(["enabled", "drain", "maintenance"]),
  force: z.boolean().default(false),
  within: z.number().min(0).max(3_600_000).default(30_000),
});

export const emptyRequest = z.strictObject({});
