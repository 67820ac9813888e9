import { readFileSync } from "node:fs";
import { OperationalError } from "../base/errors.ts";

/** Where the site file says that a secret is; never the secret itself. */
export type SecretSource = { readonly file: string } | { readonly env: string };

const TICKET_SECRET_LEAST = 32;

const placeOf = (from: SecretSource): string =>
  "env" in from ? `the environment variable ${from.env}` : from.file;

/** Throws where there is none. */
export function readSecret(from: SecretSource): Uint8Array {
  const text = "env" in from ? process.env[from.env] : readFileSync(from.file, "utf8").trim();
  if (text === undefined || text === "")
    throw new OperationalError("FILE_UNREADABLE", `the secret in ${placeOf(from)} is missing or empty`);
  return Buffer.from(text);
}

/** What the keys of session tickets are made from; throws also where it could be guessed. */
export function readTicketSecret(from: SecretSource): Uint8Array {
  const secret = readSecret(from);
  if (secret.length < TICKET_SECRET_LEAST)
    throw new OperationalError(
      "FILE_UNREADABLE",
      `the secret for session tickets in ${placeOf(from)} has less than ${TICKET_SECRET_LEAST} characters, so that it could be guessed from a ticket; make one with: openssl rand -base64 48`,
    );
  return secret;
}
