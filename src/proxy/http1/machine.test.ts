import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Reading, bytesOf, read, readText, testLimits } from "../testing/reading.ts";

const chunked = (bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] => {
  const chunks: Uint8Array[] = [];
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1;
    chunks.push(bytes.subarray(at, at + size));
    at += size;
  }
  return chunks;
};

const valid = {
  get: "GET /a?b=c HTTP/1.1\r\nHost: x.example\r\nAccept: */*\r\n\r\n",
  post: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
  chunks:
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n",
  old: "GET / HTTP/1.0\r\n\r\n",
};

describe("requests (RFC 9112)", () => {
  it("reads pipelined messages of every framing", () => {
    const { messages, fault } = readText(
      "request",
      valid["get"] + valid["post"] + valid["chunks"] + valid["old"],
    );
    expect(fault).toBeUndefined();
    expect(messages.map((m) => m.start)).toEqual([
      "GET /a?b=c x.example 1.1",
      "POST / x 1.1",
      "POST / x 1.1",
      "GET /  1.0",
    ]);
    expect(messages.map((m) => m.body)).toEqual(["", "hello", "hello!", ""]);
    expect(messages[2]?.trailers).toEqual([["X-Sum", "1"]]);
  });

  it("turns the absolute form into the origin form (3.2.2)", () => {
    const { messages } = readText(
      "request",
      "GET http://x.example:8080?q HTTP/1.1\r\nHost: x.example:8080\r\n\r\n",
    );
    expect(messages[0]?.start).toBe("GET /?q x.example:8080 1.1");
  });

  it("trims optional white space around values and keeps obs-text", () => {
    const { messages } = readText(
      "request",
      "GET / HTTP/1.1\r\nHost:x\r\nA: \t b c \t\r\nB:\r\nC: \xe9\r\n\r\n",
    );
    expect(messages[0]?.fields).toEqual([
      ["Host", "x"],
      ["A", "b c"],
      ["B", ""],
      ["C", "\xe9"],
    ]);
  });

  it("skips one empty line before a request (2.2)", () => {
    expect(readText("request", `\r\n${valid["get"]}`).messages).toHaveLength(1);
  });

  it("gives the same messages whatever the chunks are", () => {
    const streams = [
      ...Object.values(valid),
      Object.values(valid).join(""),
      ...smuggling.map(([, text]) => text),
    ];
    fc.assert(
      fc.property(
        fc.constantFrom(...streams),
        fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 12 }),
        (stream, sizes) => {
          const whole = readText("request", stream);
          const parts = read("request", chunked(bytesOf(stream), sizes));
          expect(parts).toEqual(whole);
        },
      ),
      { numRuns: 300 },
    );
  });
});

/** Shapes that Node's own parser lets through or that proxies and backends have read differently. */
const smuggling: [name: string, stream: string, fault: string][] = [
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
];

describe("refuses, with a reason", () => {
  it.each(smuggling)("%s", (_, stream, fault) => {
    expect(readText("request", stream).fault).toBe(fault);
  });

  it("a head over its limit, in one piece or drop by drop", () => {
    const stream = bytesOf(`GET / HTTP/1.1\r\nHost: x\r\nA: ${"a".repeat(3000)}\r\n\r\n`);
    const limits = { ...testLimits, head: 2048 };
    expect(read("request", [stream], limits).fault).toBe("head-too-large");
    expect(read("request", chunked(stream, [7]), limits).fault).toBe("head-too-large");
  });

  it("too many fields", () => {
    const stream = `GET / HTTP/1.1\r\nHost: x\r\n${"A: b\r\n".repeat(100)}\r\n`;
    expect(readText("request", stream).fault).toBe("too-many-fields");
  });
});

describe("responses", () => {
  const body = (text: string): string | undefined => readText("response", text).messages[0]?.body;

  it("reads every framing, and until the end where there is none", () => {
    expect(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")).toBe("hi");
    expect(body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")).toBe("hi");
    expect(body("HTTP/1.0 200 OK\r\n\r\nhi there")).toBe("hi there");
  });

  it("knows statuses without a body", () => {
    const two = (status: number): number =>
      readText(
        "response",
        `HTTP/1.1 ${status} X\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n`,
      ).messages.length;
    expect([100, 103, 204, 304].map(two)).toEqual([2, 2, 2, 2]);
  });

  it("takes a status line without a reason", () => {
    expect(readText("response", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n").messages[0]?.start).toBe(
      "200  1.1",
    );
  });

  it.each([
    [
      "both lengths",
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
      "length-and-chunked",
    ],
    ["two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", "duplicate-field"],
    ["a switch that nobody asked for", "HTTP/1.1 101 Go\r\n\r\n", "unexpected-switch"],
    ["HTTP/0.9", "hello", "version"],
    ["a status of two digits", "HTTP/1.1 20 OK\r\n\r\n", "status-line"],
    ["a body that stops", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", "truncated"],
    ["chunks that stop", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "truncated"],
  ])("refuses %s", (_, stream, fault) => {
    expect(readText("response", stream).fault).toBe(fault);
  });
});

describe("arbitrary bytes", () => {
  const noise = fc.uint8Array({ maxLength: 200 });
  const pieces = fc.array(
    fc.oneof(
      noise.map((bytes) => Buffer.from(bytes).toString("latin1")),
      fc.constantFrom(
        "\r\n",
        "\n",
        "GET / HTTP/1.1\r\n",
        "Host: x\r\n",
        "HTTP/1.1 200 OK\r\n",
        "\r\n\r\n",
        ": ",
        "0\r\n",
        " ",
      ),
      fc.constantFrom(
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "POST / HTTP/1.1\r\n",
        "a\r\n",
        "\0",
      ),
    ),
    { maxLength: 20 },
  );
  it.each(["request", "response"] as const)("never throw and never depend on chunks (%s)", (role) => {
    fc.assert(
      fc.property(pieces, fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 8 }), (parts, sizes) => {
        const bytes = bytesOf(parts.join(""));
        const whole: Reading = read(role, [bytes]);
        expect(read(role, chunked(bytes, sizes))).toEqual(whole);
      }),
      { numRuns: 400 },
    );
  });
});
