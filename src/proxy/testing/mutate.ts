import { type Random, chance, randomInt } from "../../base/random.ts";
import { FIELDS, anyRequest, smuggling, valid } from "./corpus.ts";
import { bytesOf } from "./reading.ts";

const RESPONSES = [
  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
  "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
  "HTTP/1.1 204 No Content\r\n\r\n",
  "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
  "HTTP/1.0 200 OK\r\n\r\nuntil the end",
  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbytes",
  "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
  "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 1\r\n\r\nx",
];
const UPGRADE =
  "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
  "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\nbytes";
/** Text that means something to one reader or another. */
const PIECES = [
  "\r\n",
  "\n",
  "\r",
  "\r\n\r\n",
  " ",
  "\t",
  ":",
  "\0",
  "\x7f",
  "\xff",
  "0",
  "ffffffff",
  "-1",
  "chunked",
  "HTTP/1.1",
  "close",
  "0\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
];

const from = <T>(random: Random, all: readonly T[]): T => all.at(randomInt(random, 0, all.length - 1)) as T;

function base(random: Random, role: "request" | "response"): string {
  if (role === "response") return from(random, RESPONSES);
  switch (randomInt(random, 0, 3)) {
    case 0:
      return from(random, Object.values(valid));
    case 1:
      return from(random, smuggling)[1];
    case 2:
      return chance(random, 0.2) ? UPGRADE : from(random, Object.values(valid));
    default:
      return anyRequest(random);
  }
}

function mutated(random: Random, text: string, role: "request" | "response"): string {
  const at = randomInt(random, 0, text.length);
  const lines = text.split("\r\n");
  const line = randomInt(random, 0, lines.length - 1);
  switch (randomInt(random, 0, 9)) {
    case 0:
      return text.slice(0, at) + from(random, PIECES) + text.slice(at);
    case 1:
      return text.slice(0, at) + text.slice(at + randomInt(random, 1, 4));
    case 2:
      return text.slice(0, at) + String.fromCharCode(randomInt(random, 0, 255)) + text.slice(at + 1);
    case 3:
      return lines.toSpliced(line, 0, ...lines.slice(line, line + 1)).join("\r\n");
    case 4:
      return lines.toSpliced(line, 1).join("\r\n");
    case 5:
      return lines.toSpliced(Math.max(1, line), 0, from(random, FIELDS)).join("\r\n");
    case 6:
      return text.slice(0, at);
    case 7:
      return text + base(random, role);
    case 8:
      return text.slice(0, at) + from(random, PIECES).repeat(randomInt(random, 1, 3000)) + text.slice(at);
    default:
      return text.replaceAll(/\d+/g, (digits) =>
        chance(random, 0.5) ? digits : String(randomInt(random, 0, 100_000)),
      );
  }
}

/** A stream that knows what HTTP looks like and breaks it in a few places. */
export function fuzzed(random: Random, role: "request" | "response"): Uint8Array {
  let text = base(random, role);
  for (let i = randomInt(random, 0, 4); i > 0; i--) text = mutated(random, text, role);
  return bytesOf(text.slice(0, 100_000));
}

/** The same bytes in pieces: one, a few, or drop by drop. */
export function split(random: Random, bytes: Uint8Array): Uint8Array[] {
  const most = from(random, [bytes.length, 4096, 64, 16, 3, 1]);
  // Drop by drop only what is short: the time goes into streams, not into bytes.
  const least = bytes.length > 4000 ? 500 : 1;
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + Math.max(least, randomInt(random, 1, Math.max(1, most)));
    pieces.push(bytes.subarray(at, end));
    at = end;
  }
  return pieces;
}
