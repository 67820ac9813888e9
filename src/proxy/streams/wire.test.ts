import { connect as tlsConnect } from "node:tls";
import { Duplex } from "node:stream";
import { describe, expect, it } from "vitest";
import fc from "fast-check";
import { ip, ipFromBytes } from "../../base/addresses.ts";
import { HELLO_MOST, readClientHello } from "./wire-client-hello.ts";
import { PROXY_HEADER_MOST, readProxyHeader, writeProxyHeader } from "./wire-proxy-header.ts";

/** What Node's own TLS says first. */
function helloOf(servername: string, ALPNProtocols: string[] = []): Buffer {
  const parts: Buffer[] = [];
  const wire = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      parts.push(chunk);
      done();
    },
  });
  const socket = tlsConnect({ socket: wire, servername, ALPNProtocols });
  socket.on("error", () => undefined);
  const hello = Buffer.concat(parts);
  socket.destroy();
  return hello;
}

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ""), "hex"));

/** A hello of one record with these extensions. */
function hello(extensions: string): Uint8Array {
  const size = (bytes: number, digits: number): string => bytes.toString(16).padStart(digits * 2, "0");
  const plain = extensions.replaceAll(/\s/g, "");
  const body = `0303${"00".repeat(32)}00 0002 1301 0100 ${size(plain.length / 2, 2)}${plain}`.replaceAll(
    " ",
    "",
  );
  const message = `01${size(body.length / 2, 3)}${body}`;
  return hex(`160301${size(message.length / 2, 2)}${message}`);
}
const nameExtension = (name: string): string => {
  const bytes = Buffer.from(name, "latin1");
  const two = (n: number): string => n.toString(16).padStart(4, "0");
  return `0000${two(bytes.length + 5)}${two(bytes.length + 3)}00${two(bytes.length)}${bytes.toString("hex")}`;
};

describe("a ClientHello", () => {
  it("gives the server name and the protocols that real clients send", () => {
    const reading = readClientHello(helloOf("Shop.Example", ["h2", "http/1.1"]));
    expect(reading).toEqual({ kind: "hello", serverName: "shop.example", protocols: ["h2", "http/1.1"] });
  });

  it("is read from bytes and records cut anywhere, and asks for more until it is whole", () => {
    const whole = helloOf("shop.example");
    for (let i = 0; i < whole.length; i++) expect(readClientHello(whole.subarray(0, i)).kind).toBe("more");
    const message = whole.subarray(5);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: message.length }), (size) => {
        const records: Buffer[] = [];
        for (let at = 0; at < message.length; at += size) {
          const part = message.subarray(at, at + size);
          records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part);
        }
        const reading = readClientHello(Buffer.concat(records));
        expect(reading.kind === "hello" && reading.serverName).toBe("shop.example");
      }),
      { numRuns: 50 },
    );
  });

  it("is refused where two readers could see two names, or something else", () => {
    const reason = (bytes: Uint8Array): string => {
      const reading = readClientHello(bytes);
      return reading.kind === "fault" ? reading.reason : reading.kind;
    };
    expect(reason(Buffer.from("GET / HTTP/1.1\r\n"))).toBe("not-tls");
    expect(reason(hex("16 02 00 0001 01"))).toBe("not-tls");
    expect(reason(hex("16 03 01 0004 02000000"))).toBe("not-a-hello");
    expect(reason(hex("16 03 01 0004 01ffffff"))).toBe("hello-too-large");
    expect(reason(hello(nameExtension("a.example") + nameExtension("b.example")))).toBe("hello-broken");
    expect(reason(hello("0000 000e 000c 00 0003 616161 00 0003 626262"))).toBe("server-name-invalid");
    for (const name of ["", "a b", "a\0b", "a..b", ".a", "é", "x".repeat(300)])
      expect(reason(hello(nameExtension(name)))).toBe("server-name-invalid");
    expect(reason(hello("0000 0005 0003 00 0009"))).toBe("hello-broken");
    expect(readClientHello(hello(""))).toEqual({ kind: "hello", serverName: "", protocols: [] });
  });

  it("never throws and never asks for more than its bound, whatever comes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 0, max: 400 }), (noise, at) => {
        const bytes = Uint8Array.from(hello(nameExtension("shop.example")));
        for (const [i, byte] of noise.entries()) if (at + i < bytes.length) bytes[at + i] = byte;
        readClientHello(noise);
        readClientHello(bytes);
      }),
    );
    const endless = new Uint8Array(HELLO_MOST * 2);
    for (let i = 0; i + 6 <= endless.length; i += 6) endless.set([22, 3, 1, 0, 1, 1], i);
    expect(readClientHello(endless).kind).toBe("fault");
  });
});

