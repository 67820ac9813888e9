/** OCSP (RFC 6960): requests for one certificate, and what responders answer. */
import { type Result, fail, ok } from "../../base/result.ts";
import { DerReader, TAG, context, der, oidText, timeValue } from "./wire-der.ts";

/** What certificates are known by at a responder. */
export interface CertificateParts {
  /** The content of its INTEGER. */
  readonly serial: Uint8Array;
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  /** The bits of the public key, without its algorithm. */
  readonly publicKey: Uint8Array;
}

export type CertificateStatus = "good" | "revoked" | "unknown";

export interface SingleAnswer {
  /** Dotted, of the two hashes. */
  readonly hash: string;
  readonly issuerName: Uint8Array;
  readonly issuerKey: Uint8Array;
  readonly serial: Uint8Array;
  readonly status: CertificateStatus;
  /** Milliseconds since 1970. */
  readonly thisUpdate: number;
  readonly nextUpdate: number | undefined;
}

export interface OcspAnswer {
  /** What the signature is of. */
  readonly signed: Uint8Array;
  readonly algorithm: string;
  readonly signature: Uint8Array;
  /** Certificates that came with it, the responder's among them where it is not the issuer itself. */
  readonly certificates: readonly Uint8Array[];
  readonly answers: readonly SingleAnswer[];
}

const SHA1 = Uint8Array.of(0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a);
const BASIC = "1.3.6.1.5.5.7.48.1.1";
/** More than any certificate or answer has. */
export const OCSP_MOST = 64 * 1024;

/** RFC 6960 4.2.1: OCSPResponseStatus. */
const STATUSES: Readonly<Record<number, string>> = {
  1: "malformed-request",
  2: "internal-error",
  3: "try-later",
  5: "signature-required",
  6: "unauthorized",
};

/** RFC 5280 4.1. */
export function certificateParts(bytes: Uint8Array): Result<CertificateParts> {
  const body = new DerReader(bytes).enter(TAG.sequence).enter(TAG.sequence);
  if (body.is(context(0))) body.content(context(0));
  const serial = body.content(TAG.integer);
  body.content(TAG.sequence);
  const issuer = body.whole(TAG.sequence);
  body.content(TAG.sequence);
  const subject = body.whole(TAG.sequence);
  const key = body.enter(TAG.sequence);
  key.content(TAG.sequence);
  const publicKey = key.bits();
  return body.bad ? fail("no certificate") : ok({ serial, issuer, subject, publicKey });
}

/** A request for one certificate; both hashes are SHA-1, which every responder knows (RFC 5019 2.1.1). */
export const encodeRequest = (
  issuerName: Uint8Array,
  issuerKey: Uint8Array,
  serial: Uint8Array,
): Uint8Array =>
  der(
    TAG.sequence,
    der(
      TAG.sequence,
      der(
        TAG.sequence,
        der(
          TAG.sequence,
          der(
            TAG.sequence,
            der(TAG.sequence, SHA1, der(TAG.null)),
            der(TAG.octetString, issuerName),
            der(TAG.octetString, issuerKey),
            der(TAG.integer, serial),
          ),
        ),
      ),
    ),
  );

/** RFC 6960 4.2.1. Answers a reason for whatever is no answer of the basic kind. */
export function decodeResponse(bytes: Uint8Array): Result<OcspAnswer> {
  if (bytes.length > OCSP_MOST) return fail("too-large");
  const outer = new DerReader(bytes);
  const response = outer.enter(TAG.sequence);
  const status = response.content(TAG.enumerated)[0] ?? -1;
  if (response.bad || !outer.done) return fail("malformed");
  if (status !== 0) return fail(STATUSES[status] ?? "malformed");
  const typed = response.enter(context(0)).enter(TAG.sequence);
  if (oidText(typed.content(TAG.oid)) !== BASIC) return fail(typed.bad ? "malformed" : "not-basic");
  const inner = new DerReader(typed.content(TAG.octetString));
  const basic = inner.enter(TAG.sequence);
  const signed = basic.whole(TAG.sequence);
  const algorithm = oidText(basic.enter(TAG.sequence).content(TAG.oid));
  const signature = basic.bits();
  const certificates: Uint8Array[] = [];
  if (!basic.done) {
    const list = basic.enter(context(0)).enter(TAG.sequence);
    while (!list.done) certificates.push(list.whole(TAG.sequence));
  }
  const data = new DerReader(signed);
  const answers = readAnswers(data.enter(TAG.sequence));
  const times = answers.every(
    ({ thisUpdate, nextUpdate }) => !Number.isNaN(thisUpdate) && !Number.isNaN(nextUpdate ?? 0),
  );
  if (typed.bad || inner.bad || data.bad || !times) return fail("malformed");
  return ok({ signed, algorithm, signature, certificates, answers });
}

function readAnswers(body: DerReader): SingleAnswer[] {
  if (body.is(context(0))) body.content(context(0));
  body.content(body.is(context(1)) ? context(1) : context(2));
  body.content(TAG.generalizedTime);
  const list = body.enter(TAG.sequence);
  const answers: SingleAnswer[] = [];
  while (!list.done) {
    const one = list.enter(TAG.sequence);
    const id = one.enter(TAG.sequence);
    const hash = oidText(id.enter(TAG.sequence).content(TAG.oid));
    const issuerName = id.content(TAG.octetString);
    const issuerKey = id.content(TAG.octetString);
    const serial = id.content(TAG.integer);
    const status = readStatus(one);
    const thisUpdate = timeValue(one.content(TAG.generalizedTime));
    const nextUpdate = one.is(context(0))
      ? timeValue(one.enter(context(0)).content(TAG.generalizedTime))
      : undefined;
    answers.push({ hash, issuerName, issuerKey, serial, status, thisUpdate, nextUpdate });
  }
  return answers;
}

function readStatus(one: DerReader): CertificateStatus {
  if (one.is(context(0, false))) {
    one.content(context(0, false));
    return "good";
  }
  if (one.is(context(1))) {
    one.content(context(1));
    return "revoked";
  }
  one.content(context(2, false));
  return "unknown";
}
