import { describe, expect, it } from "vitest";
import fc from "fast-check";
import { Framing } from "../http1/wire-head.ts";
import { Field, FieldNames } from "../http1/wire-names.ts";
import { readRequest } from "./wire-request.ts";
import { addLines, addTrailers, newFields, readResponse, readTrailers } from "./wire-response.ts";

const names = new FieldNames();
const limits = { head: 16_384, fields: 100, bodyOnGet: false };
const START = [":method", "POST", ":scheme", "https", ":authority", "shop.example", ":path", "/x?y"];
const without = (name: string): string[] => {
  const at = START.indexOf(name);
  return [...START.slice(0, at), ...START.slice(at + 2)];
};
const faultOf = (raw: readonly string[], ended = true): string => {
  const reading = readRequest(raw, ended, names, limits);
  return reading.ok ? "" : reading.fault;
};

describe("a request over HTTP/2", () => {
  it("becomes the head that HTTP/1.1 would have", () => {
    const reading = readRequest(
      [...START, "a", "1", "cookie", "a=1", "cookie", "b=2", "te", "trailers"],
      false,
      names,
      limits,
    );
    if (!reading.ok) throw new Error(reading.fault);
    const { head } = reading;
    expect(head.text).toBe("POST /x?y HTTP/1.1\r\na: 1\r\nte: trailers\r\ncookie: a=1; b=2\r\n\r\n");
    expect([head.method, head.target, head.authority]).toEqual(["POST", "/x?y", "shop.example"]);
    expect(head.get(Field.cookie)).toBe("a=1; b=2");
    expect(head.framing).toBe(Framing.chunked);
  });

  const hostile: Record<string, { raw: string[]; fault: string; ended?: boolean }> = {
    "CR LF in a value (a header smuggled by downgrade)": {
      raw: [...START, "a", "b\r\ntransfer-encoding: chunked"],
      fault: "field-value",
    },
    "a bare LF in a value": { raw: [...START, "a", "b\nc: d"], fault: "field-value" },
    "NUL in a value": { raw: [...START, "a", "b\0"], fault: "field-value" },
    "white space at a value's end": { raw: [...START, "a", "b "], fault: "field-value" },
    "a character beyond latin1": { raw: [...START, "a", "\u0100"], fault: "field-value" },
    "CR LF in a name": { raw: [...START, "a\r\nb", "c"], fault: "field-name" },
    "a colon in a name": { raw: [...START, "a: b", "c"], fault: "field-name" },
    "capitals in a name": { raw: [...START, "Transfer-Encoding", "chunked"], fault: "field-name" },
    "an empty name": { raw: [...START, "", "x"], fault: "field-name" },
    "transfer-encoding (H2.TE)": {
      raw: [...START, "transfer-encoding", "chunked"],
      fault: "h2-connection-field",
    },
    "connection: x-forwarded-for": {
      raw: [...START, "connection", "x-forwarded-for"],
      fault: "h2-connection-field",
    },
    "keep-alive": { raw: [...START, "keep-alive", "5"], fault: "h2-connection-field" },
    "proxy-connection": { raw: [...START, "proxy-connection", "close"], fault: "h2-connection-field" },
    upgrade: { raw: [...START, "upgrade", "h2c"], fault: "h2-connection-field" },
    "te other than trailers": { raw: [...START, "te", "gzip"], fault: "h2-connection-field" },
    "content_length beside the real one": {
      raw: [...START, "content_length", "5"],
      fault: "underscore-name",
    },
    "two hosts": { raw: [...START, "host", "other.example"], fault: "host-disagrees" },
    "host twice": {
      raw: [...START, "host", "shop.example", "host", "shop.example"],
      fault: "duplicate-field",
    },
    "no host at all": { raw: without(":authority"), fault: "host-missing" },
    "an empty authority": { raw: [...without(":authority"), "host", ""], fault: "host-invalid" },
    "user information in the authority": {
      raw: [":method", "GET", ":scheme", "https", ":authority", "me@shop.example", ":path", "/"],
      fault: "host-invalid",
    },
    "a space in the path": {
      raw: [":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/ HTTP/1.1"],
      fault: "target",
    },
    "CR LF in the path": {
      raw: [":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/\r\nx: y"],
      fault: "target",
    },
    "a fragment in the path": {
      raw: [":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/#x"],
      fault: "target-fragment",
    },
    "an absolute path": {
      raw: [":method", "GET", ":scheme", "https", ":authority", "a", ":path", "http://b/"],
      fault: "target-form",
    },
    "an empty path": {
      raw: [":method", "GET", ":scheme", "https", ":authority", "a", ":path", ""],
      fault: "h2-pseudo",
    },
    "a method with a space": {
      raw: [":method", "GET / HTTP/1.1", ":scheme", "https", ":authority", "a", ":path", "/"],
      fault: "method",
    },
    "another scheme": {
      raw: [":method", "GET", ":scheme", "ftp", ":authority", "a", ":path", "/"],
      fault: "h2-pseudo",
    },
    "no path": { raw: without(":path"), fault: "h2-pseudo" },
    "no scheme": { raw: without(":scheme"), fault: "h2-pseudo" },
    "a path twice": { raw: [...START, ":path", "/admin"], fault: "h2-pseudo" },
    "a pseudo-header after a header": {
      raw: [...without(":path"), "a", "b", ":path", "/"],
      fault: "h2-pseudo",
    },
    "an unknown pseudo-header": { raw: [...START, ":status", "200"], fault: "h2-pseudo" },
    "two lengths": {
      raw: [...START, "content-length", "1", "content-length", "1"],
      fault: "duplicate-field",
    },
    "a length that is not a number": {
      raw: [...START, "content-length", "+5"],
      fault: "content-length",
      ended: false,
    },
    "a length without DATA": { raw: [...START, "content-length", "5"], fault: "h2-length" },
    "GET with a body": {
      raw: [":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/", "content-length", "5"],
      fault: "unexpected-body",
      ended: false,
    },
    ":protocol without CONNECT": { raw: [":protocol", "websocket", ...START], fault: "h2-pseudo" },
    "a head larger than the limit": { raw: [...START, "a", "x".repeat(20_000)], fault: "head-too-large" },
    "more headers than the limit": {
      raw: [...START, ...Array.from({ length: 101 }, (_, i) => [`a${i}`, "b"]).flat()],
      fault: "too-many-fields",
    },
  };
  for (const [what, { raw, fault, ended }] of Object.entries(hostile)) {
    it(`is refused with ${what}`, () => {
      expect(faultOf(raw, ended ?? true)).toBe(fault);
    });
  }

  it("never yields a line that its fields do not account for, whatever comes", () => {
    const text = fc.string({
      unit: fc.constantFrom("a", "b", ":", "\r", "\n", "\0", " ", "-", "_", "\u00ff", "1"),
    });
    fc.assert(
      fc.property(fc.array(fc.tuple(text, text)), (fields) => {
        const reading = readRequest([...START, ...fields.flat()], false, names, limits);
        if (!reading.ok) return;
        const lines = reading.head.text.split("\r\n");
        expect(lines.length).toBe(reading.head.count + 3);
        expect(reading.head.text).not.toMatch(/[^\r]\n|\r[^\n]|\0/);
      }),
    );
  });
});

