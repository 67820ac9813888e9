import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage, RequestListener } from "node:http";
import type { ApiError } from "../contracts/api.ts";

export const TOKEN_LEAST = 16;
/** What a guess costs whoever guesses. */
const REFUSAL_DELAY_MS = 500;

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

/** Lets through who shows the token (`authorization: Bearer TOKEN`); compared in constant time, never logged. */
export function guarded(
  token: string,
  inner: RequestListener,
  refused: (why: string) => void,
): RequestListener {
  const right = digest(token);
  return (request, response) => {
    const why = refusal(request, right);
    if (why === undefined) {
      inner(request, response);
      return;
    }
    refused(why);
    request.resume();
    const error: ApiError = { error: { code: "PERMISSION", message: why, retryable: false } };
    const text = `${JSON.stringify(error)}\n`;
    setTimeout(() => {
      response.writeHead(401, {
        "content-type": "application/json",
        "content-length": Buffer.byteLength(text),
        "www-authenticate": "Bearer",
        connection: "close",
      });
      response.end(text);
    }, REFUSAL_DELAY_MS).unref();
  };
}

function refusal(request: IncomingMessage, right: Buffer): string | undefined {
  const header = request.headers.authorization ?? "";
  if (header === "") return "the request shows no token";
  const [scheme, shown = ""] = header.split(" ");
  if (scheme?.toLowerCase() !== "bearer") return "the request shows no bearer token";
  return timingSafeEqual(digest(shown), right) ? undefined : "the token is wrong";
}
