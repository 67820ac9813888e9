import { X509Certificate, createHash, verify } from "node:crypto";
import { type Result, fail, ok } from "../../base/result.ts";
import { type Validity, holds } from "./policy-staple.ts";
import {
  type CertificateParts,
  type OcspAnswer,
  certificateParts,
  decodeResponse,
  encodeRequest,
} from "./wire-ocsp.ts";

/** A certificate with the one that signed it. */
export interface Issued {
  readonly certificate: X509Certificate;
  readonly issuer: X509Certificate;
}

/** By the identifier of the hash in an answer. */
const HASHES: Readonly<Record<string, string>> = {
  "1.3.14.3.2.26": "sha1",
  "2.16.840.1.101.3.4.2.1": "sha256",
};
/** By the identifier of a signature: the hash that node:crypto wants; null where the key says it. */
const SIGNATURES: Readonly<Record<string, string | null>> = {
  "1.2.840.113549.1.1.11": "sha256",
  "1.2.840.113549.1.1.12": "sha384",
  "1.2.840.113549.1.1.13": "sha512",
  "1.2.840.10045.4.3.2": "sha256",
  "1.2.840.10045.4.3.3": "sha384",
  "1.2.840.10045.4.3.4": "sha512",
  "1.3.101.112": null,
};
/** id-kp-OCSPSigning: who may answer for an issuer (RFC 6960 4.2.2.2). */
const OCSP_SIGNING = "1.3.6.1.5.5.7.3.9";

const PEM = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/** The first certificate of a PEM text and, from its chain, the one that signed it. */
export function issuedOf(pem: string): Result<Issued> {
  try {
    const [certificate, ...chain] = (pem.match(PEM) ?? []).map((one) => new X509Certificate(one));
    if (certificate === undefined) return fail("no-certificate");
    const issuer = chain.find((one) => certificate.checkIssued(one) && certificate.verify(one.publicKey));
    return issuer === undefined ? fail("no-issuer") : ok({ certificate, issuer });
  } catch {
    return fail("no-certificate");
  }
}

/** The name of the file that keeps a fetched answer. */
export const stapleName = (certificate: X509Certificate): string =>
  `${certificate.fingerprint256.replaceAll(":", "").toLowerCase()}.der`;

/** The responder that a certificate names; plain HTTP is as good as TLS, since the answer is signed by itself. */
export const responderOf = (certificate: X509Certificate): string | undefined =>
  /^OCSP - URI:"?(https?:\/\/[^\s"]+)"?$/m.exec(certificate.infoAccess ?? "")?.[1];

const digest = (hash: string, bytes: Uint8Array): Buffer => createHash(hash).update(bytes).digest();

function partsOf({
  certificate,
  issuer,
}: Issued): { own: CertificateParts; its: CertificateParts } | undefined {
  const [own, its] = [certificateParts(certificate.raw), certificateParts(issuer.raw)];
  return own.ok && its.ok ? { own: own.value, its: its.value } : undefined;
}

/** What a responder is asked. */
export function requestFor(issued: Issued): Result<Uint8Array> {
  const parts = partsOf(issued);
  if (parts === undefined) return fail("no-certificate");
  const { own, its } = parts;
  return ok(encodeRequest(digest("sha1", its.subject), digest("sha1", its.publicKey), own.serial));
}

/**
 * Whether an answer may be stapled to a certificate: it is for this one, says good, holds now, and is signed by the
 * issuer or by whom the issuer lets answer. Otherwise the reason. `wall` in milliseconds since 1970.
 */
export function checkAnswer(bytes: Uint8Array, issued: Issued, wall: number): Result<Validity> {
  const decoded = decodeResponse(bytes);
  if (!decoded.ok) return decoded;
  const parts = partsOf(issued);
  if (parts === undefined) return fail("no-certificate");
  const { own, its } = parts;
  const single = decoded.value.answers.find(({ hash, issuerName, issuerKey, serial }) => {
    const name = HASHES[hash];
    return (
      name !== undefined &&
      Buffer.compare(serial, own.serial) === 0 &&
      digest(name, its.subject).equals(issuerName) &&
      digest(name, its.publicKey).equals(issuerKey)
    );
  });
  if (single === undefined) return fail("for-another-certificate");
  if (single.status !== "good") return fail(single.status);
  const { thisUpdate, nextUpdate } = single;
  // Without one it could be shown for ever.
  if (nextUpdate === undefined) return fail("no-next-update");
  if (!holds({ thisUpdate, nextUpdate }, wall)) return fail(wall < thisUpdate ? "not-yet-valid" : "expired");
  return signedRightly(decoded.value, issued.issuer, wall)
    ? ok({ thisUpdate, nextUpdate })
    : fail("signature-wrong");
}

function signedRightly(answer: OcspAnswer, issuer: X509Certificate, wall: number): boolean {
  const hash = SIGNATURES[answer.algorithm];
  if (hash === undefined) return false;
  try {
    const delegates = answer.certificates
      .map((one) => new X509Certificate(one))
      .filter(
        (one) =>
          one.keyUsage?.includes(OCSP_SIGNING) &&
          one.checkIssued(issuer) &&
          one.verify(issuer.publicKey) &&
          Date.parse(one.validFrom) <= wall &&
          wall < Date.parse(one.validTo),
      );
    return [issuer, ...delegates].some(({ publicKey }) =>
      verify(hash, answer.signed, publicKey, answer.signature),
    );
  } catch {
    return false;
  }
}
