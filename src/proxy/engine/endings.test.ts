import { type Socket, connect } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { ProxyRequest } from "../../contracts/site.ts";
import { eventually, http2Client, request } from "../testing/http2.ts";
import {
  RawClient,
  ask,
  cleanUp,
  makeCertificate,
  onCleanUp,
  openssl,
  sleep,
  startAnswering,
  startProxy,
  startRaw,
  statusOf,
} from "../testing/harness.ts";

afterEach(cleanUp);

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

describe("an answer of the proxy's own", () => {
  it("has no body where its status has none, so that the next answer is read as one", async () => {
    const { port } = await startProxy(
      {
        routes: [
          { match: { path: "/204" }, respond: { status: 204, body: "nothing" } },
          { match: { path: "/304" }, middleware: [() => ({ status: 304, body: "nothing" })] },
          { match: { path: "/205" }, middleware: [() => ({ status: 205, body: "nothing" })] },
          { respond: { status: 200, body: "ok" } },
        ],
      },
      {},
    );
    const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
    const client = new RawClient(port);
    client.send(get("/204") + get("/304") + get("/205") + get("/"));
    const text = await client.until((all) => all.endsWith("ok"));
    const answers = text.split(/(?=HTTP\/1\.1 )/);
    expect(answers.map(statusOf)).toEqual([204, 304, 205, 200]);
    expect(answers.map((answer) => answer.split("\r\n\r\n")[1])).toEqual(["", "", "", "ok"]);
    expect(answers[0]).not.toMatch(/Content-Length/i);
    expect(answers[1]).not.toMatch(/Content-Length/i);
    expect(answers[2]).toMatch(/Content-Length: 0\r\n/i);
  });

  it("has a status that is a final one, or the middleware has failed", async () => {
    let status = 0;
    const { proxy, port } = await startProxy(
      { http2: true, routes: [{ middleware: [() => ({ status })] }] },
      {},
    );
    const session = http2Client(port);
    onCleanUp(() => session.destroy());
    for (status of [0, 100, 101, 199, 600, 1000, 200.5, Number.NaN]) {
      expect(statusOf(await ask(port, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))).toBe(500);
      expect(await request(session, { ":path": "/" })).toMatchObject({ status: 500 });
    }
    expect(proxy.metrics().events["middleware-failed"]).toBe(16);
  });
});

describe("a middleware that comes too late", () => {
  it("still sees its own request, not the client's next", async () => {
    let late: ProxyRequest | undefined;
    const { port } = await startProxy(
      {
        routes: [
          {
            match: { path: "/late" },
            middlewareDeadline: "50ms",
            middleware: [
              (req) => {
                late = req;
                return new Promise(() => undefined);
              },
            ],
          },
          { respond: { status: 200, body: "ok" } },
        ],
      },
      {},
    );
    const client = new RawClient(port);
    client.send("GET /late HTTP/1.1\r\nHost: x\r\nX-User: one\r\nCookie: a=1\r\n\r\n");
    await client.until((text) => text.includes(" 504 "));
    client.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX-User: two\r\nCookie: b=2\r\n\r\n");
    await client.until((text) => text.endsWith("ok"));
    expect(late?.method).toBe("GET");
    expect(late?.header("x-user")).toBe("one");
    expect(late?.header("cookie")).toBe("a=1");
  });
});

