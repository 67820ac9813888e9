/** Certificates of a layer-7 service: given as files, or ordered by the node. */
import { z } from "zod";
import { seconds } from "../../base/time.ts";
import { durationBetween, secret } from "./common.ts";

/** Services whose ordered certificates the nodes of a site share, at most. */
export const SHARED_CERTIFICATES = 256;

export const acmeSchema = z.strictObject({
  names: z
    .array(
      z
        .string()
        .regex(
          /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$/,
          "a lower-case host name such as shop.example; a wildcard needs a challenge by DNS, which nines does not answer",
        ),
    )
    .min(1)
    .max(100)
    .describe("Host names of the certificate."),
  acceptTerms: z.literal(true).describe("That you agree to the authority's terms of service."),
  directory: z
    .string()
    .regex(/^https:\/\/[^\s]+$/, "the https URL of an ACME directory")
    .default("https://acme-v02.api.letsencrypt.org/directory")
    .describe("The authority's ACME directory; default: Let's Encrypt."),
  challenge: z
    .enum(["tls-alpn-01", "http-01"])
    .default("tls-alpn-01")
    .describe(
      "tls-alpn-01: the authority comes to port 443 of this service; http-01: to port 80, where some HTTP service of this site must listen.",
    ),
  email: z.string().min(3).optional().describe("Where the authority may write to."),
  externalAccount: z
    .strictObject({ id: z.string().min(1), key: secret() })
    .optional()
    .describe(
      "External account binding, where the authority asks for one; the key as it gave it (base64url).",
    ),
  authorities: z
    .string()
    .min(1)
    .optional()
    .describe(
      "PEM file with what the directory's own certificate is signed by, where that is none of the usual.",
    ),
});

export const ticketsSchema = z
  .strictObject({
    secret: secret()
      .optional()
      .describe(
        "What the keys are made from, 32 characters or more and the same on every node: { file: PATH } or { env: NAME }. A session then resumes at every node; without it, at every worker of one node.",
      ),
    rotate: durationBetween(seconds(60), seconds(7 * 86_400), "1m to 7d")
      .prefault("12h")
      .describe("How long tickets are made with one key. Those of the key before are read as long again."),
    lifetime: durationBetween(seconds(1), seconds(7 * 86_400), "1s to 7d")
      .prefault("2h")
      .describe("How long a session may be resumed; `rotate` at most."),
  })
  .refine(({ rotate, lifetime }) => lifetime <= rotate, {
    path: ["lifetime"],
    message: "expected no more than rotate: a ticket is read until the key after its own has gone",
  });

export const tlsSchema = z.strictObject({
  certificates: z
    .array(
      z.strictObject({
        certificate: z.string().min(1),
        key: z.string().min(1),
        ocsp: z
          .string()
          .min(1)
          .optional()
          .describe(
            "File with an OCSP response (DER) for this certificate, stapled while it is valid; may come later.",
          ),
      }),
    )
    .default([])
    .describe(
      "PEM files with the chain after the certificate, read again when they change. The first is for clients that name no server.",
    ),
  acme: acmeSchema
    .optional()
    .describe("Ordered and renewed by the node itself (RFC 8555), kept in the state directory."),
  fetchOcsp: z
    .boolean()
    .default(false)
    .describe(
      "Ask the responders that the certificates name (RFC 6960) and staple their answers; needs the issuer's certificate in the chain.",
    ),
  tickets: ticketsSchema.prefault({}).describe("Session tickets (RFC 5077, RFC 8446)."),
  minVersion: z.enum(["1.2", "1.3"]).default("1.2"),
  ciphers: z.string().optional().describe("OpenSSL's list for TLS 1.2; default: Node's."),
  clientAuthorities: z
    .string()
    .optional()
    .describe("PEM file; clients must show a certificate signed by one of them."),
  clientOptional: z.boolean().default(false).describe("Do not refuse clients without a certificate."),
});

export type AcmeSettings = z.output<typeof acmeSchema>;