describe("a response over HTTP/2", () => {
  it("is refused with what HTTP/1.1 could not say", () => {
    const fault = (raw: string[]): string => {
      const reading = readResponse(raw, false, false, names, limits);
      return reading.ok ? "" : reading.fault;
    };
    expect(fault([":status", "200", "a", "b\r\nc"])).toBe("field-value");
    expect(fault([":status", "200", "transfer-encoding", "chunked"])).toBe("h2-connection-field");
    expect(fault([":status", "101"])).toBe("status-line");
    expect(fault([":status", "20"])).toBe("status-line");
    expect(fault(["a", "b"])).toBe("status-line");
    expect(fault([":status", "200", ":path", "/"])).toBe("h2-pseudo");
    expect(fault([":status", "200", "content-length", "x"])).toBe("content-length");
  });

  it("has no trailers that frame, route or authenticate", () => {
    for (const name of [
      "content-length",
      "transfer-encoding",
      "host",
      "set-cookie",
      "content_length",
      "Host",
      ":status",
    ])
      expect(readTrailers([name, "1"], names, limits).ok).toBe(false);
    expect(readTrailers(["grpc-status", "0"], names, limits)).toEqual({
      ok: true,
      trailers: [{ name: "grpc-status", value: "0" }],
    });
  });

  it("keeps repeated fields apart", () => {
    const fields = newFields({ ":status": "200" });
    expect(addLines(fields, "Set-Cookie: a=1\r\nset-cookie: b=2\r\nX: y\r\nconstructor: z\r\n")).toBe(true);
    expect({ ...fields }).toEqual({
      ":status": "200",
      "set-cookie": ["a=1", "b=2"],
      x: "y",
      constructor: "z",
    });
  });

  it("gives node:http2 nothing that it throws at: one value where there is one, no fields of the connection", () => {
    const fields = newFields();
    expect(addLines(fields, "Connection: close\r\nTE: gzip\r\nIf-Match: a\r\nIf-Match: b\r\n")).toBe(true);
    expect(addLines(fields, "ETag: a\r\nKeep-Alive: 1\r\netag: b\r\n")).toBe(false);
    expect({ ...fields }).toEqual({ "if-match": "a, b", etag: "a" });
    expect(addTrailers(fields, [{ name: "ETag", value: "c" }])).toBe(false);
  });
});
