/** What a backend of the lab answers where a pool's check asks, so that the check finds it good. Pure. */
import type { Check } from "../contracts/site.ts";
import { bytesOf } from "../health/probes/answer.ts";

/** Why the lab's backends cannot answer such a check; undefined where they can. */
export function whyUnanswered(check: Check): string | undefined {
  const overTls = (check.kind === "http" || check.kind === "tcp") && check.tls;
  return overTls ? "the lab's backends speak no TLS: drills need a check without it" : undefined;
}

/** To a request for this target. */
export function httpAnswer(
  check: Check | undefined,
  target: string,
  name: string,
): { readonly status: number; readonly body: string } {
  if (check?.kind !== "http" || target !== check.path) return { status: 200, body: name };
  const status = Number(check.status.slice(0, 3));
  const bodiless = status === 204 || status === 304;
  return { status, body: bodiless ? "" : `${name}${check.body ?? ""}` };
}

/** What is said to a client that waits for the server's first word. */
export const greeting = (check: Check | undefined): Buffer | undefined =>
  check?.kind === "tcp" && check.send === undefined && check.expect !== undefined
    ? bytesOf(check.expect, check)
    : undefined;

/** To these bytes of a connection, or this datagram; undefined where they are not the check's. */
export function answerTo(check: Check | undefined, asked: Buffer): Buffer | undefined {
  if (check?.kind === "dns") return dnsAnswer(asked, check.type);
  if (check?.kind !== "tcp" && check?.kind !== "udp") return undefined;
  const { send, expect } = check;
  if (send === undefined || !asked.equals(bytesOf(send, check))) return undefined;
  return expect === undefined ? Buffer.from("here") : bytesOf(expect, check);
}

/** A name that is the question's own (RFC 1035, 4.1.4). */
const SAME_NAME = [0xc0, 12];
const zeros = (count: number): number[] => Array.from({ length: count }, () => 0);
const records: Readonly<
  Record<Extract<Check, { kind: "dns" }>["type"], { type: number; data: readonly number[] }>
> = {
  A: { type: 1, data: [192, 0, 2, 1] },
  NS: { type: 2, data: SAME_NAME },
  SOA: { type: 6, data: [...SAME_NAME, ...SAME_NAME, ...zeros(20)] },
  PTR: { type: 12, data: SAME_NAME },
  MX: { type: 15, data: [0, 10, ...SAME_NAME] },
  TXT: { type: 16, data: [1, 0x78] },
  AAAA: { type: 28, data: [0x20, 1, 0x0d, 0xb8, ...zeros(12)] },
  SRV: { type: 33, data: [...zeros(6), 0] },
};

/** One record for whatever name is asked for (RFC 1035, 4.1); undefined where it is no question. */
function dnsAnswer(query: Buffer, kind: keyof typeof records): Buffer | undefined {
  const name = query.indexOf(0, 12);
  const end = name + 5;
  const { type, data } = records[kind];
  if (name < 0 || query.length < end || query.readUInt16BE(4) !== 1 || query.readUInt16BE(name + 1) !== type)
    return undefined;
  const head = [0x84 | ((query[2] ?? 0) & 1), 0, 0, 1, 0, 1, 0, 0, 0, 0];
  const record = [...SAME_NAME, 0, type, 0, 1, 0, 0, 0, 60, 0, data.length, ...data];
  return Buffer.concat([
    query.subarray(0, 2),
    Buffer.from(head),
    query.subarray(12, end),
    Buffer.from(record),
  ]);
}
