import { z } from "zod";
import { ms } from "../../base/time.ts";
import { command, duration, durationBetween, ipPort, name, port } from "./common.ts";

export const backendSchema = z.union([
  ipPort().transform((at) => ({ at, weight: 1, maintenance: false, backup: false, zone: undefined })),
  z
    .strictObject({
      address: ipPort().describe("Where it listens."),
      weight: z.int().min(0).max(256).default(1).describe("Share of new connections; 0 drains."),
      maintenance: z.boolean().default(false).describe("Out of service until the site file says otherwise."),
      backup: z
        .boolean()
        .default(false)
        .describe(
          "Takes connections only while no other backend of the pool (and, where it is forwarded, of its address family) is healthy.",
        ),
      zone: name().optional().describe("Failure zone."),
    })
    .transform(({ address, ...rest }) => ({ at: address, ...rest, zone: rest.zone })),
]);

const timing = {
  interval: durationBetween(ms(50), ms(3_600_000), "50ms to 1h")
    .prefault("2s")
    .describe(
      "From the beginning of a check to that of the next. Until a backend is known, four times as often.",
    ),
  timeout: durationBetween(ms(1), ms(3_600_000), "1ms to 1h")
    .prefault("1s")
    .describe("Hard limit over the whole of a check."),
  rise: z.int().min(1).max(100).default(2).describe("Good checks in a row before a backend is up."),
  fall: z.int().min(1).max(100).default(3).describe("Bad checks in a row before a backend is down."),
  jitter: z
    .number()
    .min(0)
    .max(0.5)
    .default(0.1)
    .describe("Random share of the interval by which checks are spread."),
  port: port().optional().describe("Check this port instead of the backend's."),
};

/** What a check says, or waits for. */
const said = () => z.string().min(1).max(4096);
const hex = z
  .boolean()
  .default(false)
  .describe("send and expect are bytes, written as pairs of hexadecimal digits.");
const isHex = (text: string): boolean => /^([0-9a-f]{2})+$/i.test(text);
function hexIsHex(
  check: { readonly hex: boolean; readonly send?: string | undefined; readonly expect?: string | undefined },
  context: z.core.$RefinementCtx,
): void {
  for (const key of ["send", "expect"] as const) {
    const input = check[key];
    if (!check.hex || input === undefined || isHex(input)) continue;
    const message = "expected pairs of hexadecimal digits, since hex is true";
    context.addIssue({ code: "custom", path: [key], message, input });
  }
}

export const checkSchema = z.union([
  z
    .strictObject({
      tcp: z
        .literal(true)
        .describe("Good when a connection is accepted and, with send or expect, when the answer has come."),
      send: said().optional().describe("Said once connected. In double quotes YAML knows \\r\\n."),
      expect: said().optional().describe("The answer contains this (first 64 KiB); default: any answer."),
      hex,
      tls: z.boolean().default(false).describe("Over TLS."),
      sni: z.string().optional().describe("TLS server name."),
      verify: z.boolean().default(true).describe("Check the certificate, against sni or the address."),
      ...timing,
    })
    .superRefine(hexIsHex)
    .transform((c) => ({ kind: "tcp" as const, ...c })),
  z
    .strictObject({
      udp: z.literal(true).describe("Good when a datagram is answered."),
      send: said().describe("The datagram."),
      expect: said().optional().describe("The answer contains this; default: any answer."),
      hex,
      ...timing,
    })
    .superRefine(hexIsHex)
    .transform((c) => ({ kind: "udp" as const, ...c })),
  z
    .strictObject({
      dns: z
        .string()
        .regex(/^(?=.{1,254}$)[\w*-]{1,63}(\.[\w-]{1,63})*\.?$/, "a domain name")
        .describe("A name to ask for; good when the answer has a record of it."),
      type: z
        .enum(["A", "AAAA", "NS", "SOA", "MX", "TXT", "PTR", "SRV"])
        .default("A")
        .describe("Of the record."),
      ...timing,
    })
    .transform(({ dns, ...c }) => ({ kind: "dns" as const, name: dns, ...c })),
  z
    .strictObject({
      http: z.string().startsWith("/").describe("Path to GET."),
      tls: z.boolean().default(false).describe("HTTPS."),
      host: z.string().optional().describe("Host header; default: the backend's address."),
      sni: z.string().optional().describe("TLS server name; default: the name in host."),
      verify: z.boolean().default(true).describe("Check the certificate, against sni or host."),
      status: z
        .string()
        .regex(/^\d{3}(-\d{3})?(,\d{3}(-\d{3})?)*$/)
        .default("200-299")
        .describe("Good statuses: single ones and ranges, 200-299,304."),
      body: z.string().optional().describe("The body contains this text (first 64 KiB)."),
      ...timing,
    })
    .transform(({ http, ...c }) => ({ kind: "http" as const, path: http, ...c })),
  z
    .strictObject({
      exec: command().describe(
        "A program, no shell: exit 0 is good. NINES_POOL, NINES_BACKEND, NINES_ADDRESS, NINES_PORT in the environment; the first line of its output is the reason.",
      ),
      ...timing,
    })
    .transform((c) => ({ kind: "exec" as const, ...c })),
]);

export const poolSchema = z.strictObject({
  backends: z.record(name(), backendSchema).describe("Address and port each, or a mapping."),
  check: checkSchema.optional().describe("Without a check, backends always count as healthy."),
  slowStart: duration()
    .prefault("0s")
    .describe("A backend that came back gets to its full weight over this time (forwarded services)."),
  allDown: z
    .enum(["all", "none", "last"])
    .default("none")
    .describe(
      "When no backend is healthy: spread over all, refuse, or stay with those that were last healthy.",
    ),
});
