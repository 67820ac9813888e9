import {
  type ClientHttp2Session,
  type Http2SecureServer,
  type Http2Server,
  type ServerHttp2Stream,
  constants,
  createSecureServer,
  createServer,
} from "node:http2";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { eventually, http2Client, request } from "../testing/http2.ts";
import {
  RawClient,
  ask,
  cleanUp,
  makeCertificate,
  openssl,
  startProxy,
  startRaw,
} from "../testing/harness.ts";
import { grpcStatusOf, grpcTimeout, isGrpc } from "./policy-grpc.ts";

const cleanups: (() => void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) cleanup();
  await cleanUp();
});

type Serve = (stream: ServerHttp2Stream, path: string, headers: Record<string, unknown>) => void;

/** A backend shaped as gRPC servers are. */
async function startGrpc(
  serve: Serve,
  tls?: { certificate: string; key: string },
): Promise<{ at: string; sessions: () => number }> {
  const server: Http2Server | Http2SecureServer =
    tls === undefined
      ? createServer()
      : createSecureServer({
          cert: readFileSync(tls.certificate),
          key: readFileSync(tls.key),
        });
  let count = 0;
  const open = new Set<{ destroy(): void }>();
  server.on("session", (session) => {
    count++;
    open.add(session);
    session.on("error", () => undefined);
    session.on("close", () => open.delete(session));
  });
  server.on("stream", (stream, headers) => {
    stream.on("error", () => undefined);
    serve(stream, headers[":path"] ?? "", headers);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    for (const session of open) session.destroy();
    server.close();
  });
  return { at: `127.0.0.1:${(server.address() as AddressInfo).port}`, sessions: () => count };
}

const clientOf = (port: number): ClientHttp2Session => {
  const session = http2Client(port);
  cleanups.push(() => session.destroy());
  return session;
};
const ROUTE = { pool: "apps", upstream: { protocol: "http2" as const } };
const start = (at: string, more: object = {}): ReturnType<typeof startProxy> =>
  startProxy({ http2: true, routes: [{ ...ROUTE, ...more }] }, { apps: { backends: { a: at } } });
const CALL = { ":method": "POST", "content-type": "application/grpc", te: "trailers" };
const RESPONSE = { ":status": 200, "content-type": "application/grpc+proto" };

describe("gRPC through the proxy", () => {
  it("unary: body, te and trailers go through, many calls on one connection to the backend", async () => {
    let te: unknown;
    const backend = await startGrpc((stream, _path, headers) => {
      te = headers["te"];
      let size = 0;
      stream.on("data", (chunk: Uint8Array) => (size += chunk.length));
      stream.on("end", () => {
        stream.respond(RESPONSE, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", "x-size": String(size) }));
        stream.end("answer");
      });
    });
    const { port, proxy } = await start(backend.at);
    const session = clientOf(port);
    await request(session, { ...CALL, ":path": "/s/first" }, "x");
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, i) =>
        request(session, { ...CALL, ":path": "/s/m" }, Buffer.alloc(1000 * i)),
      ),
    );
    for (const [i, answer] of answers.entries()) {
      expect([answer.status, answer.body, answer.trailers["grpc-status"], answer.trailers["x-size"]]).toEqual(
        [200, "answer", "0", String(1000 * i)],
      );
    }
    expect(te).toBe("trailers");
    expect(backend.sessions()).toBe(1);
    expect(proxy.metrics().gauges["requests_in_flight"]).toBe(0);
  });

  it("server streaming: messages come as they are sent", async () => {
    let send: ServerHttp2Stream | undefined;
    const backend = await startGrpc((stream) => {
      stream.respond(RESPONSE, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      send = stream;
    });
    const { port } = await start(backend.at);
    const stream = clientOf(port).request({ ...CALL, ":path": "/s/list", ":authority": "x" });
    stream.end("ask");
    let text = "";
    let trailers: Record<string, unknown> = {};
    stream.on("data", (chunk: Uint8Array) => (text += Buffer.from(chunk).toString()));
    stream.on("trailers", (fields: Record<string, unknown>) => (trailers = fields));
    for (const message of ["one", "two", "three"]) {
      const before = text;
      await eventually(() => send !== undefined);
      send?.write(message);
      await eventually(() => text === before + message);
    }
    send?.end();
    await eventually(() => stream.destroyed);
    expect(trailers["grpc-status"]).toBe("0");
  });

  it("bidirectional: both sides speak in turn on one stream", async () => {
    const backend = await startGrpc((stream) => {
      stream.respond(RESPONSE, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.on("data", (chunk: Uint8Array) => stream.write(`re:${Buffer.from(chunk).toString()}`));
      stream.on("end", () => stream.end());
    });
    const { port } = await start(backend.at);
    const stream = clientOf(port).request({ ...CALL, ":path": "/s/chat", ":authority": "x" });
    let text = "";
    stream.on("data", (chunk: Uint8Array) => (text += Buffer.from(chunk).toString()));
    for (const message of ["a", "b", "c"]) {
      const before = text;
      stream.write(message);
      await eventually(() => text === `${before}re:${message}`);
    }
    stream.end();
    await eventually(() => stream.destroyed);
    expect(stream.rstCode).toBe(0);
  });

  it("trailers-only: a head that is the end", async () => {
    const backend = await startGrpc((stream) => {
      stream.resume();
      stream.respond({ ...RESPONSE, "grpc-status": "5", "grpc-message": "none" }, { endStream: true });
    });
    const { port } = await start(backend.at);
    const answer = await request(clientOf(port), { ...CALL, ":path": "/s/m" }, "x");
    expect([
      answer.status,
      answer.headers["grpc-status"],
      answer.headers["content-length"],
      answer.body,
    ]).toEqual([200, "5", undefined, ""]);
  });

  it("a deadline (grpc-timeout) ends the call at the client and at the backend", async () => {
    let reset = -1;
    const backend = await startGrpc((stream) => {
      stream.resume();
      stream.on("close", () => (reset = stream.rstCode));
    });
    const { port } = await start(backend.at);
    const answer = await request(clientOf(port), { ...CALL, ":path": "/s/m", "grpc-timeout": "150m" }, "x");
    expect([answer.status, answer.headers["grpc-status"]]).toEqual([200, "4"]);
    await eventually(() => reset > 0);
  });

  it("tells its own errors in gRPC's way, and those of others in HTTP's", async () => {
    const { port } = await start("127.0.0.1:1");
    const session = clientOf(port);
    const answer = await request(session, { ...CALL, ":path": "/s/m" }, "x");
    expect([answer.status, answer.headers["grpc-status"], answer.headers["content-type"]]).toEqual([
      200,
      "14",
      "application/grpc",
    ]);
    expect((await request(session, { ":path": "/" })).status).toBe(502);
  });

  it("a cancelled call is cancelled at the backend, and never looks complete there", async () => {
    let ended = false;
    let gone = false;
    const backend = await startGrpc((stream) => {
      stream.resume();
      stream.on("aborted", () => (gone = true));
      stream.on("end", () => (ended = !stream.aborted && stream.rstCode === 0));
    });
    const { port, proxy } = await start(backend.at);
    const stream = clientOf(port).request({ ...CALL, ":path": "/s/m", ":authority": "x" });
    stream.on("error", () => undefined);
    stream.write("half");
    await eventually(() => proxy.metrics().gauges["requests_in_flight"] === 1 && backend.sessions() === 1);
    await new Promise((resolve) => setTimeout(resolve, 50));
    stream.destroy(new Error("cancelled"));
    await eventually(() => gone);
    expect(ended).toBe(false);
  });
});

