import { type SecureContext, createSecureContext } from "node:tls";
import type { Challenge } from "./messages.ts";

/** The protocol by which an authority asks (RFC 8737). */
export const ACME_PROTOCOL = "acme-tls/1";
/** Where it asks over HTTP (RFC 8555 8.3). */
export const ACME_PATH = "/.well-known/acme-challenge/";

/** What an authority shall find at this worker just now. */
export class Challenges {
  readonly #answers = new Map<string, string>();
  readonly #proofs = new Map<string, SecureContext>();

  /** All of them, in place of those before. */
  set(challenges: readonly Challenge[]): void {
    this.#answers.clear();
    this.#proofs.clear();
    for (const one of challenges) {
      if (one.kind === "http-01") this.#answers.set(one.token, one.answer);
      else this.#proofs.set(one.name, createSecureContext({ cert: one.certificate, key: one.key }));
    }
  }

  /** The answer for a path; undefined where nobody of ours is asked. */
  answer(path: string): string | undefined {
    if (this.#answers.size === 0 || !path.startsWith(ACME_PATH)) return undefined;
    return this.#answers.get(path.slice(ACME_PATH.length));
  }

  /** Whether the first bytes of TLS connections have to be looked at. */
  get proving(): boolean {
    return this.#proofs.size > 0;
  }

  proof(serverName: string): SecureContext | undefined {
    return this.#proofs.get(serverName.toLowerCase());
  }
}
