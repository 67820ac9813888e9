import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { smuggling, valid } from "../testing/corpus.ts";
import { type Reading, bytesOf, chunked, read, readText, testLimits } from "../testing/reading.ts";

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

// Found by fuzzing: the reason depended on how the bytes came.
describe("gives one reason however the bytes come", () => {
  it.each([
    [
      "a fault beyond the limit",
      `GET / HTTP/1.1\r\nHost: x\r\nA: ${"a".repeat(17_000)}\r\n\0\r\n\r\n`,
      "head-too-large",
    ],
    [
      "a trailer that is broken and never ends",
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\r\n",
      "bare-cr",
    ],
  ])("%s", (_, stream, fault) => {
    expect(readText("request", stream).fault).toBe(fault);
    expect(read("request", chunked(bytesOf(stream), [1])).fault).toBe(fault);
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