describe("HTTP/2 to backends", () => {
  it("sends a refused stream again, whatever its method", async () => {
    let seen = 0;
    const backend = await startGrpc((stream) => {
      if (seen++ === 0) stream.close(constants.NGHTTP2_REFUSED_STREAM);
      else {
        stream.respond({ ":status": 200 });
        stream.end("ok");
      }
    });
    const { port } = await start(backend.at);
    expect((await request(clientOf(port), { ":method": "POST", ":path": "/" }, "x")).body).toBe("ok");
    expect(seen).toBe(2);
  });

  it("does not send a POST again that the backend may have acted on", async () => {
    let seen = 0;
    const backend = await startGrpc((stream) => {
      seen++;
      stream.destroy(new Error("lost"));
    });
    const { port } = await start(backend.at);
    expect((await request(clientOf(port), { ":method": "POST", ":path": "/" }, "x")).status).toBe(502);
    expect(seen).toBe(1);
  });

  it("serves clients over HTTP/1.1 too, chunked bodies and trailers among it", async () => {
    const backend = await startGrpc((stream) => {
      let text = "";
      stream.on("data", (chunk: Uint8Array) => (text += Buffer.from(chunk).toString()));
      stream.on("end", () => {
        stream.respond({ ":status": 200, "set-cookie": ["a=1", "b=2"] }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "x-end": "yes" }));
        stream.end(`got ${text}`);
      });
    });
    const { port } = await start(backend.at);
    const text = await ask(
      port,
      "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    expect(text).toContain("set-cookie: a=1\r\nset-cookie: b=2\r\n");
    expect(text).toContain("got abc");
    expect(text).toMatch(/0\r\nx-end: yes\r\n\r\n$/);
  });

  it("breaks off what the backend breaks off, and frees its place", async () => {
    const backend = await startGrpc((stream) => {
      stream.respond({ ":status": 200 });
      stream.write("part");
      setTimeout(() => stream.destroy(new Error("lost")), 50);
    });
    const { port, proxy } = await start(backend.at);
    const client = new RawClient(port).send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    const text = await client.end(10_000);
    expect(text).toContain("4\r\npart\r\n");
    expect(text).not.toContain("\r\n0\r\n");
    expect(proxy.metrics().gauges["requests_in_flight"]).toBe(0);
  });

  it("refuses a backend that does not speak it", async () => {
    const at = await startRaw((socket) => {
      socket.once("data", () => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    });
    const { port } = await start(at);
    expect((await request(clientOf(port), { ":path": "/" })).status).toBe(502);
  });

  it.skipIf(!openssl)("goes over TLS where its ALPN says h2", async () => {
    const files = makeCertificate("shop.example");
    const backend = await startGrpc((stream) => {
      stream.respond({ ":status": 200 });
      stream.end("secret");
    }, files);
    const { port } = await start(backend.at, {
      upstream: { protocol: "http2", tls: { ca: files.certificate, serverName: "shop.example" } },
    });
    expect((await request(clientOf(port), { ":path": "/" })).body).toBe("secret");
  });
});

describe("gRPC's own words", () => {
  it("are read as its specification has them", () => {
    expect(["1H", "2M", "3S", "4m", "5000u", "1000000n"].map(grpcTimeout)).toEqual([
      3_600_000, 120_000, 3000, 4, 5, 1,
    ]);
    expect(["", "1", "S", "-1S", "123456789S", "1 S", undefined].map(grpcTimeout)).toEqual(
      Array(7).fill(undefined),
    );
    expect(["application/grpc", "application/grpc+proto", "application/grpc;x"].every(isGrpc)).toBe(true);
    expect(["application/grpc-web", "text/plain", undefined].some(isGrpc)).toBe(false);
    expect([grpcStatusOf(504, "total-timeout"), grpcStatusOf(503, ""), grpcStatusOf(418, "")]).toEqual([
      4, 14, 2,
    ]);
  });
});
