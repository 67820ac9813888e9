import { z } from "zod";
import { port, secret } from "./common.ts";

/** The control API over TCP, beside the unix socket: present means on, at every node's own address. */
export const controlSchema = z
  .strictObject({
    port: port().default(7410),
    keys: z
      .string()
      .min(1)
      .describe(
        "Directory with NODE.crt and NODE.key, as `nines keys` makes them; relative to the site file. Clients check the certificate with ca.crt.",
      ),
    token: secret().describe(
      "What a client must show, 16 characters at least: { file: PATH }, relative to the site file, or { env: NAME }.",
    ),
  })
  .describe("The control API over TLS and with a token, so that `nines --control` works from another host.");
