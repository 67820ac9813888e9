import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { RetryBudget } from "./engine/policy-retry.ts";
import {
  RawClient,
  ask,
  cleanUp,
  makeCertificate,
  onCleanUp,
  openssl,
  startAnswering,
  startProxy,
  statusOf,
} from "./testing/harness.ts";

const answer = (body: string): string => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
const get = (more = "", path = "/"): string =>
  `GET ${path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n${more}\r\n`;
const bodyOf = (text: string): string => text.slice(text.indexOf("\r\n\r\n") + 4);

afterEach(cleanUp);

describe("what a site asks for beside routes", () => {
  it("a trace is begun where the client sent none, and one that it sent goes on", async () => {
    const backend = await startAnswering(answer("ok"));
    const { port } = await startProxy(
      { pool: "apps", traceContext: true },
      { apps: { backends: { a: backend.at } } },
    );
    await ask(port, get());
    const theirs = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await ask(port, get(`${theirs}\r\n`));
    expect(backend.got[0]).toMatch(/\r\ntraceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-01\r\n/);
    expect(backend.got.join("").match(/traceparent/gi)).toHaveLength(2);
    expect(backend.got[1]).toContain(theirs);
  });

  it("an error page for the proxy's own answers, and none for a backend's", async () => {
    const backend = await startAnswering("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\ntheir");
    const { port } = await startProxy(
      { routes: [{ match: { path: "/in/" }, pool: "apps" }], errorPages: { "404": "<h1>ours</h1>" } },
      { apps: { backends: { a: backend.at } } },
    );
    const own = await ask(port, get());
    expect(bodyOf(own)).toBe("<h1>ours</h1>");
    expect(own).toContain("Content-Type: text/html; charset=utf-8\r\n");
    expect(bodyOf(await ask(port, get("", "/in/x")))).toBe("their");
  });

  it("weights between pools: a canary of none gets nothing, and of all everything", async () => {
    const stable = await startAnswering(answer("stable"));
    const canary = await startAnswering(answer("canary"));
    const pools = { stable: { backends: { a: stable.at } }, canary: { backends: { a: canary.at } } };
    const run = async (weights: Record<string, number>, next: () => number): Promise<number> => {
      const { port } = await startProxy({ routes: [{ pool: weights }] }, pools, { random: { next } });
      const answers: string[] = [];
      for (let i = 0; i < 20; i++) answers.push(bodyOf(await ask(port, get())));
      return answers.filter((body) => body === "canary").length;
    };
    let turn = 0;
    // Every twentieth part of the interval in turn, so that shares are exact.
    const inTurn = (): number => (turn++ % 20) / 20;
    expect(await run({ stable: 0, canary: 1 }, inTurn)).toBe(20);
    expect(await run({ stable: 1, canary: 0 }, inTurn)).toBe(0);
  });

  it("a log in the combined format", async () => {
    const directory = mkdtempSync(join(tmpdir(), "nines-log-"));
    onCleanUp(() => rmSync(directory, { recursive: true, force: true }));
    const file = join(directory, "access.log");
    const backend = await startAnswering(answer("ok"));
    const { port } = await startProxy(
      { pool: "apps", accessLog: { file, format: "combined" } },
      { apps: { backends: { a: backend.at } } },
    );
    await ask(port, get('Referer: http://a/\r\nUser-Agent: a"b\r\n', "/x?y"));
    await vi.waitFor(
      () =>
        expect(readFileSync(file, "utf8")).toMatch(
          /^127\.0\.0\.1 - - \[\d\d\/\w{3}\/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET \/x\?y HTTP\/1\.1" 200 2 "http:\/\/a\/" "a\\x22b"$/m,
        ),
      { timeout: 10_000 },
    );
  });

  it("compressed bytes have no strong validator of the backend's", async () => {
    const body = "compressible ".repeat(300);
    const head = `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: "v1"\r\nContent-Length: ${body.length}`;
    const backend = await startAnswering(`${head}\r\n\r\n${body}`);
    const { port } = await startProxy(
      { routes: [{ pool: "apps", compress: true }] },
      { apps: { backends: { a: backend.at } } },
    );
    expect(await ask(port, get("Accept-Encoding: gzip\r\n"))).toMatch(/etag: W\/"v1"\r\n/i);
    expect(await ask(port, get())).toMatch(/etag: "v1"\r\n/i);
  });
});

describe("TLS to backends", () => {
  it.skipIf(!openssl)("a client's nonsensical host does not eject them", async () => {
    const files = makeCertificate("a.example");
    const server = createServer(
      { cert: readFileSync(files.certificate), key: readFileSync(files.key) },
      (_, response) => response.end("ok"),
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onCleanUp(() => {
      server.closeAllConnections();
      server.close();
    });
    let handshakes = 0;
    server.on("connection", () => handshakes++);
    const at = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const { proxy, port } = await startProxy(
      { routes: [{ pool: "apps", upstream: { tls: { ca: files.certificate } } }] },
      { apps: { backends: { a: at } } },
    );
    const asked = (host: string) => ask(port, `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    for (let i = 0; i < 6; i++) expect(statusOf(await asked("b.example"))).toBe(502);
    // Nor is it tried again.
    expect(handshakes).toBe(6);
    expect(proxy.ejected()).toEqual([]);
    expect(statusOf(await asked("a.example"))).toBe(200);
  });

  it.skipIf(!openssl)(
    "is checked, and its connections are not taken for plain ones or for other names",
    async () => {
      const files = makeCertificate("backend.example");
      const names: (string | false | null)[] = [];
      const server = createServer(
        { cert: readFileSync(files.certificate), key: readFileSync(files.key), keepAliveTimeout: 60_000 },
        (_, response) => response.end("secret"),
      );
      server.on("secureConnection", ({ servername }) => names.push(servername));
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      onCleanUp(() => {
        server.closeAllConnections();
        server.close();
      });
      const at = `127.0.0.1:${(server.address() as AddressInfo).port}`;
      const trusted = { tls: { ca: files.certificate, serverName: "backend.example" } };
      const { port } = await startProxy(
        {
          routes: [
            { match: { path: "/good" }, pool: "apps", upstream: trusted },
            { match: { path: "/loose" }, pool: "apps", upstream: { tls: { verify: false } } },
            { match: { path: "/plain" }, pool: "apps" },
            { pool: "apps", upstream: { tls: {} } },
          ],
        },
        { apps: { backends: { a: at } } },
      );
      // One client connection, so that kept connections may be used from the second request on.
      const client = new RawClient(port);
      const answers = (count: number) => (text: string) => text.split("HTTP/1.1 ").length > count;
      const ways = ["/good", "/loose", "/good", "/unknown", "/plain", "/good"];
      for (const [i, way] of ways.entries()) {
        client.send(`GET ${way} HTTP/1.1\r\nHost: shop.example\r\n\r\n`);
        await client.until(answers(i + 1));
      }
      const statuses = client.text
        .split("HTTP/1.1 ")
        .slice(1)
        .map((part) => Number(part.slice(0, 3)));
      expect(statuses[0]).toBe(200);
      expect(statuses[1]).toBe(200);
      expect(statuses[2]).toBe(200);
      // A certificate that nobody trusted signed: 502, whatever was kept from the other routes.
      expect(statuses[3]).toBe(502);
      // In the clear to a server of TLS: an error of its own or a broken connection, but never a kept one of TLS.
      expect(statuses[4]).not.toBe(200);
      expect(statuses[5]).toBe(200);
      expect(names.filter((name) => name === "backend.example")).toHaveLength(1);
      expect(names).toContain("shop.example");
    },
  );

  it("with a file that cannot be read is told when the site is applied, not by a crash at the first request", async () => {
    await expect(
      startProxy(
        { routes: [{ pool: "apps", upstream: { tls: { ca: "/nonexistent/ca.pem" } } }] },
        { apps: { backends: { a: "127.0.0.1:1" } } },
      ),
    ).rejects.toThrow(/upstream.tls \(\/nonexistent\/ca.pem\)/);
  });
});

describe("the budget of retries", () => {
  it("is a share of the requests of ten to twenty seconds, and three a second in any case", () => {
    const budget = new RetryBudget(0.2);
    let taken = 0;
    while (budget.take(0)) taken++;
    expect(taken).toBe(30);
    for (let i = 0; i < 1000; i++) budget.request(1000);
    while (budget.take(1000)) taken++;
    expect(taken).toBe(200);
    // The window before still counts, the one before that does not.
    expect(budget.take(10_500)).toBe(false);
    expect(budget.take(31_000)).toBe(true);
  });

  it("keeps a pool that fails as a whole from twice its load", async () => {
    const { port, proxy } = await startProxy(
      { routes: [{ pool: "apps", retries: { attempts: 3, budget: 0 }, outlier: false }] },
      { apps: { backends: { a: "127.0.0.1:1", b: "127.0.0.1:2" } } },
    );
    const answers = await Promise.all(Array.from({ length: 60 }, async () => ask(port, get())));
    expect(new Set(answers.map(statusOf))).toEqual(new Set([502]));
    expect(proxy.metrics().events["retried"]).toBe(30);
  });
});
