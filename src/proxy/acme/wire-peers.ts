/**
 * What the nodes of a site tell each other of certificates: one JSON object, as the answer to a question and as news.
 * Whoever reads it adds what is newer than its own and never takes anything away; only `challenges` are always all.
 */
import { z } from "zod";
import { type Result, fail, ok } from "../../base/result.ts";

/** The longest message that is read. A key and its chain are about 6 KiB, a proof 2 KiB. */
export const PEER_STATE_BYTES = 1024 * 1024;
const PEM_CHARACTERS = 64 * 1024;
const SERVICES = 256;

const name = z.string().min(1).max(253);
const pem = z.string().min(1).max(PEM_CHARACTERS);
/** Both are of the base64url alphabet, the answer of two such parts (RFC 8555 8.1). */
const token = z.string().regex(/^[\w-]{1,256}$/);
const answer = z.string().regex(/^[\w-]{1,256}(\.[\w-]{1,256})?$/);

const few = <T extends z.ZodType>(value: T) =>
  z.record(name, value).refine((all) => Object.keys(all).length <= SERVICES, "too many entries");

const peerState = z.strictObject({
  version: z.literal(1),
  site: name,
  node: name,
  /** Grows with each message of a node: an answer that was overtaken by news brings no challenge back. */
  sequence: z.number().min(0),
  /** By service: the key, then the chain. */
  certificates: few(pem),
  /** By the directory's URL. `made`: milliseconds since 1970; of two accounts the newer one is used. */
  accounts: z
    .record(
      z.string().max(2048),
      z.strictObject({ key: pem, url: z.url().max(2048), made: z.number().min(0) }),
    )
    .refine((all) => Object.keys(all).length <= SERVICES, "too many entries"),
  /** What an authority must find now, at whatever node it asks. */
  challenges: z
    .array(
      z.discriminatedUnion("kind", [
        z.strictObject({ kind: z.literal("http-01"), token, answer }),
        z.strictObject({ kind: z.literal("tls-alpn-01"), name, certificate: pem, key: pem }),
      ]),
    )
    .max(100),
  /** Services whose certificate this node orders when it is due, since the authority finds it here. */
  claims: z.array(name).max(SERVICES),
  /** Services whose certificate it orders at this moment. */
  ordering: z.array(name).max(SERVICES),
});

export type PeerState = z.output<typeof peerState>;

/** Never throws, and says nothing of what is inside: it holds keys. */
export function decodePeerState(text: string): Result<PeerState> {
  if (text.length > PEER_STATE_BYTES) return fail("it is longer than 1 MiB");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return fail("it is not JSON");
  }
  const parsed = peerState.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  return fail(
    `it does not have the agreed shape at ${parsed.error.issues[0]?.path[0]?.toString() ?? "its top"}`,
  );
}
