import type { Socket } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import { http2Client, request } from "../testing/http2.ts";
import {
  RawClient,
  ask,
  cleanUp,
  onCleanUp,
  siteOf,
  sleep,
  startAnswering,
  startHttp,
  startProxy,
  startRaw,
  statusOf,
} from "../testing/harness.ts";

afterEach(cleanUp);

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const CLOSE = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const MIB = 1_048_576;
const UPLOAD = `POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${MIB}\r\n\r\n${"x".repeat(MIB)}`;

/** Answers with the length of what came. */
const startCounting = (): Promise<string> =>
  startHttp((incoming, response) => {
    let length = 0;
    incoming.on("data", (piece: Buffer) => (length += piece.length));
    incoming.on("end", () => response.end(`got ${length}`));
  });

describe("a second try", () => {
  it("on a kept connection has its time for the response too", async () => {
    const sockets: Socket[] = [];
    let dead = false;
    const held: (() => void)[] = [];
    const at = await startRaw((socket) => {
      sockets.push(socket);
      socket.on("data", () => {
        if (!dead) held.push(() => socket.write(OK));
        // The connection used last is lost, the other one is silent.
        else if (held.length++ === 0) socket.destroy();
      });
    });
    const { port } = await startProxy(
      { routes: [{ pool: "apps", timeouts: { response: "300ms" } }] },
      { apps: { backends: { a: at } } },
    );
    const clients = [new RawClient(port), new RawClient(port)];
    for (const one of clients) one.send(GET);
    await vi.waitFor(() => expect(held).toHaveLength(2));
    for (const answer of held.splice(0)) answer();
    for (const one of clients) await one.until((text) => text.includes("\r\n\r\nok"));
    dead = true;
    expect(statusOf(await ask(port, CLOSE))).toBe(504);
    expect(sockets).toHaveLength(2);
  });
});

describe("a response's head", () => {
  it.each([
    ["interim responses without end", "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"],
    ["a head that comes drop by drop", "X"],
  ])("has its time, whatever comes before it: %s", async (_, piece) => {
    const at = await startRaw((socket) => {
      socket.on("error", () => undefined);
      socket.write("HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n");
      if (piece === "X") socket.write("HTTP/1.1 200 OK\r\nX");
      const timer = setInterval(() => socket.write(piece), 50);
      socket.on("close", () => clearInterval(timer));
    });
    const { port } = await startProxy(
      { routes: [{ pool: "apps", timeouts: { response: "400ms" } }] },
      { apps: { backends: { a: at } } },
    );
    const answer = new RawClient(port).send(CLOSE).until((text) => text.includes(" 504 "), 5000);
    expect(await answer).toContain(" 504 ");
  });
});

describe("an upload that was paused goes on", () => {
  it("after a backend that could not be reached", async () => {
    const good = await startCounting();
    const { port } = await startProxy(
      { http2: true, pool: "apps" },
      { apps: { backends: { bad: "127.0.0.1:1", good } } },
    );
    for (let i = 0; i < 4; i++) {
      const client = new RawClient(port).send(UPLOAD);
      expect(await client.end(4000)).toContain(`got ${MIB}`);
    }
    const session = http2Client(port);
    onCleanUp(() => session.destroy());
    for (let i = 0; i < 4; i++) {
      const answer = await request(session, { ":method": "POST", ":path": "/" }, Buffer.alloc(MIB));
      expect(answer).toMatchObject({ status: 200, body: `got ${MIB}` });
    }
  });

  it("after a middleware that took its time", async () => {
    const { port } = await startProxy(
      { http2: true, routes: [{ pool: "apps", middleware: [async () => sleep(100)] }] },
      { apps: { backends: { a: await startCounting() } } },
    );
    expect(await new RawClient(port).send(UPLOAD).end(4000)).toContain(`got ${MIB}`);
    const session = http2Client(port);
    onCleanUp(() => session.destroy());
    const answer = await request(session, { ":method": "POST", ":path": "/" }, Buffer.alloc(MIB));
    expect(answer).toMatchObject({ status: 200, body: `got ${MIB}` });
  });

  it("after its wait in the queue", async () => {
    const counting = await startHttp((incoming, response) => {
      let length = 0;
      incoming.on("data", (piece: Buffer) => (length += piece.length));
      incoming.on("end", () => setTimeout(() => response.end(`got ${length}`), length === 0 ? 150 : 0));
    });
    const { port } = await startProxy(
      { routes: [{ pool: "apps", limits: { requests: 1 } }] },
      { apps: { backends: { a: counting } } },
    );
    const first = ask(port, CLOSE);
    await sleep(50);
    expect(await new RawClient(port).send(UPLOAD).end(4000)).toContain(`got ${MIB}`);
    expect(await first).toContain("got 0");
  });
});

describe("a pool's queue", () => {
  it("lets nobody who came later go first, and nobody who cannot be served hold up the others", async () => {
    const order: string[] = [];
    const held: (() => void)[] = [];
    const at = await startHttp((incoming, response) => {
      order.push(incoming.url ?? "");
      if (incoming.url === "/held") held.push(() => response.end("ok"));
      else response.end("ok");
    });
    const { port } = await startProxy(
      {
        routes: [
          // It has no place while the other request is under way; the others have.
          { match: { path: "/one" }, pool: "apps", limits: { requests: 1 } },
          { pool: "apps", limits: { requests: 2 } },
        ],
      },
      { apps: { backends: { a: at } } },
    );
    const get = (path: string): Promise<string> =>
      ask(port, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    const first = [get("/held"), get("/held")];
    await vi.waitFor(() => expect(held).toHaveLength(2));
    const one = get("/one");
    await sleep(50);
    const other = get("/other");
    await sleep(50);
    held.pop()?.();
    expect(statusOf(await other)).toBe(200);
    held.pop()?.();
    expect(statusOf(await one)).toBe(200);
    await Promise.all(first);
    expect(order).toEqual(["/held", "/held", "/other", "/one"]);
  });

  it("that is full keeps those who wait in it", async () => {
    const at = await startHttp((_, response) => void setTimeout(() => response.end("ok"), 400));
    const { port } = await startProxy(
      { routes: [{ pool: "apps", limits: { requests: 1, queue: 1 } }] },
      { apps: { backends: { a: at } } },
    );
    const answers = await Promise.all([ask(port, CLOSE), ask(port, CLOSE)]);
    expect(answers.map(statusOf)).toEqual([200, 200]);
  });

  it("answers 503 where a reload takes the pool away", async () => {
    const at = await startRaw((socket) => void socket.resume());
    const { proxy, port } = await startProxy(
      { routes: [{ pool: "apps", limits: { requests: 1, wait: "60s" } }] },
      { apps: { backends: { a: at } } },
    );
    const first = new RawClient(port).send(GET);
    await sleep(50);
    const second = new RawClient(port).send(CLOSE);
    await sleep(50);
    const other = await startAnswering(OK);
    await proxy.apply(siteOf({ pool: "others" }, { others: { backends: { a: other.at } } }));
    expect(statusOf(await second.end())).toBe(503);
    expect(first.text).toBe("");
  });
});
