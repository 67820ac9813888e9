import { STATUS_CODES } from "node:http";

export interface OwnReply {
  readonly phrase: string;
  readonly lines: string;
  readonly body: Uint8Array;
}

export const phraseOf = (status: number): string => STATUS_CODES[status] ?? "";

/** An answer of the proxy's own: an error page where the site has one, a line of text where not. */
export function replyFor(
  errorPages: Readonly<Record<string, string>>,
  requestId: string,
  status: number,
  lines: string,
  body: string | Uint8Array | undefined,
): OwnReply {
  const phrase = phraseOf(status);
  if (body !== undefined) return { phrase, lines, body: typeof body === "string" ? Buffer.from(body) : body };
  const page = errorPages[String(status)];
  if (page !== undefined) {
    return {
      phrase,
      lines: `${lines}Content-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\n`,
      body: Buffer.from(page),
    };
  }
  const id = requestId === "" ? "" : ` (request ${requestId})`;
  return {
    phrase,
    lines: `${lines}Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n`,
    body: Buffer.from(`${status} ${phrase}${id}\n`),
  };
}
