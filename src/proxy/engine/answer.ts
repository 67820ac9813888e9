import { Framing, type FramingKind, type Head } from "../http1/wire-head.ts";
import { Field } from "../http1/wire-names.ts";
import { grpcStatusOf } from "../http2/policy-grpc.ts";
import type { RoutePlan } from "../plan.ts";
import { type Encoding, chooseEncoding, mayCompress } from "./compress.ts";
import type { Downstream } from "./downstream.ts";
import { keptLines } from "./lines.ts";
import type { MiddlewareView } from "./middleware.ts";
import { type OwnReply, phraseOf } from "./replies.ts";

/** No length is told: the body's end is. */
const UNTOLD = -1;

/** The lines of a backend's response that go on to the client. */
export const passedLines = (head: Head, route: RoutePlan): string =>
  keptLines(head, route.response.drop, route.response.others, undefined) + route.response.lines;

/**
 * Sends the head of a backend's response. Returns how its body is to be compressed on the way; undefined for
 * not at all.
 */
export function sendAnswer(
  downstream: Downstream,
  request: Head,
  head: Head,
  route: RoutePlan,
  more: { readonly lines: string; readonly view: MiddlewareView | undefined },
): Encoding | undefined {
  const { status } = head;
  let lines = passedLines(head, route) + more.lines;
  if (more.view !== undefined && more.view.editors.length > 0) lines = more.view.editResponse(status, lines);
  let { framing } = head;
  let length = framing === Framing.length || head.has(Field.contentLength) ? head.length : UNTOLD;
  let encoding: Encoding | undefined;
  if (!route.plain && mayCompress(route, head, downstream.version)) {
    lines += "Vary: Accept-Encoding\r\n";
    if (framing !== Framing.none) encoding = chooseEncoding(route, request);
    if (encoding !== undefined) {
      // Other bytes than the backend's, so that its strong validator is a weak one here (RFC 9110 8.8.1).
      lines = lines.replace(/^(etag: )(?=")/im, "$1W/");
      lines += `Content-Encoding: ${encoding}\r\n`;
      framing = Framing.chunked;
      length = UNTOLD;
    }
  }
  const empty = framing === Framing.none && length < 0;
  if (empty && status !== 204 && status !== 304 && request.method !== "HEAD") length = 0;
  downstream.sendHead(status, head.reason, lines, framing, length);
  return encoding;
}

/** Statuses of which no answer has a body (RFC 9110 15.3.5, 15.3.6, 15.4.5). */
const BODILESS: ReadonlySet<number> = new Set([204, 205, 304]);

/** Sends an answer of the proxy's own, whole. Returns the bytes of its body. */
export function sendOwn(
  downstream: Downstream,
  request: Head,
  status: number,
  answer: OwnReply,
  lines: string,
): number {
  const { phrase, body } = answer;
  const none = BODILESS.has(status);
  const bodiless = none || body.length === 0 || request.method === "HEAD";
  const framing: FramingKind = bodiless ? Framing.none : Framing.length;
  // Without a body 205 still tells its length; the other two may not, or would tell that of another answer.
  const length = !none ? body.length : status === 205 ? 0 : UNTOLD;
  downstream.sendHead(status, phrase, answer.lines + lines, framing, length);
  if (!bodiless) downstream.sendBody(body, 0, body.length, true);
  downstream.sendEnd([]);
  return bodiless ? 0 : body.length;
}

/** To a client of gRPC: a head alone, with the status in its fields ("Trailers-Only"). */
export function sendOwnGrpc(downstream: Downstream, status: number, reason: string): void {
  const text = `${phraseOf(status)}${reason === "" ? "" : ` (${reason.replaceAll(/[^ -$&-~]/g, "_")})`}`;
  const lines =
    "Content-Type: application/grpc\r\n" +
    `Grpc-Status: ${grpcStatusOf(status, reason)}\r\nGrpc-Message: ${text}\r\n`;
  downstream.sendHead(200, "", lines, Framing.none, UNTOLD);
  downstream.sendEnd([]);
}
