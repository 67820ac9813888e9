import { createHash, hkdfSync, randomBytes } from "node:crypto";
import type { Server as TlsServer } from "node:tls";
import type { Clock } from "../../base/time.ts";
import { epochAt, readableEpochs } from "./policy-tickets.ts";

/** A context of Node's, with the hook that its documentation leaves out. */
interface HookedContext {
  onticketkeycallback?: (name: Buffer, iv: Buffer, encrypt: boolean) => unknown[];
  enableTicketKeyCallback?: () => void;
}
type HookedServer = TlsServer & { readonly _sharedCreds?: { readonly context?: HookedContext } };

interface Key {
  /** Name (16 bytes, in the clear in each ticket), HMAC key (16), AES key (16): as Node's `ticketKeys`. */
  readonly bytes: Buffer;
  readonly name: Buffer;
  readonly hmac: Buffer;
  readonly aes: Buffer;
}

/**
 * As OpenSSL's callback answers: 0, no such key. Node ends the process where an answer has no keys, this one included,
 * and where the hook throws.
 */
const UNKNOWN = [0, Buffer.alloc(16), Buffer.alloc(16)];

/**
 * The keys of a service's session tickets: made from a secret and the time, so that whoever has the secret (the
 * workers of a node, the nodes of a site) reads the tickets of all others.
 *
 * Node publishes a single key, with which a rotation costs every client one full handshake. Below it is a hook that
 * asks for the key of each ticket; where this Node has it, tickets of the epoch before are read as well and replaced.
 */
export class TicketKeys {
  readonly #clock: Pick<Clock, "wall">;
  readonly #scope: string;
  readonly #rotate: number;
  #secret: Uint8Array;
  readonly #keys = new Map<number, Key>();

  /** Services with the same secret have different keys: `scope` is the service's name. `rotate` in milliseconds. */
  constructor(clock: Pick<Clock, "wall">, secret: Uint8Array, scope: string, rotate: number) {
    this.#clock = clock;
    this.#secret = secret;
    this.#scope = scope;
    this.#rotate = rotate;
  }

  /** Another secret: tickets of before are read no more. */
  use(secret: Uint8Array): void {
    if (Buffer.compare(secret, this.#secret) === 0) return;
    this.#secret = secret;
    this.#keys.clear();
  }

  /** The key of this moment, 48 bytes. */
  get current(): Buffer {
    return this.#of(this.#epoch()).bytes;
  }

  /** After a server was made, or given another context. True where tickets of the epoch before are read too. */
  install(server: TlsServer, hook = true): boolean {
    const context = (server as HookedServer)._sharedCreds?.context;
    if (!hook || context?.enableTicketKeyCallback === undefined) {
      server.setTicketKeys(this.current);
      return false;
    }
    context.onticketkeycallback = (name, _iv, encrypt) => (encrypt ? this.#make() : this.#read(name));
    context.enableTicketKeyCallback();
    return true;
  }

  #make(): unknown[] {
    const { name, hmac, aes } = this.#of(this.#epoch());
    return [1, hmac, aes, name, randomBytes(16)];
  }

  #read(name: Buffer): unknown[] {
    const epoch = this.#epoch();
    for (const one of readableEpochs(epoch)) {
      const key = this.#of(one);
      // 2: good, and the client gets another one of this epoch.
      if (name.equals(key.name)) return [one === epoch ? 1 : 2, key.hmac, key.aes];
    }
    return UNKNOWN;
  }

  #epoch(): number {
    return epochAt(this.#clock.wall(), this.#rotate);
  }

  #of(epoch: number): Key {
    let key = this.#keys.get(epoch);
    if (key === undefined) {
      // Whatever the clock does, no more than these are of use.
      if (this.#keys.size > 8) this.#keys.clear();
      const info = `nines tls ticket\0${this.#scope}\0${this.#rotate}\0${epoch}`;
      const bytes = Buffer.from(hkdfSync("sha256", this.#secret, "", info, 48));
      const [name, hmac, aes] = [bytes.subarray(0, 16), bytes.subarray(16, 32), bytes.subarray(32)];
      this.#keys.set(epoch, (key = { bytes, name, hmac, aes }));
    }
    return key;
  }
}

/** What sessions of two services, or under other rules for client certificates, must differ in: 32 characters. */
export const sessionContextOf = (...parts: readonly (string | Uint8Array | undefined)[]): string => {
  const hash = createHash("sha256");
  for (const part of parts) {
    const bytes = Buffer.from(part ?? "");
    hash.update(`${bytes.length}:`).update(bytes);
  }
  return hash.digest("hex").slice(0, 32);
};
