import { z } from "zod";
import { type IpAddress, ipFamily, parseIp } from "../../base/addresses.ts";
import { type Result, fail, ok } from "../../base/result.ts";
import { ipAddress, name } from "./common.ts";

export interface Listen {
  readonly address: IpAddress;
  /** First and last port, equal for a single one. */
  readonly ports: readonly [number, number];
  readonly protocol: "tcp" | "udp";
}

/** `10.0.0.1:80/tcp`, `[2001:db8::1]:5000-5010/udp`. */
export function parseListen(text: string): Result<Listen> {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})(?:-(\d{1,5}))?\/(tcp|udp)$/.exec(text);
  const address = match ? parseIp(match[1] ?? match[2] ?? "") : undefined;
  if (!match || !address?.ok || (match[1] !== undefined) !== (ipFamily(address.value) === 6)) {
    return fail(
      `"${text}" is not address:port/protocol, such as 10.0.0.1:80/tcp or [2001:db8::1]:5000-5010/udp`,
    );
  }
  const low = Number(match[3]);
  const high = Number(match[4] ?? match[3]);
  if (low < 1 || high > 65535 || low > high)
    return fail(`"${text}": ports are 1..65535, the lower one first`);
  return ok({ address: address.value, ports: [low, high], protocol: match[5] as "tcp" | "udp" });
}

const listen = () =>
  z
    .string()
    .describe("address:port/protocol; a port range as 5000-5010")
    .transform((text, context): Listen => {
      const result = parseListen(text);
      if (result.ok) return result.value;
      context.addIssue({ code: "custom", message: result.error, input: text });
      return z.NEVER;
    });

export const forwardSchema = z.strictObject({
  pool: name(),
  scheduler: z.enum(["maglev"]).default("maglev"),
  masquerade: z
    .union([z.literal(false), ipAddress()])
    .default(false)
    .describe(
      "Replace the client's address by this virtual address of the same router; needed where backends do not route back through it.",
    ),
});

export const serviceSchema = z.strictObject({
  on: name().describe("The virtual router whose address this is."),
  listen: z.union([listen().transform((one) => [one]), z.array(listen()).min(1)]),
  forward: forwardSchema,
});