const ends = fc.oneof(
  ...[4, 16].map((size) =>
    fc.record({
      address: fc.uint8Array({ minLength: size, maxLength: size }).map(ipFromBytes),
      port: fc.integer({ min: 0, max: 65_535 }),
      toAddress: fc.uint8Array({ minLength: size, maxLength: size }).map(ipFromBytes),
      toPort: fc.integer({ min: 0, max: 65_535 }),
    }),
  ),
);

describe("the PROXY protocol", () => {
  it("reads what it writes, and knows where it ends", () => {
    fc.assert(
      fc.property(ends, fc.constantFrom<1 | 2>(1, 2), fc.uint8Array(), (of, version, after) => {
        const header = writeProxyHeader(version, of);
        const bytes = Uint8Array.from([...header, ...after]);
        expect(readProxyHeader(bytes)).toEqual({ kind: "header", length: header.length, of });
        for (let i = 0; i < header.length; i++)
          expect(readProxyHeader(header.subarray(0, i)).kind).toBe("more");
      }),
      { numRuns: 50 },
    );
  });

  it("lets a proxy speak for itself, and families that do not fit", () => {
    const read = (text: string): unknown => readProxyHeader(Buffer.from(text, "latin1"));
    expect(read("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\nx")).toEqual({ kind: "header", length: 35 });
    expect(read("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")).toEqual({ kind: "header", length: 16 });
    expect(read("\r\n\r\n\0\r\nQUIT\n\x21\x31\0\x02xx")).toEqual({ kind: "header", length: 18 });
    const mixed = { address: ip("10.0.0.1"), port: 1, toAddress: ip("::1"), toPort: 2 };
    expect(Buffer.from(writeProxyHeader(1, mixed)).toString()).toBe("PROXY UNKNOWN\r\n");
    expect(readProxyHeader(writeProxyHeader(2, mixed))).toEqual({ kind: "header", length: 16 });
  });

  const broken: Record<string, string> = {
    "GET / HTTP/1.1\r\n": "no-proxy-header",
    "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n": "proxy-header-broken",
    "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n": "proxy-header-broken",
    "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n": "proxy-header-broken",
    "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n": "proxy-header-broken",
    "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n": "proxy-header-broken",
    "PROXY TCP4 1.2.3.999 5.6.7.8 1 2\r\n": "proxy-header-broken",
    "PROXY TCP4 ::1 ::2 1 2\r\n": "proxy-header-broken",
    "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n": "proxy-header-broken",
    "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n": "proxy-header-broken",
    "PROXY TCP4 1.2.3.4\r5.6.7.8 1 2\r\n": "proxy-header-broken",
    ["PROXY UNKNOWN ".padEnd(200, "x")]: "proxy-header-too-large",
    "\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c": "proxy-header-broken",
    "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04abcd": "proxy-header-broken",
    "\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff": "proxy-header-too-large",
  };
  for (const [text, reason] of Object.entries(broken)) {
    it(`refuses ${JSON.stringify(text.slice(0, 45))}`, () => {
      expect(readProxyHeader(Buffer.from(text, "latin1"))).toEqual({ kind: "fault", reason });
    });
  }

  it("never throws and is bounded, whatever comes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (noise, second) => {
        const start = second ? "\r\n\r\n\0\r\nQUIT\n\x21" : "PROXY TCP4 ";
        const reading = readProxyHeader(Uint8Array.from([...Buffer.from(start, "latin1"), ...noise]));
        if (reading.kind === "header") expect(reading.length).toBeLessThanOrEqual(PROXY_HEADER_MOST);
      }),
    );
  });
});
