import { readFileSync } from "node:fs";
import { type Socket, connect } from "node:net";
import { type TLSSocket, connect as tlsConnect, createServer as createTls } from "node:tls";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { ip } from "../../base/addresses.ts";
import { eventually, http2Client, request } from "../testing/http2.ts";
import {
  RawClient,
  cleanUp,
  makeCertificate,
  openssl,
  startAnswering,
  startProxy,
  startRaw,
  statusOf,
} from "../testing/harness.ts";
import { writeProxyHeader } from "./wire-proxy-header.ts";

const cleanups: (() => void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) cleanup();
  await cleanUp();
});

const echo = (name: string) => (socket: Socket) => {
  socket.on("data", (chunk: Buffer) => socket.write(`${name}:${chunk.toString("latin1")}`));
  socket.on("end", () => socket.end("bye"));
};

/** A TLS server that says its name. */
async function startTls(name: string): Promise<string> {
  const files = makeCertificate(name);
  const server = createTls(
    { cert: readFileSync(files.certificate), key: readFileSync(files.key) },
    (socket) => {
      socket.on("error", () => undefined);
      socket.end(`I am ${name}`);
    },
  );
  server.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const tlsText = (port: number, servername: string): Promise<string> =>
  new Promise((resolve) => {
    const socket: TLSSocket = tlsConnect({ port, host: "127.0.0.1", servername, rejectUnauthorized: false });
    let text = "";
    socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(text));
  });

describe("streams", () => {
  it("carry bytes both ways, each side ending for itself", async () => {
    const at = await startRaw(echo("a"));
    const { port, proxy } = await startProxy({ tcp: { pool: "db" } }, { db: { backends: { a: at } } });
    const client = new RawClient(port);
    client.send("one");
    await client.until((text) => text === "a:one");
    expect(proxy.metrics().gauges["upstream_connections"]).toBe(1);
    client.socket.end("two");
    expect(await client.end(10_000)).toBe("a:onea:twobye");
    await eventually(() => proxy.metrics().gauges["client_connections"] === 0);
    expect(proxy.metrics().gauges["requests_in_flight"]).toBe(0);
    expect(proxy.metrics().routes["web/web-tcp"]?.statuses[1]).toBe(1);
  });

  it("reach clients that wait for the server to speak first", async () => {
    const at = await startRaw((socket) => socket.write("220 ready"));
    const { port } = await startProxy({ tcp: { pool: "mail" } }, { mail: { backends: { a: at } } });
    await new RawClient(port).until((text) => text === "220 ready");
  });

  it("go to another backend where one refuses, and end where all do", async () => {
    const at = await startRaw(echo("good"));
    const pools = {
      db: { backends: { bad: "127.0.0.1:1", good: at } },
      none: { backends: { bad: "127.0.0.1:1" } },
    };
    const { port } = await startProxy({ tcp: { pool: "db" } }, pools);
    for (let i = 0; i < 3; i++) await new RawClient(port).send("x").until((text) => text === "good:x");
    const other = await startProxy({ tcp: { pool: "none" } }, pools);
    expect(await new RawClient(other.port).end(10_000)).toBe("");
    expect(other.proxy.metrics().events["refused.connect"]).toBe(1);
    expect(other.proxy.metrics().gauges["requests_in_flight"]).toBe(0);
  });

  it("end when they carry nothing for too long", async () => {
    const at = await startRaw(echo("a"));
    const { port, proxy } = await startProxy(
      { tcp: { pool: "db", idle: "100ms" } },
      { db: { backends: { a: at } } },
    );
    await new RawClient(port).end(10_000);
    expect(proxy.metrics().events["refused.idle-timeout"]).toBe(1);
  });

  it("hold much data back for who reads slowly, and lose none of it", async () => {
    const size = 20_000_000;
    let sent = 0;
    const at = await startRaw((socket) => {
      const piece = Buffer.alloc(65_536, "x");
      const more = (): void => {
        while (sent < size) {
          sent += piece.length;
          if (!socket.write(piece)) {
            socket.once("drain", more);
            return;
          }
        }
        socket.end();
      };
      more();
    });
    const { port } = await startProxy({ tcp: { pool: "db" } }, { db: { backends: { a: at } } });
    const socket = connect(port, "127.0.0.1");
    cleanups.push(() => void socket.destroy());
    socket.pause();
    let before = -1;
    await eventually(() => {
      const still = sent > 0 && sent === before;
      before = sent;
      return still;
    });
    expect(sent).toBeLessThan(size);
    let got = 0;
    let wrong = 0;
    socket.on("data", (chunk: Buffer) => {
      got += chunk.length;
      for (let i = 0; i < chunk.length; i += 997) if (chunk[i] !== 0x78) wrong++;
    });
    socket.resume();
    await eventually(() => got === sent && sent >= size, 20_000);
    expect(wrong).toBe(0);
  });

  describe.skipIf(!openssl)("with TLS", () => {
    it("are routed by server name and pass through untouched", async () => {
      const pools = {
        a: { backends: { one: await startTls("a.example") } },
        b: { backends: { one: await startTls("b.example") } },
        rest: { backends: { one: await startTls("rest.example") } },
      };
      const { port } = await startProxy(
        { tcp: { serverNames: { "a.example": "a", "*.b.example": "b" }, pool: "rest" } },
        pools,
      );
      expect(await tlsText(port, "A.example")).toBe("I am a.example");
      expect(await tlsText(port, "x.y.b.example")).toBe("I am b.example");
      expect(await tlsText(port, "c.example")).toBe("I am rest.example");
      const strict = await startProxy({ tcp: { serverNames: { "a.example": "a" } } }, pools);
      expect(await tlsText(strict.port, "c.example")).toBe("");
      expect(strict.proxy.metrics().events["refused.no-route"]).toBe(1);
      const client = new RawClient(strict.port).send("GET / HTTP/1.1\r\n\r\n");
      expect(await client.end(10_000)).toBe("");
      expect(strict.proxy.metrics().events["refused.not-tls"]).toBe(1);
    });
  });
});

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const ENDS = { address: ip("192.0.2.1"), port: 4711, toAddress: ip("192.0.2.80"), toPort: 443 };
const header = (version: 1 | 2): string => Buffer.from(writeProxyHeader(version, ENDS)).toString("latin1");

