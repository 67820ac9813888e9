import type { Server } from "node:net";
import { join } from "node:path";
import { z } from "zod";
import { type IpAddress, parseIp } from "../base/addresses.ts";
import { type Result, fail, ok } from "../base/result.ts";
import type { AffinityEntry, BrainToFlows, FlowsToBrain } from "../contracts/affinity.ts";
import type { ChildContext } from "./child.ts";
import { type JsonLink, serveLinks } from "./link.ts";

export const clientsSocket = (runtime: string): string => join(runtime, "clients.sock");

const ip = () =>
  z
    .string()
    .refine((text) => parseIp(text).ok, "an address")
    .transform((text) => text as IpAddress);
const flowsToBrain = z.object({
  type: z.literal("affinity"),
  entries: z
    .array(
      z.object({
        service: z.string(),
        source: ip(),
        backend: ip(),
        port: z.int().min(0).max(65_535),
        expires: z.number().min(0),
      }),
    )
    .max(65_536),
});
const brainToFlows = z.object({ type: z.literal("again") });

function decode<T>(schema: z.ZodType<T>, value: unknown): Result<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  const [issue] = parsed.error.issues;
  return fail(`${issue?.path.join(".") ?? ""}: ${issue?.message ?? "invalid"}`);
}
export const decodeFromBrain = (value: unknown): Result<BrainToFlows> => decode(brainToFlows, value);
export const decodeFromFlows = (value: unknown): Result<FlowsToBrain> => decode(flowsToBrain, value);

/**
 * The brain's side of <runtime>/clients.sock: the flows process tells which clients stay with which backends on the
 * other nodes, for the brain owns the tables.
 */
export class ClientsLink {
  readonly #links = new Set<JsonLink<BrainToFlows, FlowsToBrain>>();
  #server: Server | undefined;

  static async open(
    { runtime, successor }: Pick<ChildContext, "runtime" | "successor">,
    remember: (entries: readonly AffinityEntry[]) => void,
  ): Promise<ClientsLink> {
    const clients = new ClientsLink();
    clients.#server = await serveLinks<BrainToFlows, FlowsToBrain>(
      clientsSocket(runtime),
      (link) => {
        clients.#links.add(link);
        link.send({ type: "again" });
        return {
          decode: decodeFromFlows,
          message: ({ entries }) => remember(entries),
          closed: () => clients.#links.delete(link),
        };
      },
      { replace: successor },
    );
    return clients;
  }

  /** Asks for everything that is known. */
  again(): void {
    for (const link of this.#links) link.send({ type: "again" });
  }
  close(): void {
    this.#server?.close();
    for (const link of this.#links) link.close("the brain ends");
  }
}