describe("what breaks off", () => {
  it("is a reset where the connection's end would be that of the response", async () => {
    const at = await startRaw((socket) => {
      socket.once("data", () => {
        socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
        setTimeout(() => socket.destroy(), 50);
      });
    });
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: at } } });
    const ends: string[] = [];
    const socket = connect(port, "127.0.0.1");
    socket.on("data", () => undefined);
    socket.on("end", () => ends.push("end"));
    socket.on("error", (error: NodeJS.ErrnoException) => ends.push(error.code ?? ""));
    socket.write("GET / HTTP/1.0\r\nHost: x\r\n\r\n");
    await new Promise((resolve) => socket.on("close", resolve));
    expect(ends).toEqual(["ECONNRESET"]);
  });

  it("is a backend that takes no more of an upload: 504, and its failure", async () => {
    const at = await startRaw((socket) => socket.pause());
    const { proxy, port } = await startProxy(
      {
        http2: true,
        timeouts: { body: "300ms" },
        routes: [{ pool: "apps", outlier: { failures: 2, atMost: 1 } }],
      },
      { apps: { backends: { a: at } } },
    );
    const client = new RawClient(port);
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n");
    client.socket.write(Buffer.alloc(8_000_000));
    expect(statusOf(await client.until((text) => text.includes("\r\n\r\n"), 5000))).toBe(504);
    const session = http2Client(port);
    onCleanUp(() => session.destroy());
    const answer = await request(session, { ":method": "POST", ":path": "/" }, Buffer.alloc(8_000_000));
    expect(answer.status).toBe(504);
    expect(proxy.metrics().events["ejected"]).toBe(1);
  });

  it("is no tunnel, however often one of its sides had to wait", async () => {
    let upstream: Socket | undefined;
    let received = 0;
    const at = await startRaw((socket) => {
      socket.once("data", () => {
        upstream = socket;
        socket.pause();
        socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        socket.on("data", (piece: Buffer) => (received += piece.length));
        socket.pause();
      });
    });
    const { port } = await startProxy(
      { timeouts: { body: "300ms" }, routes: [{ pool: "apps", timeouts: { total: "600ms" } }] },
      { apps: { backends: { a: at } } },
    );
    const client = new RawClient(port);
    client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    await client.until((text) => text.includes("101"));
    const size = 40_000_000;
    client.socket.write(Buffer.alloc(size));
    await sleep(100);
    client.socket.pause();
    upstream?.write(Buffer.alloc(size));
    await sleep(100);
    upstream?.resume();
    client.socket.resume();
    await vi.waitFor(() => expect(received).toBe(size), 10_000);
    await sleep(900);
    expect(client.ended).toBe(false);
  });
});

it.skipIf(!openssl)("counts those who are still at their TLS handshake among the connections", async () => {
  const { certificate, key } = makeCertificate("shop.example");
  const { proxy, port } = await startProxy(
    {
      http2: true,
      tls: { certificates: [{ certificate, key }] },
      limits: { connections: 3 },
      routes: [{ respond: { status: 200, body: "ok" } }],
    },
    {},
  );
  const silent = Array.from({ length: 5 }, () => new RawClient(port));
  await eventually(() => silent.filter(({ ended }) => ended).length === 2);
  expect(proxy.metrics().events["refused.connections"]).toBe(2);
  for (const one of silent) one.socket.destroy();
  await eventually(() => proxy.metrics().events["refused.tls-handshake"] === 3);
  const session = http2Client(port, true);
  onCleanUp(() => session.destroy());
  expect((await request(session, { ":path": "/" })).status).toBe(200);
});

it("a mirror whose answer never ends is given up, so that others get copies", async () => {
  const backend = await startAnswering(OK);
  let closed = 0;
  const endless = await startRaw((socket) => {
    socket.on("close", () => closed++);
    socket.once("data", () => {
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
      const timer = setInterval(() => socket.write("1\r\na\r\n"), 20);
      socket.on("close", () => clearInterval(timer));
    });
  });
  const { proxy, port } = await startProxy(
    { routes: [{ pool: "apps", mirror: { pool: "copies" }, timeouts: { idle: "300ms" } }] },
    { apps: { backends: { a: backend.at } }, copies: { backends: { b: endless } } },
  );
  expect(statusOf(await ask(port, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))).toBe(200);
  await eventually(() => proxy.metrics().events["mirror.idle-timeout"] === 1, 3000);
  await eventually(() => closed === 1, 3000);
});
