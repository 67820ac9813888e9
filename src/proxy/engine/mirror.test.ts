import * as zlib from "node:zlib";
import { afterEach, describe, expect, it } from "vitest";
import { eventually } from "../testing/http2.ts";
import {
  RawClient,
  ask,
  cleanUp,
  startAnswering,
  startHttp,
  startProxy,
  startRaw,
  statusOf,
} from "../testing/harness.ts";

afterEach(cleanUp);

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const request = (head: string): string => `${head}\r\nHost: x\r\nConnection: close\r\n\r\n`;

describe("a mirror", () => {
  it("gets what the backend gets, but no bodies, and its answer goes nowhere", async () => {
    const backend = await startAnswering(OK);
    const copy = await startAnswering("HTTP/1.1 500 No\r\nContent-Length: 5\r\n\r\nwrong");
    const { port, proxy } = await startProxy(
      { routes: [{ pool: "apps", mirror: { pool: "shadow" }, rewrite: { prefix: "/", to: "/v2/" } }] },
      { apps: { backends: { a: backend.at } }, shadow: { backends: { b: copy.at } } },
    );
    const text = await ask(port, request("GET /x HTTP/1.1\r\nCookie: a=1"));
    expect([statusOf(text), text.endsWith("ok")]).toEqual([200, true]);
    await ask(port, request("POST /y HTTP/1.1\r\nContent-Length: 2").concat("ab"));
    await eventually(() => proxy.metrics().events["mirror.sent"] === 1);
    expect(copy.got).toEqual([backend.got[0]]);
    expect(copy.got[0]).toMatch(/^GET \/v2\/x HTTP\/1\.1\r\nHost: x\r\nCookie: a=1\r\n/);
    expect(proxy.metrics().gauges["requests_in_flight"]).toBe(0);
  });

  it("that hangs or is gone delays nobody, and copies are bounded", async () => {
    const backend = await startAnswering(OK);
    const hanging = await startRaw((socket) => socket.resume());
    const { port, proxy } = await startProxy(
      {
        routes: [
          { match: { path: "/gone" }, pool: "apps", mirror: { pool: "gone" } },
          { pool: "apps", mirror: { pool: "hanging" } },
        ],
      },
      {
        apps: { backends: { a: backend.at } },
        hanging: { backends: { b: hanging } },
        gone: { backends: { c: "127.0.0.1:1" } },
      },
    );
    expect(statusOf(await ask(port, request("GET /gone HTTP/1.1")))).toBe(200);
    await eventually(() => proxy.metrics().events["mirror.connect"] === 1);
    const client = new RawClient(port);
    for (let i = 1; i <= 70; i++) {
      client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
      await client.until((text) => text.split("\r\n\r\nok").length === i + 1, 10_000);
    }
    expect(proxy.metrics().events["mirror.too-many"]).toBe(6);
  });

  it("takes a share", async () => {
    const backend = await startAnswering(OK);
    const copy = await startAnswering(OK);
    const draws = [0.1, 0.9];
    const { port, proxy } = await startProxy(
      { routes: [{ pool: "apps", mirror: { pool: "shadow", share: 0.5 } }] },
      { apps: { backends: { a: backend.at } }, shadow: { backends: { b: copy.at } } },
      { random: { next: () => draws[0] ?? 0 } },
    );
    await ask(port, request("GET /1 HTTP/1.1"));
    draws.shift();
    await ask(port, request("GET /2 HTTP/1.1"));
    await eventually(() => proxy.metrics().events["mirror.sent"] === 1);
    expect(copy.got.length).toBe(1);
  });
});

describe("zstd", () => {
  const has = "createZstdCompress" in zlib;
  const start = async (): Promise<number> => {
    const at = await startHttp((_incoming, response) => {
      response.setHeader("content-type", "text/plain");
      response.end("x".repeat(5000));
    });
    const route = { pool: "apps", compress: ["zstd" as const, "gzip" as const] };
    return (await startProxy({ routes: [route] }, { apps: { backends: { a: at } } })).port;
  };
  it.skipIf(!has)("is used where Node has it", async () => {
    const text = await ask(await start(), request("GET / HTTP/1.1\r\nAccept-Encoding: gzip, zstd"));
    expect(text).toContain("Content-Encoding: zstd\r\n");
  });
  it.skipIf(has)("is passed over where Node has none", async () => {
    const text = await ask(await start(), request("GET / HTTP/1.1\r\nAccept-Encoding: gzip, zstd"));
    expect(text).toContain("Content-Encoding: gzip\r\n");
  });
});
