import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { type ClientHttp2Session, constants } from "node:http2";
import type { Socket } from "node:net";
import { connect as tlsConnect } from "node:tls";
import { afterEach, describe, expect, it } from "vitest";
import { eventually, http2Client, request } from "../testing/http2.ts";
import {
  RawClient,
  ask,
  cleanUp,
  makeCertificate,
  openssl,
  startAnswering,
  startHttp,
  startProxy,
  startRaw,
  statusOf,
} from "../testing/harness.ts";

const sessions: ClientHttp2Session[] = [];
const clientOf = (port: number): ClientHttp2Session => {
  const session = http2Client(port);
  sessions.push(session);
  return session;
};
afterEach(async () => {
  for (const session of sessions.splice(0)) session.destroy();
  await cleanUp();
});

const curl = String(spawnSync("curl", ["--version"]).stdout).includes("HTTP2");
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

describe("HTTP/2 on a plain port", () => {
  it("feeds the same exchange: routing, ids, forwarded fields, counters", async () => {
    const backend = await startAnswering(OK);
    const { port, proxy } = await startProxy(
      { http2: true, routes: [{ name: "shop", match: { host: "shop.example", path: "/a/" }, pool: "apps" }] },
      { apps: { backends: { a: backend.at } } },
    );
    const session = clientOf(port);
    const answer = await request(session, { ":path": "/a/b?c", "x-own": "1", cookie: ["a=1", "b=2"] });
    expect([answer.status, answer.body, answer.headers["content-length"]]).toEqual([200, "ok", "2"]);
    expect(backend.got[0]?.split("\r\n")).toEqual([
      "GET /a/b?c HTTP/1.1",
      "Host: shop.example",
      "x-own: 1",
      "cookie: a=1; b=2",
      "X-Forwarded-For: 127.0.0.1",
      "X-Forwarded-Proto: http",
      "X-Forwarded-Host: shop.example",
      expect.stringMatching(/^x-request-id: /),
      "",
      "",
    ]);
    expect((await request(session, { ":path": "/other" })).status).toBe(404);
    expect(proxy.metrics().routes["web/shop"]?.statuses[1]).toBe(1);
  });

  it("speaks HTTP/1.1 to those who do", async () => {
    const backend = await startAnswering(OK);
    const { port } = await startProxy(
      { http2: true, pool: "apps" },
      { apps: { backends: { a: backend.at } } },
    );
    const client = new RawClient(port);
    // Byte by byte through the letters that both protocols may begin with.
    for (const letter of "P") client.send(letter);
    await new Promise((resolve) => setTimeout(resolve, 20));
    client.send("UT / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    expect((await client.end()).split("\r\n\r\nok").length).toBe(3);
    expect(statusOf(await ask(port, "PRI * HTTP/1.1\r\nHost: x\r\n\r\n"))).toBe(400);
  });

  it("carries bodies and trailers both ways, many streams at once", async () => {
    const at = await startHttp((incoming, response) => {
      let size = 0;
      incoming.on("data", (chunk: Buffer) => (size += chunk.length));
      incoming.on("end", () => {
        response.writeHead(200, { trailer: "x-size" });
        response.write("x".repeat(100_000));
        response.addTrailers({ "x-size": String(size) });
        response.end();
      });
    });
    const { port } = await startProxy({ http2: true, pool: "apps" }, { apps: { backends: { a: at } } });
    const session = clientOf(port);
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        request(session, { ":method": "POST", ":path": `/${i}` }, Buffer.alloc(300_000 + i)),
      ),
    );
    for (const [i, answer] of answers.entries()) {
      expect([answer.status, answer.body.length, answer.trailers["x-size"]]).toEqual([
        200,
        100_000,
        String(300_000 + i),
      ]);
    }
  });

  it("sends what it read, though the next read comes before it has gone", async () => {
    const pieces = Array.from({ length: 400 }, (_, i) => String(i % 10).repeat(3000));
    const at = await startRaw((socket) => {
      socket.once("data", () => {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${400 * 3000}\r\n\r\n`);
        let next = 0;
        const more = (): void => {
          for (let i = 0; i < 3 && next < pieces.length; i++) socket.write(pieces[next++] ?? "");
          if (next < pieces.length) setImmediate(more);
        };
        more();
      });
    });
    const { port } = await startProxy({ http2: true, pool: "apps" }, { apps: { backends: { a: at } } });
    const session = clientOf(port);
    const bodies = await Promise.all(Array.from({ length: 4 }, async () => request(session, {})));
    for (const { body } of bodies) expect(body === pieces.join("")).toBe(true);
  });

  it("answers HEAD, 204 and 304 without a body, and ends a GET that an empty DATA frame ends", async () => {
    const at = await startHttp((incoming, response) => {
      response.statusCode = Number(incoming.url?.slice(1));
      response.end(incoming.method === "HEAD" ? undefined : response.statusCode === 200 ? "body" : undefined);
    });
    const { port } = await startProxy({ http2: true, pool: "apps" }, { apps: { backends: { a: at } } });
    const session = clientOf(port);
    expect((await request(session, { ":method": "HEAD", ":path": "/200" })).body).toBe("");
    expect((await request(session, { ":path": "/204" })).status).toBe(204);
    expect((await request(session, { ":path": "/304" })).status).toBe(304);
    expect((await request(session, { ":path": "/200" }, "")).body).toBe("body");
    expect((await request(session, { ":path": "/200" }, "x")).status).toBe(400);
  });

  it("refuses DATA that is not as long as Content-Length says", async () => {
    let whole = 0;
    const at = await startHttp((incoming, response) => {
      incoming.on("end", () => {
        whole++;
        response.end();
      });
      incoming.on("error", () => undefined);
      incoming.resume();
    });
    const { port } = await startProxy({ http2: true, pool: "apps" }, { apps: { backends: { a: at } } });
    const session = clientOf(port);
    for (const body of ["four", "sixsix"]) {
      const answer = await request(session, { ":method": "POST", ":path": "/", "content-length": "5" }, body);
      // Either layer may notice first: an answer of ours or a reset.
      expect(answer.status === 400 || answer.reset === constants.NGHTTP2_PROTOCOL_ERROR).toBe(true);
    }
    expect(whole).toBe(0);
  });

  it("answers early where the body is too large, and stops reading", async () => {
    const backend = await startAnswering(OK);
    const { port } = await startProxy(
      { http2: true, limits: { body: "1KiB" }, pool: "apps" },
      { apps: { backends: { a: backend.at } } },
    );
    const session = clientOf(port);
    const answer = await request(session, { ":method": "POST", ":path": "/" }, Buffer.alloc(1_000_000));
    expect(answer.status).toBe(413);
    expect((await request(session, { ":path": "/" })).status).toBe(200);
  });

  it("tells a broken response from a whole one, and a retry hides a lost backend", async () => {
    let seen = 0;
    const at = await startRaw((socket) => {
      socket.once("data", () => {
        if (seen++ === 0) socket.destroy();
        else {
          socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n");
          setTimeout(() => socket.destroy(), 20);
        }
      });
    });
    const { port, proxy } = await startProxy(
      { http2: true, pool: "apps" },
      { apps: { backends: { a: at } } },
    );
    const answer = await request(clientOf(port), { ":path": "/" });
    expect([answer.status, answer.body, answer.reset]).toEqual([
      200,
      "only this",
      constants.NGHTTP2_INTERNAL_ERROR,
    ]);
    expect(proxy.metrics().events["retried"]).toBe(1);
  });

  it("frees the backend when the client takes its request back", async () => {
    let closed = 0;
    const at = await startRaw((socket) => {
      socket.resume();
      socket.on("end", () => closed++);
    });
    const { port, proxy } = await startProxy(
      { http2: true, pool: "apps" },
      { apps: { backends: { a: at } } },
    );
    const stream = clientOf(port).request({ ":path": "/" });
    stream.on("error", () => undefined);
    await eventually(() => proxy.metrics().gauges["requests_in_flight"] === 1);
    stream.close(constants.NGHTTP2_CANCEL);
    await eventually(() => closed === 1 && proxy.metrics().gauges["requests_in_flight"] === 0);
  });

  it("ends a connection that resets streams in masses (CVE-2023-44487)", async () => {
    const at = await startRaw(() => undefined);
    const { port, proxy } = await startProxy(
      { http2: true, pool: "apps" },
      { apps: { backends: { a: at } } },
    );
    const session = clientOf(port);
    for (let i = 0; i < 1000 && !session.destroyed && !session.closed; i++) {
      const stream = session.request({ ":path": "/" });
      stream.on("error", () => undefined);
      await new Promise((resolve) => setImmediate(resolve));
      stream.close(constants.NGHTTP2_CANCEL);
    }
    await eventually(() => session.destroyed);
    expect(proxy.metrics().events["refused.rapid-reset"]).toBe(1);
    await eventually(() => proxy.metrics().gauges["requests_in_flight"] === 0);
  });

  it("holds a client that reads nothing to its window, and the backend with it", async () => {
    let sent = 0;
    const at = await startRaw((socket) => {
      socket.once("data", () => {
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        const piece = Buffer.alloc(65_536);
        const more = (): void => {
          while (sent < 100_000_000) {
            sent += piece.length;
            if (!socket.write(piece)) {
              socket.once("drain", more);
              return;
            }
          }
        };
        more();
      });
    });
    const { port } = await startProxy({ http2: true, pool: "apps" }, { apps: { backends: { a: at } } });
    const stream = clientOf(port).request({ ":path": "/" });
    stream.on("error", () => undefined);
    await new Promise((resolve) => stream.on("response", resolve));
    let before = -1;
    await eventually(() => {
      const still = sent === before;
      before = sent;
      return still && sent > 0;
    });
    expect(sent).toBeLessThan(30_000_000);
    stream.close();
  });

  it.skipIf(!curl)("serves curl, and ends with it though it half closes", async () => {
    const backend = await startAnswering(OK);
    const { port, proxy } = await startProxy(
      { http2: true, pool: "apps" },
      { apps: { backends: { a: backend.at } } },
    );
    const child = spawn("curl", ["-s", "--http2-prior-knowledge", `http://127.0.0.1:${port}/`]);
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
    await eventually(() => text === "ok" && child.exitCode === 0);
    await eventually(() => proxy.metrics().gauges["client_connections"] === 0);
  });

  it("closes idle connections and refuses garbage after the preface", async () => {
    const backend = await startAnswering(OK);
    const { port, proxy } = await startProxy(
      { http2: true, pool: "apps", timeouts: { idle: "100ms" } },
      { apps: { backends: { a: backend.at } } },
    );
    const session = clientOf(port);
    let gone = false;
    session.on("close", () => (gone = true));
    await request(session, { ":path": "/" });
    await eventually(() => gone);
    const client = new RawClient(port);
    client.send(`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${"x".repeat(100)}`);
    await client.end(10_000);
    await eventually(() => proxy.metrics().gauges["client_connections"] === 0);
  });
});

describe.skipIf(!openssl)("HTTP/2 over TLS", () => {
  it("is chosen by ALPN, and HTTP/1.1 where the client has no other", async () => {
    const backend = await startAnswering(OK);
    const { port } = await startProxy(
      { http2: true, pool: "apps", tls: { certificates: [makeCertificate("shop.example")] } },
      { apps: { backends: { a: backend.at } } },
    );
    const session = http2Client(port, true);
    sessions.push(session);
    expect((await request(session, { ":path": "/" })).status).toBe(200);
    expect(backend.got[0]).toContain("X-Forwarded-Proto: https");
    const socket = tlsConnect({
      port,
      host: "127.0.0.1",
      ALPNProtocols: ["http/1.1"],
      rejectUnauthorized: false,
    });
    const text = await new Promise<string>((resolve) => {
      let all = "";
      socket.on("data", (chunk: Buffer) => (all += chunk.toString()));
      socket.on("close", () => resolve(all));
      socket.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    });
    expect(text).toMatch(/^HTTP\/1\.1 200/);
  });
});

describe("WebSocket over HTTP/2 (RFC 8441)", () => {
  const CONNECT = {
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":path": "/chat",
    "sec-websocket-version": "13",
  };
  const acceptOf = (head: string): string =>
    createHash("sha1")
      .update(`${/sec-websocket-key: (.*)\r/i.exec(head)?.[1]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest("base64");
  const echo = (head: string, socket: Socket, accept: string): void => {
    socket.write(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
        `Sec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello`,
    );
    socket.on("data", (chunk: Buffer) => socket.write(`echo ${chunk.toString()}`));
    socket.on("end", () => socket.end("bye"));
  };

  it("is an upgrade to a backend over HTTP/1.1, and bytes both ways after it", async () => {
    let head = "";
    const at = await startRaw((socket) => {
      socket.once("data", (chunk: Buffer) => {
        head = chunk.toString();
        echo(head, socket, acceptOf(head));
      });
    });
    const { port } = await startProxy({ http2: true, pool: "apps" }, { apps: { backends: { a: at } } });
    const session = clientOf(port);
    await new Promise((resolve) => session.once("remoteSettings", resolve));
    expect(session.remoteSettings.enableConnectProtocol).toBe(true);
    const stream = session.request({ ...CONNECT, ":authority": "shop.example" }, { endStream: false });
    const answer = await new Promise<Record<string, unknown>>((resolve) => stream.on("response", resolve));
    expect([answer[":status"], answer["sec-websocket-protocol"], answer["sec-websocket-accept"]]).toEqual([
      200,
      "chat",
      undefined,
    ]);
    expect(head).toMatch(/^GET \/chat HTTP\/1\.1\r\nHost: shop\.example\r\n/);
    expect(head).toContain("Connection: Upgrade\r\nUpgrade: websocket\r\n");
    let text = "";
    stream.on("data", (chunk: Buffer) => (text += chunk.toString()));
    stream.write("one");
    await eventually(() => text === "helloecho one");
    stream.end();
    await eventually(() => text === "helloecho onebye" && stream.destroyed);
  });

  it("never tells a client of a tunnel that does not stand", async () => {
    let accept: string | undefined;
    const at = await startRaw((socket) => {
      socket.once("data", (chunk: Buffer) => {
        if (accept === undefined) socket.write(OK);
        else echo(chunk.toString(), socket, accept);
      });
    });
    const { port } = await startProxy(
      { http2: true, routes: [{ match: { path: "/no" }, pool: "apps", upgrade: false }, { pool: "apps" }] },
      { apps: { backends: { a: at } } },
    );
    const session = clientOf(port);
    await new Promise((resolve) => session.once("remoteSettings", resolve));
    expect((await request(session, CONNECT)).status).toBe(502);
    expect((await request(session, { ...CONNECT, ":path": "/no" })).status).toBe(501);
    accept = "wrong";
    expect((await request(session, CONNECT)).status).toBe(502);
    expect((await request(session, { ...CONNECT, ":protocol": "connect-udp" })).status).toBe(501);
  });
});
