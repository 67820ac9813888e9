import { afterEach, describe, expect, it, vi } from "vitest";
import {
  RawClient,
  ask,
  cleanUp,
  sleep,
  startAnswering,
  startHttp,
  startProxy,
  startRaw,
  statusOf,
} from "../testing/harness.ts";

afterEach(cleanUp);

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";
const CLOSE = "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";

describe("forwarding a request", () => {
  it("writes the head anew: hop-by-hop fields go, the client's claims about itself go, ours come", async () => {
    const backend = await startAnswering(OK);
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: backend.at } } });
    await ask(
      port,
      "GET /x?y HTTP/1.1\r\nHost: Shop.example\r\nA:  b \r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n" +
        "Keep-Alive: 5\r\nProxy-Authorization: x\r\nX-Forwarded-For: 6.6.6.6\r\nX-Request-Id: mine\r\nForwarded: for=1\r\nC: d\r\n\r\n",
    );
    const lines = (backend.got[0] ?? "").split("\r\n");
    expect(lines.slice(0, 7)).toEqual([
      "GET /x?y HTTP/1.1",
      "Host: Shop.example",
      "A: b",
      "C: d",
      "X-Forwarded-For: 127.0.0.1",
      "X-Forwarded-Proto: http",
      "X-Forwarded-Host: Shop.example",
    ]);
    expect(lines[7]).toMatch(/^x-request-id: [0-9a-f]{12}-1$/);
    expect(lines.slice(8)).toEqual(["", ""]);
  });

  it("believes a trusted proxy", async () => {
    const backend = await startAnswering(OK);
    const { port } = await startProxy(
      { pool: "apps", trustedProxies: ["127.0.0.0/8"], forwarded: ["x-forwarded", "forwarded"] },
      { apps: { backends: { a: backend.at } } },
    );
    await ask(
      port,
      "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Request-Id: mine\r\nConnection: close\r\n\r\n",
    );
    expect(backend.got[0]).toContain("X-Forwarded-For: 9.9.9.9, 127.0.0.1\r\nX-Forwarded-Proto: https\r\n");
    expect(backend.got[0]).toContain("x-request-id: mine\r\n");
    expect(backend.got[0]).toContain('Forwarded: for=127.0.0.1;host="a";proto=http\r\n');
  });

  it.each([
    ["9.9.9.9, 10.0.0.7, 10.0.0.8", "9.9.9.9", "several trusted proxies in a row"],
    ["6.6.6.6, 9.9.9.9, 10.0.0.8", "9.9.9.9", "what the client invented stands left of it"],
    ["10.0.0.7", "10.0.0.7", "nobody but trusted proxies"],
    ["9.9.9.9, unknown", "127.0.0.1", "a hop that is no address"],
  ])("takes from X-Forwarded-For %s the client %s: %s", async (line, client) => {
    const { port } = await startProxy(
      {
        trustedProxies: ["127.0.0.0/8", "10.0.0.0/8"],
        routes: [
          { match: { client: `${client}/32` }, respond: { status: 204 } },
          { respond: { status: 403 } },
        ],
      },
      {},
    );
    const answer = await ask(
      port,
      `GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: ${line}\r\nConnection: close\r\n\r\n`,
    );
    expect(answer).toContain("HTTP/1.1 204");
  });

  it("keeps connections on both sides and answers pipelined requests in order", async () => {
    let n = 0;
    const at = await startHttp((request, response) => response.end(`${request.url}-${n++}`));
    const { port, proxy } = await startProxy({ pool: "apps" }, { apps: { backends: { a: at } } });
    const client = new RawClient(port);
    client.send(["/a", "/b", "/c"].map((path) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`).join(""));
    const text = await client.until((all) => all.includes("/c-2"));
    expect(text.match(/\/[abc]-\d/g)).toEqual(["/a-0", "/b-1", "/c-2"]);
    expect(proxy.metrics().gauges["upstream_connections"]).toBe(1);
  });

  it("answers HTTP/1.0 without chunks, and closes", async () => {
    const backend = await startAnswering(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    );
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: backend.at } } });
    const text = await ask(port, "GET / HTTP/1.0\r\n\r\n");
    expect(text).toBe("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi");
  });

  it("passes HEAD, 204 and 304 without a body", async () => {
    for (const [method, answer] of [
      ["HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"],
      ["GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: x\r\n\r\n"],
      ["GET", "HTTP/1.1 204 No Content\r\n\r\n"],
    ] as const) {
      const backend = await startAnswering(answer);
      const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: backend.at } } });
      const client = new RawClient(port);
      client.send(`${method} / HTTP/1.1\r\nHost: x\r\n\r\n${method} /2 HTTP/1.1\r\nHost: x\r\n\r\n`);
      await client.until((text) => text.split("HTTP/1.1 ").length === 3);
      expect(client.text.endsWith("\r\n\r\n")).toBe(true);
      expect(client.text.includes("Content-Length: 500")).toBe(!answer.includes(" 204 "));
      await cleanUp();
    }
  });

  it("passes bodies of both framings, trailers and early hints", async () => {
    const at = await startHttp((request, response) => {
      const parts: Buffer[] = [];
      request.on("data", (chunk: Buffer) => parts.push(chunk));
      request.on("end", () => {
        response.writeEarlyHints({ link: "</a.css>; rel=preload" });
        response.writeHead(200, { trailer: "x-sum" });
        response.write(Buffer.concat(parts));
        response.addTrailers({ "x-sum": request.trailers["x-in"] ?? "none" });
        response.end();
      });
    });
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: at } } });
    const chunked = await ask(
      port,
      "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-In: 7\r\n\r\n",
    );
    expect(chunked).toMatch(/^HTTP\/1\.1 103 Early Hints\r\n/);
    expect(chunked).toContain("\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n");
    const sized = await ask(
      port,
      "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nworld",
    );
    expect(sized).toContain("5\r\nworld\r\n");
  });

  it.each([10, 5_000, 70_000, 3_000_000])("moves %i bytes both ways unchanged", async (size) => {
    const body = Buffer.alloc(size);
    for (let i = 0; i < size; i++) body[i] = (i * 31 + (i >> 8)) & 255;
    const at = await startHttp((request, response) => {
      response.writeHead(200, size % 2 === 0 ? { "content-length": size } : {});
      request.pipe(response);
    });
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: at } } });
    const response = await fetch(`http://127.0.0.1:${port}/`, { method: "POST", body });
    expect(Buffer.from(await response.arrayBuffer()).equals(body)).toBe(true);
  });

  it("answers 100 itself where the client waits for it", async () => {
    const at = await startHttp((request, response) => {
      expect(request.headers.expect).toBeUndefined();
      request.resume().on("end", () => response.end("done"));
    });
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: at } } });
    const client = new RawClient(port);
    client.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    await client.until((text) => text === "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("abc");
    await client.until((text) => text.includes("done"));
  });

  it("passes an early answer on while the client still sends, and then ends the connection", async () => {
    const at = await startRaw((socket) => {
      socket.once("data", () => socket.write("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"));
    });
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: at } } });
    const client = new RawClient(port);
    client.send(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n${"a".repeat(1000)}`);
    const text = await client.end();
    expect(text).toContain("HTTP/1.1 403 No\r\n");
    expect(text).toContain("Connection: close\r\n");
  });

  it("answers a client that has half closed", async () => {
    const at = await startRaw((socket) => {
      socket.once("data", () => setTimeout(() => socket.write(OK), 50));
    });
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: at } } });
    const client = new RawClient(port);
    client.socket.end(GET);
    expect(await client.end()).toContain("\r\n\r\nok");
  });

  it("tells the backend when the client goes away", async () => {
    let asked = false;
    let gone = false;
    const at = await startRaw((socket) => {
      socket.on("data", () => (asked = true));
      socket.on("end", () => (gone = true));
    });
    const { port, proxy } = await startProxy({ pool: "apps" }, { apps: { backends: { a: at } } });
    const client = new RawClient(port);
    client.send(GET);
    await vi.waitFor(() => expect(asked).toBe(true), { timeout: 10_000 });
    client.socket.resetAndDestroy();
    await vi.waitFor(() => expect(gone).toBe(true), { timeout: 10_000 });
    expect(proxy.metrics().events["client-gone"]).toBe(1);
  });

  it("does not take a response cut short for a whole one", async () => {
    const at = await startRaw((socket) => {
      socket.once("data", () => {
        socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
        setTimeout(() => socket.destroy(), 30);
      });
    });
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: at } } });
    const text = await ask(port, GET);
    expect(text).toContain("2\r\nhi\r\n");
    expect(text).not.toContain("0\r\n\r\n");
  });

  it("refuses a broken request with its reason and counts it", async () => {
    const { port, proxy } = await startProxy({ pool: "apps" }, { apps: { backends: { a: "127.0.0.1:1" } } });
    expect(statusOf(await ask(port, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"))).toBe(400);
    expect(statusOf(await ask(port, "GET / HTTP/1.1\nHost: a\n\n"))).toBe(400);
    expect(statusOf(await ask(port, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"))).toBe(405);
    expect(proxy.metrics().events).toMatchObject({ "refused.duplicate-field": 1, "refused.bare-lf": 1 });
  });

  it("makes 502 of a response that is not one", async () => {
    const backend = await startAnswering(
      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: backend.at } } });
    expect(statusOf(await ask(port, CLOSE))).toBe(502);
  });

  it("never sends a request on after it has answered it", async () => {
    const backend = await startAnswering(OK);
    const { port } = await startProxy(
      { pool: "apps", limits: { body: "10B" } },
      { apps: { backends: { a: backend.at } } },
    );
    const text = await ask(port, `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n${GET}`);
    expect(statusOf(text)).toBe(413);
    expect(text.split("HTTP/1.1 ")).toHaveLength(2);
    expect(backend.got).toEqual([]);
  });

  it("tunnels a WebSocket, and ends both sides together", async () => {
    const at = await startRaw((socket) => {
      socket.once("data", (head: Buffer) => {
        expect(head.toString()).toContain("Connection: Upgrade\r\nUpgrade: websocket\r\n");
        socket.write(
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello",
        );
        socket.on("data", (chunk: Buffer) => socket.write(`echo ${chunk.toString()}`));
      });
    });
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: at } } });
    const client = new RawClient(port);
    client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    await client.until((text) => text.endsWith("\r\n\r\nhello"));
    client.send("one");
    await client.until((text) => text.endsWith("echo one"));
    client.socket.end();
    await sleep(30);
  });

  it("never passes h2c upgrades on", async () => {
    const backend = await startAnswering(OK);
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: backend.at } } });
    await ask(
      port,
      "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    );
    expect(backend.got[0]).not.toMatch(/upgrade|http2-settings/i);
  });
});

describe("when a backend fails", () => {
  it("tries another one where nothing was sent", async () => {
    const good = await startAnswering(OK);
    const { port, proxy } = await startProxy(
      { pool: "apps" },
      { apps: { backends: { bad: "127.0.0.1:1", good: good.at } } },
    );
    for (let i = 0; i < 6; i++) expect(statusOf(await ask(port, CLOSE))).toBe(200);
    expect(proxy.metrics().events["retried"]).toBeGreaterThan(0);
  });

  it("sends a lost GET again, but not a lost POST", async () => {
    let seen = 0;
    const at = await startRaw((socket) => {
      socket.once("data", () => {
        if (seen++ % 2 === 0) socket.destroy();
        else socket.write(OK);
      });
    });
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: at } } });
    expect(statusOf(await ask(port, CLOSE))).toBe(200);
    expect(
      statusOf(
        await ask(port, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\na"),
      ),
    ).toBe(502);
    expect(seen).toBe(3);
  });

  it("survives a backend that closes kept connections", async () => {
    const at = await startRaw((socket) => {
      socket.once("data", () => {
        socket.write(OK);
        socket.once("data", () => socket.destroy());
      });
    });
    const { port } = await startProxy({ pool: "apps" }, { apps: { backends: { a: at } } });
    const client = new RawClient(port);
    for (let i = 1; i <= 5; i++) {
      client.send(GET);
      await client.until((text) => text.split("\r\n\r\nok").length === i + 1);
    }
  });

  it("leaves a backend that died with several kept connections, before they have cost every try", async () => {
    let dead = false;
    const held: (() => void)[] = [];
    const dying = await startRaw((socket) =>
      socket.on("data", () => {
        if (dead) socket.destroy();
        else held.push(() => socket.write(OK));
      }),
    );
    const { at } = await startAnswering(OK);
    const { proxy, port } = await startProxy(
      { pool: "apps" },
      { apps: { backends: { dying: { address: dying, weight: 100 }, other: { address: at, weight: 1 } } } },
    );
    // Three requests at once are three connections, which are then kept.
    const client = new RawClient(port);
    const clients = [client, new RawClient(port), new RawClient(port)];
    for (const one of clients) one.send(GET);
    await vi.waitFor(() => expect(held).toHaveLength(3));
    for (const answer of held) answer();
    for (const one of clients) await one.until((text) => text.includes("\r\n\r\nok"));
    dead = true;
    client.send(GET);
    await client.until((text) => text.split("HTTP/1.1 ").length === 3);
    expect(client.text).not.toContain("HTTP/1.1 502");
    expect(proxy.metrics().events["retried"]).toBe(2);
  });

  it("ejects a backend after failures in a row, and believes no ejection that leaves nobody", async () => {
    const bad = await startAnswering("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    const good = await startAnswering(OK);
    const notices: string[] = [];
    const { port } = await startProxy(
      { routes: [{ pool: "apps", outlier: { failures: 3 } }] },
      { apps: { backends: { bad: bad.at, good: good.at } } },
      { events: { notice: (event) => notices.push(event) } },
    );
    for (let i = 0; i < 20; i++) await ask(port, CLOSE);
    expect(bad.got).toHaveLength(3);
    expect(notices).toEqual(["proxy.backend_ejected"]);
  });

  it("queues beyond a backend's limit, and serves in turn", async () => {
    let most = 0;
    let now = 0;
    const at = await startHttp((_, response) => {
      most = Math.max(most, ++now);
      setTimeout(() => {
        now--;
        response.end("ok");
      }, 20);
    });
    const { port } = await startProxy(
      { routes: [{ pool: "apps", limits: { requests: 2, queue: 10 } }] },
      { apps: { backends: { a: at } } },
    );
    const answers = await Promise.all(Array.from({ length: 10 }, async () => ask(port, CLOSE)));
    expect(answers.map(statusOf)).toEqual(Array.from({ length: 10 }, () => 200));
    expect(most).toBe(2);
  });

  it("opens no more connections to a backend than the limit, and gives the place of a kept one to who needs a new one", async () => {
    let open = 0;
    let most = 0;
    const at = await startRaw((socket) => {
      most = Math.max(most, ++open);
      socket.on("data", () => setTimeout(() => socket.write(OK), 10));
      socket.on("end", () => socket.end());
      socket.on("close", () => open--);
    });
    const { port, proxy } = await startProxy(
      { routes: [{ pool: "apps", limits: { connections: 2, queue: 20 } }] },
      { apps: { backends: { a: at } } },
    );
    const answers = await Promise.all(Array.from({ length: 12 }, async () => ask(port, CLOSE)));
    expect(answers.map(statusOf)).toEqual(Array.from({ length: 12 }, () => 200));
    expect(most).toBe(2);
    // A client's first POST wants a connection of its own.
    const post = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\na";
    expect(statusOf(await ask(port, post))).toBe(200);
    expect(proxy.metrics().gauges["upstream_connections"]).toBeLessThanOrEqual(2);
  });

  it("times out with 504, and with 503 in a queue", async () => {
    const at = await startRaw((socket) => socket.on("data", () => {}));
    const { port } = await startProxy(
      { routes: [{ pool: "apps", timeouts: { response: "1500ms" }, limits: { requests: 1, wait: "60ms" } }] },
      { apps: { backends: { a: at } } },
    );
    const answers = await Promise.all([ask(port, CLOSE), ask(port, CLOSE)]);
    expect(new Set(answers.map(statusOf))).toEqual(new Set([503, 504]));
  });
});

describe("slow clients", () => {
  it("get 408 for a head that does not end", async () => {
    const { port } = await startProxy(
      { pool: "apps", timeouts: { head: "100ms" } },
      { apps: { backends: { a: "127.0.0.1:1" } } },
    );
    const client = new RawClient(port);
    client.send("GET / HT");
    expect(statusOf(await client.end())).toBe(408);
  });

  it("get 408 for a body that does not end", async () => {
    const at = await startHttp((request) => void request.resume());
    const { port } = await startProxy(
      { pool: "apps", timeouts: { body: "100ms" } },
      { apps: { backends: { a: at } } },
    );
    const client = new RawClient(port);
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
    expect(statusOf(await client.end())).toBe(408);
  });

  it("that do not read stop the backend instead of filling memory", async () => {
    let written = 0;
    const at = await startRaw((socket) => {
      socket.once("data", () => {
        socket.write("HTTP/1.1 200 OK\r\n\r\n");
        const piece = Buffer.alloc(65_536);
        const push = (): void => {
          while (written < 200 * 1024 * 1024 && socket.write(piece)) written += piece.length;
        };
        socket.on("drain", push);
        push();
      });
    });
    const { port } = await startProxy(
      { pool: "apps", timeouts: { write: "600ms" } },
      { apps: { backends: { a: at } } },
    );
    const client = new RawClient(port);
    client.socket.pause();
    client.send(GET);
    await sleep(300);
    expect(written).toBeLessThan(40 * 1024 * 1024);
  });
});
