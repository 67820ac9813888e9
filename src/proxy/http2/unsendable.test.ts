import { type ServerHttp2Stream, constants, createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { http2Client, request } from "../testing/http2.ts";
import { ask, cleanUp, onCleanUp, sleep, startAnswering, startProxy, statusOf } from "../testing/harness.ts";

afterEach(cleanUp);

/** A backend over HTTP/2 that answers 200 after the request's end. */
async function startHttp2(): Promise<{ at: string; got: Record<string, unknown>[] }> {
  const got: Record<string, unknown>[] = [];
  const server = createServer();
  const open = new Set<{ destroy(): void }>();
  server.on("session", (session) => {
    open.add(session);
    session.on("error", () => undefined);
  });
  server.on("stream", (stream: ServerHttp2Stream, headers) => {
    got.push({ ...headers });
    stream.on("error", () => undefined);
    stream.resume();
    stream.on("end", () => {
      if (stream.destroyed || stream.closed) return;
      stream.respond({ ":status": 200 });
      stream.end("ok");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onCleanUp(() => {
    for (const session of open) session.destroy();
    server.close();
  });
  return { at: `127.0.0.1:${(server.address() as AddressInfo).port}`, got };
}

const CHUNKED =
  "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n";
const GET = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";

describe("what node:http2 throws at ends one request only", () => {
  it("on the way to a backend: trailers and fields that came twice, which say nothing of the backend", async () => {
    const backend = await startHttp2();
    const { proxy, port } = await startProxy(
      { http2: true, routes: [{ pool: "apps", upstream: { protocol: "http2" }, outlier: { failures: 1 } }] },
      { apps: { backends: { a: backend.at } } },
    );
    expect(statusOf(await ask(port, `${CHUNKED}http2-settings: x\r\n\r\n`))).toBe(400);
    expect(statusOf(await ask(port, `${CHUNKED}ETag: a\r\nETag: b\r\n\r\n`))).toBe(400);
    expect(statusOf(await ask(port, `${GET}Referer: a\r\nReferer: b\r\n\r\n`))).toBe(400);
    const session = http2Client(port);
    onCleanUp(() => session.destroy());
    const post = (trailers: Record<string, string>): Promise<number> =>
      new Promise((resolve) => {
        const stream = session.request(
          { ":authority": "x", ":method": "POST", ":path": "/" },
          { waitForTrailers: true },
        );
        stream.on("wantTrailers", () => stream.sendTrailers(trailers));
        stream.on("response", (fields) => resolve(Number(fields[":status"])));
        stream.on("error", () => resolve(0));
        stream.end("abc");
      });
    expect(await post({ "x-end": "yes" })).toBe(200);
    const twice = await request(session, { ":method": "GET", ":path": "/", "x-a": ["1", "2"] });
    expect(twice.status).toBe(200);
    expect(statusOf(await ask(port, `${GET}constructor: c\r\n\r\n`))).toBe(200);
    expect(backend.got.at(-1)).toMatchObject({ constructor: "c" });
    expect(proxy.metrics().events["ejected"]).toBeUndefined();
  });

  it("on the way to a client: the first of two values", async () => {
    const backend = await startAnswering(
      "HTTP/1.1 200 OK\r\nX-Content-Type-Options: nosniff\r\nX-Content-Type-Options: other\r\n" +
        "constructor: c\r\nContent-Length: 2\r\n\r\nok",
    );
    const { port } = await startProxy(
      { http2: true, pool: "apps" },
      { apps: { backends: { a: backend.at } } },
    );
    const session = http2Client(port);
    onCleanUp(() => session.destroy());
    const answer = await request(session, { ":path": "/" });
    expect(answer).toMatchObject({ status: 200, body: "ok" });
    expect(answer.headers).toMatchObject({ "x-content-type-options": "nosniff", constructor: "c" });
  });

  it("to a client that has taken its request back in good order", async () => {
    const { port } = await startProxy(
      {
        http2: true,
        routes: [
          {
            middleware: [
              async () => {
                await sleep(200);
              },
            ],
            respond: { status: 200, body: "ok" },
          },
        ],
      },
      {},
    );
    const session = http2Client(port);
    onCleanUp(() => session.destroy());
    const stream = session.request({ ":authority": "x", ":path": "/", ":method": "POST" });
    // More than is taken before there is an answer: the stream is paused when its reset comes.
    stream.write(Buffer.alloc(200_000));
    stream.on("error", () => undefined);
    await sleep(50);
    stream.close(constants.NGHTTP2_NO_ERROR);
    await sleep(300);
    expect(await request(session, { ":path": "/" })).toMatchObject({ status: 200, body: "ok" });
  });
});
