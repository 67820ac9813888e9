/** What stands in the files of the store. */
import { X509Certificate, createPrivateKey } from "node:crypto";
import type { Account } from "./messages.ts";
import type { Kept, Trouble } from "./policy-renewal.ts";

const certificateOf = (pem: string): X509Certificate =>
  new X509Certificate(pem.slice(pem.indexOf("-----BEGIN CERTIFICATE-----")));

/** Undefined where it is no certificate. */
export function keptOf(pem: string): Kept | undefined {
  try {
    const parsed = certificateOf(pem);
    const names = (parsed.subjectAltName ?? "")
      .split(", ")
      .flatMap((one) => (one.startsWith("DNS:") ? [one.slice(4).toLowerCase()] : []));
    return { notBefore: Date.parse(parsed.validFrom), notAfter: Date.parse(parsed.validTo), names };
  } catch {
    return undefined;
  }
}

/** As `keptOf`, for what another has sent: the key must be there, and that of the certificate. */
export function pairOf(pem: string): Kept | undefined {
  try {
    if (!certificateOf(pem).checkPrivateKey(createPrivateKey(pem))) return undefined;
  } catch {
    return undefined;
  }
  return keptOf(pem);
}

const parsed = (text: string | undefined): Record<string, unknown> => {
  try {
    return JSON.parse(text ?? "{}") as Record<string, unknown>;
  } catch {
    // Written by nobody that we know: as if it were not there.
    return {};
  }
};

export function troubleOf(text: string | undefined): Trouble | undefined {
  const { failures, at, reason } = parsed(text);
  if (typeof failures !== "number" || typeof at !== "number" || typeof reason !== "string") return undefined;
  return { failures, at, reason };
}

/** `made`: milliseconds since 1970, 0 where it is not known. */
export type KeptAccount = Account & { readonly made: number };

export function accountOf(text: string | undefined): KeptAccount | undefined {
  const { key, url, made } = parsed(text);
  if (typeof key !== "string" || typeof url !== "string") return undefined;
  return { key, url, made: typeof made === "number" ? made : 0 };
}

/** The URL of an account that the authority does not know any more, so that nobody brings it back. */
export function lostAccountOf(text: string | undefined): string | undefined {
  const { lost } = parsed(text);
  return typeof lost === "string" ? lost : undefined;
}
