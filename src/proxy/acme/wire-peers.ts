/**
 * What the nodes of a site tell each other of certificates: one JSON object, as the answer to a question and as news.
 * Whoever reads it adds what is newer than its own and never takes anything away; only `challenges` are always all.
 */
import { z } from "zod";
import { type Result, fail, ok } from "../../base/result.ts";
import { SHARED_CERTIFICATES } from "../../config/schema/tls.ts";

const SERVICES = SHARED_CERTIFICATES;
const PEM_CHARACTERS = 64 * 1024;
/** The longest message that is read: all services, each with 16 KiB. A key and its chain are about 6, a proof is 2. */
export const PEER_STATE_BYTES = SERVICES * 16 * 1024;
/** What an authority says of an order that failed is cut to this. */
export const REASON_CHARACTERS = 500;

/** What this program reads, told in the header `VERSION_HEADER` of every question and answer. */
export const PEER_VERSION = 2;
export const VERSION_HEADER = "nines-certificates";
export type PeerVersion = 1 | 2;

const name = z.string().min(1).max(253);
const pem = z.string().min(1).max(PEM_CHARACTERS);
/** Both are of the base64url alphabet, the answer of two such parts (RFC 8555 8.1). */
const token = z.string().regex(/^[\w-]{1,256}$/);
const answer = z.string().regex(/^[\w-]{1,256}(\.[\w-]{1,256})?$/);

const few = <T extends z.ZodType>(value: T) =>
  z.record(name, value).refine((all) => Object.keys(all).length <= SERVICES, "too many entries");

const peerState = z.strictObject({
  version: z.literal([1, 2]),
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
  /** Since version 2. By service: orders that failed in a row, at whatever node: the account is one. */
  troubles: few(
    z.strictObject({
      failures: z.number().int().min(1),
      /** Milliseconds since 1970. */
      at: z.number().min(0),
      reason: z.string().max(REASON_CHARACTERS),
      of: z.string().max(64),
      node: name,
    }),
  ).default({}),
});

export type PeerState = z.output<typeof peerState>;
/** What a node has to say; the site and the version are those of whoever carries it. */
export type PeerNews = Omit<PeerState, "version" | "site">;

/** For a peer that reads `version`: one that reads 1 refuses what came later. */
export function encodePeerState(news: PeerNews, site: string, version: PeerVersion): string {
  const { troubles, ...first } = news;
  return JSON.stringify({ version, site, ...first, ...(version === 1 ? {} : { troubles }) });
}

/** What both sides read, by what the other one says of itself; who says nothing reads 1. */
export const versionWith = (theirs: unknown): PeerVersion => (Number(theirs) >= 2 ? 2 : 1);

/** Never throws, and says nothing of what is inside: it holds keys. */
export function decodePeerState(text: string): Result<PeerState> {
  if (text.length > PEER_STATE_BYTES) return fail("it is longer than 4 MiB");
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
