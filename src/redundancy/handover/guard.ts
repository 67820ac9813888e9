/** Which messages between nodes are believed: their HMAC, whose they say they are, and that they are no replay. */
import { createHmac, timingSafeEqual } from "node:crypto";
import { type Result, fail, ok } from "../../base/result.ts";
import { type Datagram, HMAC_BYTES, type HandoverDropReason, decodeDatagram } from "./wire.ts";

export type GuardDropReason = HandoverDropReason | "authentication" | "name" | "replay";

export interface Believed extends Datagram {
  /** The first message of another process of the node than the one that spoke before. */
  readonly restarted: boolean;
}

/** One per process; remembers the last message of every node. */
export class MessageGuard {
  readonly #secret: Uint8Array | undefined;
  readonly #seen = new Map<string, { boot: number; sequence: number }>();

  constructor(secret: Uint8Array | undefined) {
    this.#secret = secret;
  }

  seal(plain: Uint8Array): Uint8Array {
    return this.#secret ? Buffer.concat([plain, hmac(plain, this.#secret)]) : plain;
  }

  /** `from`: whose address it came from. */
  open(
    bytes: Uint8Array,
    from: { readonly site: string; readonly node: string },
  ): Result<Believed, GuardDropReason> {
    const secret = this.#secret;
    let plain = bytes;
    if (secret) {
      plain = bytes.subarray(0, Math.max(0, bytes.length - HMAC_BYTES));
      const tag = bytes.subarray(plain.length);
      if (tag.length !== HMAC_BYTES || !timingSafeEqual(tag, hmac(plain, secret)))
        return fail("authentication");
    }
    const decoded = decodeDatagram(plain);
    if (!decoded.ok) return decoded;
    const { boot, sequence, site, node } = decoded.value;
    if (site !== from.site || node !== from.node) return fail("name");
    const seen = this.#seen.get(node);
    const older = seen && (boot < seen.boot || (boot === seen.boot && sequence <= seen.sequence));
    // Without a secret nothing is gained by refusing a clock that was set back over a restart.
    if (older && (secret !== undefined || boot === seen.boot)) return fail("replay");
    this.#seen.set(node, { boot, sequence });
    return ok({ ...decoded.value, restarted: seen !== undefined && seen.boot !== boot });
  }
}

const hmac = (bytes: Uint8Array, secret: Uint8Array): Uint8Array =>
  createHmac("sha256", secret).update(bytes).digest();
