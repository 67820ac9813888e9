import { type Random, chance, randomInt } from "../../base/random.ts";

/** Streams of requests that are in order. */
export const valid = {
  get: "GET /a?b=c HTTP/1.1\r\nHost: x.example\r\nAccept: */*\r\n\r\n",
  post: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
  chunks:
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n",
  old: "GET / HTTP/1.0\r\n\r\n",
};

/** Shapes that Node's own parser lets through or that proxies and backends have read differently. */
export const smuggling: [name: string, stream: string, fault: string][] = [
  [
    "CL.TE",
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "length-and-chunked",
  ],
  [
    "TE.CL",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n",
    "length-and-chunked",
  ],
  [
    "TE.TE: two lines",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
    "duplicate-field",
  ],
  [
    "TE.TE: a list",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "transfer-encoding",
  ],
  [
    "TE.TE: identity",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
    "transfer-encoding",
  ],
  [
    "TE.TE: xchunked",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "transfer-encoding",
  ],
  [
    "TE.TE: vertical tab",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
    "field-value",
  ],
  [
    "TE: tab before the name",
    "POST / HTTP/1.1\r\nHost: x\r\n\tTransfer-Encoding: chunked\r\n\r\n",
    "obs-fold",
  ],
  [
    "TE: space before the colon",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n",
    "space-before-colon",
  ],
  [
    "TE in HTTP/1.0",
    "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    "transfer-encoding-version",
  ],
  [
    "underscore: Content_Length",
    "POST / HTTP/1.1\r\nHost: x\r\nContent_Length: 6\r\n\r\n",
    "underscore-name",
  ],
  [
    "underscore: X_Forwarded_For",
    "GET / HTTP/1.1\r\nHost: x\r\nX_Forwarded_For: 1.2.3.4\r\n\r\n",
    "underscore-name",
  ],
  [
    "two lengths that differ",
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "duplicate-field",
  ],
  [
    "two lengths that agree",
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    "duplicate-field",
  ],
  ["a list of lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n", "content-length"],
  ["a signed length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", "content-length"],
  ["a hexadecimal length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\n", "content-length"],
  [
    "an endless length",
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\n",
    "content-length",
  ],
  ["an empty length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", "content-length"],
  ["obs-fold", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", "obs-fold"],
  ["a space before the first field", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", "field-name"],
  ["bare LF after the request line", "GET / HTTP/1.1\nHost: x\r\n\r\n", "bare-lf"],
  ["bare LF after a field", "GET / HTTP/1.1\r\nHost: x\n\r\n", "bare-lf"],
  ["bare LF as the empty line", "GET / HTTP/1.1\r\nHost: x\r\n\nGET /b HTTP/1.1\r\n\r\n", "bare-lf"],
  ["bare CR in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\rTransfer-Encoding: chunked\r\n\r\n", "bare-cr"],
  ["NUL in a value", "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", "field-value"],
  ["NUL in a name", "GET / HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n", "field-name"],
  ["an empty name", "GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", "field-name"],
  ["a line without a colon", "GET / HTTP/1.1\r\nHost: x\r\nnothing\r\n\r\n", "field-name"],
  ["no Host", "GET / HTTP/1.1\r\nA: b\r\n\r\n", "host-missing"],
  ["an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "host-invalid"],
  ["two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "duplicate-field"],
  ["two Hosts that agree", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "duplicate-field"],
  ["a Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "host-invalid"],
  ["a Host with user information", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "host-invalid"],
  ["a Host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "host-invalid"],
  ["absolute form and Host disagree", "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "host-disagrees"],
  ["absolute form with user information", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "host-invalid"],
  ["absolute form without Host", "GET http://a/ HTTP/1.1\r\n\r\n", "host-missing"],
  ["another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "target-form"],
  ["a relative target", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", "target-form"],
  ["* with GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "target-form"],
  ["a fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "target-fragment"],
  ["a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "version"],
  ["bytes above ASCII in the target", "GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n", "target"],
  ["two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "target"],
  ["HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", "version"],
  ["HTTP/0.9", "GET /\r\n", "target"],
  ["lower-case version", "GET / http/1.1\r\nHost: a\r\n\r\n", "version"],
  ["the HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "version"],
  [
    "Connection names X-Forwarded-For",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Forwarded-For\r\n\r\n",
    "connection-option",
  ],
  ["Connection names Host", "GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", "connection-option"],
  [
    "Connection names Content-Length",
    "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc",
    "connection-option",
  ],
  [
    "Expect of something else",
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\n",
    "expectation",
  ],
  ["GET with a length", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "unexpected-body"],
  [
    "GET with chunks",
    "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unexpected-body",
  ],
  [
    "0x chunk size",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n",
    "chunk-size",
  ],
  [
    "a signed chunk size",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
    "chunk-size",
  ],
  [
    "a space after the chunk size",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n",
    "chunk-size",
  ],
  [
    "a chunk size that overflows",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff5\r\n",
    "chunk-size",
  ],
  [
    "bare LF after a chunk size",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "bare-lf",
  ],
  [
    "LF in a chunk extension",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nhello\r\n0\r\n\r\n",
    "chunk-extension",
  ],
  [
    "a long chunk extension",
    `POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;${"a".repeat(2000)}`,
    "chunk-extension",
  ],
  [
    "a chunk longer than its size",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
    "chunk-end",
  ],
  [
    "bare LF after a chunk",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\n0\r\n\r\n",
    "chunk-end",
  ],
  [
    "Content-Length as a trailer",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n",
    "trailer-field",
  ],
  [
    "Host as a trailer",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: b\r\n\r\n",
    "trailer-field",
  ],
  ["a head that never ends", "GET / HTTP/1.1\r\nHost: x\r\n", "truncated"],
  ["a body that stops", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel", "truncated"],
  ["CONNECT with a path", "CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n", "target-form"],
  ["CONNECT without a port", "CONNECT x HTTP/1.1\r\nHost: x\r\n\r\n", "target-form"],
  [
    "TE.TE: chunked twice in a list",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding",
  ],
  [
    "TE.TE: a parameter",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "transfer-encoding",
  ],
  [
    "TE.TE: quotes",
    'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "transfer-encoding",
  ],
  [
    "TE.TE: a comma before",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding",
  ],
  [
    "underscore: Transfer_Encoding",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer_Encoding: chunked\r\n\r\n",
    "underscore-name",
  ],
  [
    "CL.CL hidden by a space before the colon",
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 4\r\nContent-Length: 0\r\n\r\n",
    "space-before-colon",
  ],
  [
    "Connection names Transfer-Encoding",
    "POST / HTTP/1.1\r\nHost: x\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "connection-option",
  ],
  [
    "Connection names X-Real-IP",
    "GET / HTTP/1.1\r\nHost: x\r\nConnection: X-Real-IP\r\n\r\n",
    "connection-option",
  ],
  ["Connection names Cookie", "GET / HTTP/1.1\r\nHost: x\r\nConnection: cookie\r\n\r\n", "connection-option"],
  [
    "a chunk size that ends with CR alone",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\rhello\r\n0\r\n\r\n",
    "bare-cr",
  ],
  [
    "an empty chunk size",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n;a\r\n\r\n",
    "chunk-size",
  ],
  [
    "Transfer-Encoding as a trailer",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer-field",
  ],
  [
    "bare LF in a trailer",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n",
    "bare-lf",
  ],
  ["a CR before the request line", "\rGET / HTTP/1.1\r\nHost: x\r\n\r\n", "bare-cr"],
  ["a BOM before the request line", "\xef\xbb\xbfGET / HTTP/1.1\r\nHost: x\r\n\r\n", "method"],
  ["a tab as the separator", "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", "method"],
  ["a Host with an odd port", "GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", "host-invalid"],
  ["a backslash authority", "GET http://a\\b/ HTTP/1.1\r\nHost: a\r\n\r\n", "host-invalid"],
];

const METHODS = ["GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "G\0T"];
const TARGETS = [
  "/",
  "/a?b",
  "http://x/",
  "http://y/",
  "http://x?q",
  "*",
  "/a#b",
  "/%2e%2e/x",
  "//x",
  "x",
  "/a;b",
  "/%00",
];
const VERSIONS = ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "http/1.1"];
export const FIELDS = [
  "Host: x",
  "Host: x",
  "Host: y",
  "Content-Length: 5",
  "Content-Length: 0",
  "Content-Length: +5",
  "Content_Length: 5",
  "Transfer-Encoding: chunked",
  "Transfer-Encoding: gzip, chunked",
  "Transfer-Encoding : chunked",
  "Transfer-Encoding:\tchunked",
  "X: y\r\n folded",
  "Accept: */*",
  "Cookie: a=b; c=d",
  "X-Empty:",
  "X-Long: " + "v".repeat(300),
  "Connection: close",
  "Connection: keep-alive",
  "Connection: content-length",
  "Connection: x-forwarded-for",
  "Connection: Upgrade\r\nUpgrade: h2c",
  "Expect: 100-continue",
  "TE: trailers",
  "A: b\nTransfer-Encoding: chunked",
  "A: b\rC: d",
];
const BODIES = [
  "",
  "",
  "hello",
  "hello\r\n",
  "5\r\nhello\r\n0\r\n\r\n",
  "3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n",
  "0\r\n\r\n",
  "5;a=b\r\nhello\r\n0\r\n\r\n",
  "0x5\r\nhello\r\n0\r\n\r\n",
];
const SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/** Heads whose framing fits their body, so that not nearly everything is refused; and whatever comes. */
export function anyRequest(random: Random): string {
  const from = (all: readonly string[]): string => all[randomInt(random, 0, all.length - 1)] ?? "";
  const head = (fields: readonly string[], method = from(METHODS)): string =>
    `${method} ${from(TARGETS)} ${from(VERSIONS)}\r\n${fields.join("\r\n")}\r\n\r\n`;
  const some = Array.from({ length: randomInt(random, 0, 2) }, () => from(FIELDS));
  const more = chance(random, 0.5) ? SMUGGLED : "";
  switch (randomInt(random, 0, 3)) {
    case 0: {
      const body = from(["", "hello", "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"]);
      const method = from(["POST", "PUT", "PATCH"]);
      return head([`Host: x`, `Content-Length: ${body.length}`, ...some], method) + body + more;
    }
    case 1: {
      const chunks = from(BODIES.slice(4));
      return head(["Host: x", "Transfer-Encoding: chunked", ...some], from(["POST", "PUT"])) + chunks + more;
    }
    default: {
      const fields = chance(random, 0.2) && some.length > 0 ? some : ["Host: x", ...some];
      return head(fields) + from(BODIES) + more;
    }
  }
}
