import type { Socket } from "node:net";
import { afterEach, expect, it } from "vitest";
import { eventually } from "../testing/http2.ts";
import { ask, cleanUp, startProxy, startRaw, statusOf } from "../testing/harness.ts";

afterEach(cleanUp);

/** A frame without a payload that matters (RFC 9113 4.1). */
function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}
const NOTHING = Buffer.alloc(0);
const PREFACE = 24;

/** Calls `onRequest` with the number of each stream that a HEADERS frame opens. */
function serve(socket: Socket, onRequest: (stream: number) => void): void {
  let bytes = NOTHING;
  let begun = false;
  socket.write(frame(4, 0, 0, NOTHING));
  socket.on("data", (piece: Buffer) => {
    bytes = Buffer.concat([bytes, piece]);
    if (!begun && bytes.length < PREFACE) return;
    if (!begun) bytes = bytes.subarray(PREFACE);
    begun = true;
    while (bytes.length >= 9 && bytes.length >= 9 + bytes.readUIntBE(0, 3)) {
      const [type, flags, stream] = [bytes.readUInt8(3), bytes.readUInt8(4), bytes.readUInt32BE(5)];
      bytes = bytes.subarray(9 + bytes.readUIntBE(0, 3));
      if (type === 4 && (flags & 1) === 0) socket.write(frame(4, 1, 0, NOTHING));
      if (type === 1) onRequest(stream);
    }
  });
}

/** nghttp2 answers a broken PING by itself; node:http2 then neither reads nor writes, nor says so. */
it("asks no more of a backend's connection that has gone dead, and lets it go", async () => {
  let connections = 0;
  let gone = 0;
  const at = await startRaw((socket) => {
    const first = ++connections === 1;
    if (first) socket.once("close", () => gone++);
    socket.once("end", () => socket.end());
    serve(socket, (stream) =>
      socket.write(
        first ? frame(6, 0, 0, Buffer.alloc(7)) : frame(1, 5, stream, Buffer.from([0x88])), // :status 200
      ),
    );
  });
  const { port } = await startProxy(
    {
      routes: [
        {
          pool: "apps",
          retries: { attempts: 0 },
          timeouts: { response: "400ms" },
          upstream: { protocol: "http2", idle: "300ms" },
        },
      ],
    },
    { apps: { backends: { a: at } } },
  );
  const get = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  expect(statusOf(await ask(port, get))).toBe(504);
  expect(statusOf(await ask(port, get))).toBe(200);
  await eventually(() => gone === 1, 20_000);
});
