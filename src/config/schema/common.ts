import { z } from "zod";
import {
  type IpAddress,
  type IpPort,
  type IpPrefix,
  parseIp,
  parseIpPort,
  parsePrefix,
} from "../../base/addresses.ts";
import { type Result, fail } from "../../base/result.ts";
import type { DurationMs } from "../../base/time.ts";
import { parseDuration, parseSize } from "../../base/units.ts";

/** A text form of the site file that becomes a value; the parser's reason is the message. */
function parsed<T>(parse: (text: string) => Result<T>, expected: string) {
  return z
    .string()
    .meta({ description: expected, expected })
    .transform((text, context): T => {
      const result = parse(text);
      if (result.ok) return result.value;
      context.addIssue({ code: "custom", message: result.error, input: text });
      return z.NEVER;
    });
}

export const duration = () => parsed<DurationMs>(parseDuration, "a duration: 100ms, 3s, 5m, 1h");
export const size = () => parsed<number>(parseSize, "a size: 512B, 16KiB, 1MiB");
export const ipAddress = () => parsed<IpAddress>(parseIp, "an IPv4 or IPv6 address");
/** Installed as /32 or /128: people who come from other programs write the link's prefix length. */
export const virtualAddress = () =>
  parsed<IpAddress>((text) => {
    const [address, length] = text.split("/");
    const bare = parseIp(address ?? "");
    return bare.ok && length !== undefined
      ? fail(`a virtual address is written without a prefix length: ${bare.value}, not ${text}`)
      : parseIp(text);
  }, "an IPv4 or IPv6 address");
export const ipPort = () => parsed<IpPort>(parseIpPort, "address:port; IPv6 in brackets");
export const ipPrefix = () => parsed<IpPrefix>(parsePrefix, "a prefix such as 10.0.0.0/8");

/** A duration within bounds, both included. */
export const durationBetween = (low: DurationMs, high: DurationMs, text: string) =>
  duration().refine((value) => value >= low && value <= high, { message: `expected a duration of ${text}` });

/** Names of nodes, pools, services: they appear in metrics, file names and set elements. */
export const name = () =>
  z
    .string()
    .meta({ expected: "a name" })
    .regex(/^[a-z][a-z0-9-]{0,62}$/i, "a name: a letter, then letters, digits and hyphens, 63 at most");

/** The parts of the site file whose entries others name. */
export type Named = "nodes" | "pools" | "services" | "virtualRouters";

/** The name of an entry of another part. That it exists is checked wherever it stands: `src/config/checks/references.ts`. */
export const nameOf = (part: Named) => name().meta({ expected: "a name", refersTo: part });

/** A program and its arguments; no shell. */
export const command = () => z.array(z.string().min(1)).min(1);

export const port = () => z.int().min(1).max(65535);

/**
 * A secret never stands in the site file: it is read from a file or from the environment when it is
 * needed (`readSecret` in src/config/secrets.ts), and what is found here is never printed.
 */
export const secret = () =>
  z
    .union([
      z.strictObject({
        file: z.string().min(1).describe("A file whose content is the secret; trailing line end left out."),
      }),
      z.strictObject({
        env: z
          .string()
          .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "the name of an environment variable has letters, digits and _")
          .describe("An environment variable whose value is the secret."),
      }),
    ])
    .meta({ secret: true, description: "A secret: { file: PATH } or { env: NAME }." });

export type SecretReference = z.output<ReturnType<typeof secret>>;
