/** What stands in the files of the store. */
import { X509Certificate, createHash, createPrivateKey } from "node:crypto";
import type { AcmeSettings } from "../../config/schema/tls.ts";
import type { Account } from "./messages.ts";
import type { Kept, Origin, Trouble } from "./policy-renewal.ts";
import { type AcmeStore, accountName, oldAccountName } from "./store.ts";

const certificateOf = (pem: string): X509Certificate =>
  new X509Certificate(pem.slice(pem.indexOf("-----BEGIN CERTIFICATE-----")));

const parsed = (text: string | undefined): Record<string, unknown> => {
  try {
    const value: unknown = JSON.parse(text ?? "{}");
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    // Written by nobody that we know: as if it were not there.
    return {};
  }
};

/** One line before the PEM, which every reader of PEM passes over (RFC 7468, 5.2): one rename replaces both. */
const ORIGIN = "nines: ";
const LONGEST_URL = 2048;

export const withOrigin = (pem: string, { directory, ordered }: Origin): string =>
  `${ORIGIN}${JSON.stringify({ directory, ordered })}\n${pem}`;

function originOf(text: string): Origin | undefined {
  if (!text.startsWith(ORIGIN)) return undefined;
  const { directory, ordered } = parsed(text.slice(ORIGIN.length, text.indexOf("\n")));
  if (typeof directory !== "string" || directory.length > LONGEST_URL) return undefined;
  return typeof ordered === "number" ? { directory, ordered } : undefined;
}

/** Undefined where it is no certificate. */
export function keptOf(text: string): Kept | undefined {
  try {
    const certificate = certificateOf(text);
    const names = (certificate.subjectAltName ?? "")
      .split(", ")
      .flatMap((one) => (one.startsWith("DNS:") ? [one.slice(4).toLowerCase()] : []));
    const notBefore = Date.parse(certificate.validFrom);
    const { directory, ordered } = originOf(text) ?? { directory: undefined, ordered: notBefore };
    return { notBefore, notAfter: Date.parse(certificate.validTo), names, directory, ordered };
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

export function troubleOf(text: string | undefined): Trouble | undefined {
  const { failures, at, reason, of, node } = parsed(text);
  if (typeof failures !== "number" || typeof at !== "number" || typeof reason !== "string") return undefined;
  return {
    failures,
    at,
    reason,
    of: typeof of === "string" ? of : undefined,
    node: typeof node === "string" ? node : undefined,
  };
}

/** 16 hex digits for what is ordered and how: an operator who changes it has mended something, or wants another. */
export const settingsKey = (settings: AcmeSettings): string =>
  createHash("sha256").update(JSON.stringify(settings)).digest("hex").slice(0, 16);

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

/**
 * What the file of a directory's account holds. An old file counts where its account lies beside the directory;
 * should it be another's all the same, the authority does not know it, and a new one is made.
 */
export async function readAccount(
  store: Pick<AcmeStore, "read">,
  directory: string,
): Promise<string | undefined> {
  const text = await store.read(accountName(directory));
  if (text !== undefined) return text;
  const old = await store.read(oldAccountName(directory));
  return accountOf(old)?.url.startsWith(new URL(".", directory).href) === true ? old : undefined;
}