describe("the PROXY protocol from clients", () => {
  it("tells who the client is, however its bytes come", async () => {
    const backend = await startAnswering(OK);
    const pools = { apps: { backends: { a: backend.at } } };
    for (const http2 of [false, true]) {
      const { port } = await startProxy({ http2, acceptProxyProtocol: ["127.0.0.0/8"], pool: "apps" }, pools);
      for (const version of [1, 2] as const) {
        const client = new RawClient(port);
        for (const letter of header(version)) client.send(letter);
        expect(statusOf(await client.send(GET).end(10_000))).toBe(200);
        expect(statusOf(await new RawClient(port).send(header(version) + GET).end(10_000))).toBe(200);
      }
    }
    expect(backend.got.length).toBe(8);
    for (const head of backend.got) expect(head).toContain("X-Forwarded-For: 192.0.2.1\r\n");
  });

  it("is demanded of those networks, and a request's text for all others", async () => {
    const backend = await startAnswering(OK);
    const pools = { apps: { backends: { a: backend.at } } };
    const strict = await startProxy({ acceptProxyProtocol: ["127.0.0.0/8"], pool: "apps" }, pools);
    expect(await new RawClient(strict.port).send(GET).end(10_000)).toBe("");
    expect(strict.proxy.metrics().events["refused.no-proxy-header"]).toBe(1);
    const others = await startProxy({ acceptProxyProtocol: ["192.0.2.0/24"], pool: "apps" }, pools);
    expect(statusOf(await new RawClient(others.port).send(header(1) + GET).end(10_000))).toBe(505);
    expect(statusOf(await new RawClient(others.port).send(GET).end(10_000))).toBe(200);
    expect(backend.got.length).toBe(1);
  });

  it("ends those who never finish it", async () => {
    const backend = await startAnswering(OK);
    const { port, proxy } = await startProxy(
      { acceptProxyProtocol: ["127.0.0.0/8"], pool: "apps", timeouts: { handshake: "100ms" } },
      { apps: { backends: { a: backend.at } } },
    );
    await new RawClient(port).send("PROXY TCP4 1").end(10_000);
    expect(proxy.metrics().events["refused.greeting-timeout"]).toBe(1);
    await eventually(() => proxy.metrics().gauges["client_connections"] === 0);
  });

  it.skipIf(!openssl)("comes before TLS, for HTTP/1.1 and HTTP/2", async () => {
    const backend = await startAnswering(OK);
    const { port } = await startProxy(
      {
        http2: true,
        acceptProxyProtocol: ["127.0.0.0/8"],
        pool: "apps",
        tls: { certificates: [makeCertificate("shop.example")] },
      },
      { apps: { backends: { a: backend.at } } },
    );
    const introduced = (ALPNProtocols: string[]): TLSSocket => {
      const raw = connect(port, "127.0.0.1");
      raw.write(header(2), "latin1");
      const socket = tlsConnect({
        socket: raw,
        servername: "shop.example",
        rejectUnauthorized: false,
        ALPNProtocols,
      });
      socket.on("error", () => undefined);
      cleanups.push(() => void socket.destroy());
      return socket;
    };
    const plain = introduced(["http/1.1"]);
    let text = "";
    plain.on("data", (chunk: Buffer) => (text += chunk.toString()));
    plain.write(GET);
    await eventually(() => statusOf(text) === 200);
    const session = http2Client(port, introduced(["h2"]));
    cleanups.push(() => session.destroy());
    expect((await request(session, { ":path": "/" })).status).toBe(200);
    for (const head of backend.got) {
      expect(head).toContain("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n");
    }
    expect(backend.got.length).toBe(2);
  });
});

