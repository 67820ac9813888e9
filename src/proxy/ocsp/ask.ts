import type { X509Certificate } from "node:crypto";
import { request as overPlain } from "node:http";
import { request as overTls } from "node:https";
import { rootCertificates } from "node:tls";
import { OperationalError } from "../../base/errors.ts";
import { OCSP_MOST } from "./wire-ocsp.ts";

/** Asks a responder about a certificate of this issuer; resolves with whatever it answers. */
export type AskResponder = (url: string, question: Uint8Array, issuer: X509Certificate) => Promise<Buffer>;

/**
 * One question by POST (RFC 6960 A.1). Throws an OperationalError. `within` in milliseconds, for all of it. A responder
 * over TLS is trusted by the public authorities or, as those of a company's own authority are, by the issuer.
 */
export const askOverHttp =
  (within = 10_000): AskResponder =>
  (url, question, issuer) =>
    new Promise((resolve, reject) => {
      const refuse = (reason: string): void => {
        asking.destroy();
        reject(new OperationalError("MESSAGE_INVALID", `${url}: ${reason}`));
      };
      const headers = { "Content-Type": "application/ocsp-request", "Content-Length": question.length };
      const signal = AbortSignal.timeout(within);
      const request = url.startsWith("https:") ? overTls : overPlain;
      const ca = [...rootCertificates, issuer.toString()];
      const asking = request(url, { method: "POST", headers, agent: false, signal, ca }, (response) => {
        const parts: Buffer[] = [];
        let length = 0;
        response.on("data", (part: Buffer) => {
          parts.push(part);
          length += part.length;
          if (length > OCSP_MOST) refuse("the answer is larger than 64 KiB");
        });
        response.on("error", (error) => refuse(error.message));
        response.on("end", () => {
          if (response.statusCode === 200) resolve(Buffer.concat(parts));
          else refuse(`answered ${response.statusCode}`);
        });
      });
      asking.on("error", (error) => refuse(signal.aborted ? `no answer within ${within} ms` : error.message));
      asking.end(question);
    });
