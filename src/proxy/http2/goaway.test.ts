import { afterEach, describe, expect, it } from "vitest";
import { eventually } from "../testing/http2.ts";
import { RawClient, cleanUp, startAnswering, startProxy } from "../testing/harness.ts";

afterEach(cleanUp);

/** A frame (RFC 9113 4.1). */
function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** The error code of the last GOAWAY among frames; undefined where there is none. */
function goaway(bytes: Buffer): number | undefined {
  let code: number | undefined;
  for (let at = 0; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
    if (bytes[at + 3] === 7 && at + 17 <= bytes.length) code = bytes.readUInt32BE(at + 13);
  }
  return code;
}

const NOTHING = Buffer.alloc(0);
const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const HEADERS = Buffer.from([0x82, 0x86, 0x84, 0x41, 1, 0x78]); // GET http / x

/** What breaks a connection, and what the other side is told it was (RFC 9113 7). */
const CASES: readonly (readonly [string, Buffer, number])[] = [
  ["a window of the connection beyond 2^31-1 (6.9.1)", frame(8, 0, 0, uint32(0x7fff_ffff)), 3],
  ["DATA on an idle stream (5.1)", frame(0, 1, 1, Buffer.from("x")), 1],
  ["a stream of an even number (5.1.1)", frame(1, 5, 2, HEADERS), 1],
  ["PING of seven bytes (6.7)", frame(6, 0, 0, Buffer.alloc(7)), 6],
  [
    "SETTINGS of an initial window beyond 2^31-1 (6.5.2)",
    frame(4, 0, 0, Buffer.from([0, 4, 255, 255, 255, 255])),
    3,
  ],
  [
    "a field of an index that the table does not have (RFC 7541 2.3.3)",
    frame(1, 5, 1, Buffer.from([0xff, 0x40])),
    9,
  ],
];

/** A client that broke its connection in that way, and what it hears until the end. */
async function broken(
  bytes: Buffer,
  first: Buffer,
  leaves: boolean,
): Promise<{ heard: Buffer; got: string[] }> {
  const backend = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  const { port, proxy } = await startProxy(
    { http2: true, pool: "apps", timeouts: { head: "300ms", write: "300ms", body: "300ms", idle: "300ms" } },
    { apps: { backends: { a: backend.at } } },
  );
  const client = new RawClient(port);
  client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  client.send(frame(4, 0, 0, Buffer.alloc(0)).toString("latin1"));
  client.send(Buffer.concat([first, bytes]).toString("latin1"));
  if (leaves) client.socket.end();
  const heard = Buffer.from(await client.end(20_000), "latin1");
  client.socket.destroy();
  await eventually(() => proxy.metrics().gauges.client_connections === 0);
  return { heard, got: backend.got };
}

describe("what breaks a connection over HTTP/2 is named in its GOAWAY", () => {
  it.each(CASES)("%s", async (_, bytes, code) => {
    // Neither side closes by itself: node:http2 says some of them and then neither reads nor ends.
    const { heard, got } = await broken(bytes, NOTHING, false);
    expect(goaway(heard)).toBe(code);
    expect(got).toEqual([]);
  });

  it.each(CASES)("%s, of a client that leaves at once", async (_, bytes) => {
    await broken(bytes, NOTHING, true);
  });

  it.each(CASES)("%s, with an upload under way", async (_, bytes) => {
    // POST, whose DATA does not come.
    await broken(bytes, frame(1, 4, 7, Buffer.from([0x83, 0x86, 0x84, 0x41, 1, 0x78])), true);
  });
  it.each(CASES)("%s, with a request answered", async (_, bytes) => {
    await broken(bytes, frame(1, 5, 7, HEADERS), true);
  });

  it("a client that never takes its answer is let go", async () => {
    // SETTINGS of an initial window of 0, then GET.
    const none = frame(4, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0]));
    await broken(NOTHING, Buffer.concat([none, frame(1, 5, 7, HEADERS)]), false);
  });
});
