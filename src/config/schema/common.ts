import { z } from "zod";
import {
  type IpAddress,
  type IpPort,
  type IpPrefix,
  parseIp,
  parseIpPort,
  parsePrefix,
} from "../../base/addresses.ts";
import type { Result } from "../../base/result.ts";
import type { DurationMs } from "../../base/time.ts";
import { parseDuration, parseSize } from "../../base/units.ts";

/** A text form of the site file that becomes a value; the parser's reason is the message. */
function parsed<T>(parse: (text: string) => Result<T>, description: string) {
  return z
    .string()
    .describe(description)
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
export const ipPort = () => parsed<IpPort>(parseIpPort, "address:port; IPv6 in brackets");
export const ipPrefix = () => parsed<IpPrefix>(parsePrefix, "a prefix such as 10.0.0.0/8");

/** A duration within bounds, both included. */
export const durationBetween = (low: DurationMs, high: DurationMs, text: string) =>
  duration().refine((value) => value >= low && value <= high, { message: `expected a duration of ${text}` });

/** Names of nodes, pools, services: they appear in metrics, file names and set elements. */
export const name = () =>
  z
    .string()
    .regex(
      /^[a-z][a-z0-9-]{0,62}$/i,
      "a name starts with a letter and has letters, digits and hyphens, 63 at most",
    );

export const port = () => z.int().min(1).max(65535);
