import type { CheckVerdict } from "../machine.ts";
import { firstLine } from "./probe.ts";

/** What is wrong with a certificate is said in words: it is what one looks for in the log. */
export function describeTls(error: NodeJS.ErrnoException): CheckVerdict | undefined {
  const code = error.code ?? "";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID")
    return { outcome: "bad", reason: "the certificate is for another name" };
  if (/CERT|SIGNATURE|ISSUER|CHAIN/.test(code))
    return { outcome: "bad", reason: `certificate: ${firstLine(error.message)}` };
  if (code.startsWith("ERR_SSL") || code === "EPROTO")
    return { outcome: "bad", reason: "the TLS handshake failed" };
  return undefined;
}