describe("the PROXY protocol to backends", () => {
  it("begins each connection, and no connection serves two clients", async () => {
    const got: string[] = [];
    const at = await startRaw((socket) => {
      let text = "";
      socket.on("data", (chunk: Buffer) => {
        text += chunk.toString("latin1");
        if (!text.endsWith("\r\n\r\n")) return;
        got.push(text);
        text = "";
        socket.write(OK);
      });
    });
    const { port } = await startProxy(
      {
        acceptProxyProtocol: ["127.0.0.0/8"],
        routes: [{ pool: "apps", upstream: { proxyProtocol: 1 } }],
      },
      { apps: { backends: { a: at } } },
    );
    const client = new RawClient(port).send(`${header(2)}GET /1 HTTP/1.1\r\nHost: x\r\n\r\n`);
    await client.until((text) => text.endsWith("ok"));
    await client.send(GET).end(10_000);
    expect(got.length).toBe(2);
    for (const text of got) expect(text).toMatch(/^PROXY TCP4 192\.0\.2\.1 192\.0\.2\.80 4711 443\r\nGET /);
  });

  it("goes before a stream's own bytes", async () => {
    let got = "";
    const at = await startRaw((socket) => {
      socket.on("data", (chunk: Buffer) => (got += chunk.toString("latin1")));
    });
    const { port } = await startProxy(
      { tcp: { pool: "db", proxyProtocol: 2 } },
      { db: { backends: { a: at } } },
    );
    const client = new RawClient(port).send("hello");
    await eventually(() => got.endsWith("hello"));
    const local = client.socket.localPort ?? 0;
    const ends = { address: ip("127.0.0.1"), port: local, toAddress: ip("127.0.0.1"), toPort: port };
    expect(got).toBe(`${Buffer.from(writeProxyHeader(2, ends)).toString("latin1")}hello`);
  });
});
