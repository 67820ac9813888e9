import { z } from "zod";
import { port } from "./common.ts";

/** Ordered certificates shared between the nodes: present means on, for every service with `tls.acme`. */
export const certificatesSchema = z
  .strictObject({
    keys: z
      .string()
      .min(1)
      .describe(
        "Directory with ca.crt, NODE.crt and NODE.key, as `nines keys` makes them; relative to the site file. May be that of `flows`.",
      ),
    port: port().default(7412).describe("TCP port of the nodes' own addresses on which they meet."),
  })
  .describe(
    "Certificates that are ordered (`tls.acme`) are handed to the other nodes that run the same service, over TLS.",
  );
