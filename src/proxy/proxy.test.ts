import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as tlsConnect } from "node:tls";
import { afterEach, describe, expect, it, vi } from "vitest";
import { createProxy } from "./embed.ts";
import {
  RawClient,
  ask,
  cleanUp,
  siteOf,
  startAnswering,
  startHttp,
  startProxy,
  startRaw,
  statusOf,
} from "./testing/harness.ts";

afterEach(cleanUp);

const request = (path: string, more = ""): string =>
  `GET ${path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n${more}\r\n`;

describe("routing", () => {
  it("by host, path, header and the rest, the first that matches", async () => {
    const a = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
    const b = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb");
    const { port } = await startProxy(
      {
        routes: [
          { match: { host: "old.example" }, redirect: { to: "https://shop.example${target}", status: 301 } },
          { match: { path: "/health" }, respond: { body: "fine" } },
          {
            match: { path: "/api/", headers: { "x-beta": true } },
            pool: "b",
            rewrite: { prefix: "/api/", to: "/" },
          },
          {
            match: { host: ["shop.example", "*.shop.example"] },
            pool: "a",
            responseHeaders: { set: { "x-frame-options": "DENY" } },
          },
        ],
      },
      { a: { backends: { a: a.at } }, b: { backends: { b: b.at } } },
    );
    expect(await ask(port, request("/health"))).toMatch(/\r\n\r\nfine$/);
    expect(await ask(port, request("/api/x"))).toMatch(/x-frame-options: DENY\r\n[\s\S]*\r\n\r\na$/);
    expect(await ask(port, request("/api/x?q", "X-Beta: 1\r\n"))).toMatch(/\r\n\r\nb$/);
    expect(b.got[0]).toMatch(/^GET \/x\?q HTTP/);
    expect(
      await ask(port, "GET /a?b HTTP/1.1\r\nHost: old.example:80\r\nConnection: close\r\n\r\n"),
    ).toContain("HTTP/1.1 301 Moved Permanently\r\nLocation: https://shop.example/a?b\r\n");
    expect(statusOf(await ask(port, "GET / HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n"))).toBe(404);
  });

  it("sees through dot segments and needless escapes", async () => {
    const a = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
    const { port } = await startProxy(
      { routes: [{ match: { path: "/admin/" }, respond: { status: 403 } }, { pool: "a" }] },
      { a: { backends: { a: a.at } } },
    );
    for (const path of ["/admin/", "/x/../admin/", "/%61dmin/", "/x/%2e%2e/admin/", "/./admin/"]) {
      expect(statusOf(await ask(port, request(path)))).toBe(403);
    }
    expect(a.got).toEqual([]);
  });

  it("limits rates by client", async () => {
    const { port } = await startProxy({ routes: [{ respond: {}, rateLimit: { rate: 0.01, burst: 2 } }] }, {});
    const answers = [
      await ask(port, request("/")),
      await ask(port, request("/")),
      await ask(port, request("/")),
    ];
    expect(answers.map(statusOf)).toEqual([200, 200, 429]);
    expect(answers[2]).toContain("Retry-After: ");
  });

  it("takes another rate from a reload on, and goes on counting where it is the same", async () => {
    const site = (rate: number, burst: number) =>
      siteOf({ routes: [{ respond: {}, rateLimit: { rate, burst } }] }, {});
    const { proxy, port } = await startProxy(
      { routes: [{ respond: {}, rateLimit: { rate: 0.01, burst: 1 } }] },
      {},
    );
    const status = async () => statusOf(await ask(port, request("/")));
    expect(await status()).toBe(200);
    await proxy.apply(site(0.01, 1));
    expect(await status()).toBe(429);
    await proxy.apply(site(1000, 1000));
    expect(await status()).toBe(200);
    await proxy.apply(site(0.01, 2));
    expect([await status(), await status(), await status()]).toEqual([200, 200, 429]);
  });

  it("compresses what becomes smaller, for clients that can read it", async () => {
    const body = "hello ".repeat(1000);
    const at = await startHttp((_, response) => response.setHeader("content-type", "text/plain").end(body));
    const { port } = await startProxy(
      { routes: [{ pool: "a", compress: ["gzip"] }] },
      { a: { backends: { a: at } } },
    );
    const response = await fetch(`http://127.0.0.1:${port}/`, { headers: { "accept-encoding": "gzip" } });
    expect(response.headers.get("content-encoding")).toBe("gzip");
    expect(await response.text()).toBe(body);
    const plain = await fetch(`http://127.0.0.1:${port}/`, { headers: { "accept-encoding": "identity" } });
    expect(plain.headers.get("content-encoding")).toBeNull();
    expect(await plain.text()).toBe(body);
  });
});

describe("stickiness", () => {
  it("stays with a signed cookie's backend, and ignores a forged one", async () => {
    process.env["NINES_TEST_SECRET"] = "0123456789abcdef";
    const [a, b] = await Promise.all(
      ["a", "b"].map((name) => startAnswering(`HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n${name}`)),
    );
    const { port } = await startProxy(
      { routes: [{ pool: "apps", sticky: { secret: { env: "NINES_TEST_SECRET" } } }] },
      { apps: { backends: { a: a?.at ?? "", b: b?.at ?? "" } } },
    );
    const first = await ask(port, request("/"));
    const cookie = /Set-Cookie: (nines=[^;]+); Path=\/; HttpOnly; SameSite=Lax/.exec(first)?.[1] ?? "";
    for (let i = 0; i < 5; i++) {
      const again = await ask(port, request("/", `Cookie: x=1; ${cookie}\r\n`));
      expect(again.at(-1)).toBe(first.at(-1));
      expect(again).not.toContain("Set-Cookie");
    }
    const forged = await ask(port, request("/", `Cookie: ${cookie.replace(/\..{4}/, ".xxxx")}\r\n`));
    expect(forged).toContain("Set-Cookie: nines=");
  });
});

describe("middleware", () => {
  it("changes requests and responses, answers itself, and fails as 500 or 504", async () => {
    const a = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nServer: x\r\n\r\na");
    const { port, proxy } = await startProxy(
      {
        routes: [
          {
            pool: "a",
            middlewareDeadline: "100ms",
            middleware: [
              async (req) => {
                if (req.target === "/throw") throw new Error("broken");
                if (req.target === "/hang") await new Promise(() => {});
                if (req.target === "/no") return { status: 401, body: "who?" };
                req.setHeader("x-user", "7");
                req.removeHeader("cookie");
                req.target = "/changed";
                req.onResponse((res) => res.removeHeader("server"));
                return undefined;
              },
            ],
          },
        ],
      },
      { a: { backends: { a: a.at } } },
    );
    const text = await ask(
      port,
      request("/", "Cookie: a=b\r\nX-User: 1\r\nX_User: admin\r\nOther_One: 2\r\n"),
    );
    expect(text).not.toContain("Server:");
    expect(a.got[0]).toMatch(/^GET \/changed HTTP/);
    expect(a.got[0]).toContain("x-user: 7\r\n");
    expect(a.got[0]).not.toMatch(/cookie|X-User: 1|admin/i);
    expect(a.got[0]).toContain("Other_One: 2\r\n");
    const statuses = [];
    for (const path of ["/throw", "/hang", "/no"]) statuses.push(statusOf(await ask(port, request(path))));
    expect(statuses).toEqual([500, 504, 401]);
    expect(proxy.metrics().events).toMatchObject({ "middleware-failed": 1, "middleware-deadline": 1 });
  });

  it("answers for itself: 200, and 503 from when its end is announced; whatever characters the path has", async () => {
    const a = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
    const { port, proxy } = await startProxy(
      { pool: "apps", health: { path: "/nines-health.1", announce: "0s" } },
      { apps: { backends: { a: a.at } } },
    );
    const health = async (): Promise<number> => statusOf(await ask(port, request("/nines-health.1")));
    expect(await health()).toBe(200);
    expect(statusOf(await ask(port, request("/nines-healthX1")))).toBe(200);
    expect(a.got).toHaveLength(1);
    await proxy.announceEnd();
    expect(await health()).toBe(503);
    expect(statusOf(await ask(port, request("/")))).toBe(200);
  });
});

describe("a node that is taken out", () => {
  it("fails its health question, ends kept connections with their next answer, serves all the same, and comes back", async () => {
    const a = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
    const { port, proxy } = await startProxy(
      { pool: "apps", health: { path: "/alive", announce: "0s" } },
      { apps: { backends: { a: a.at } } },
    );
    const health = async (): Promise<number> => statusOf(await ask(port, request("/alive")));
    const idle = new RawClient(port);
    idle.socket.write("GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    await vi.waitFor(() => expect(idle.text).toContain("200"));
    proxy.takeOut(true, false);
    expect(await health()).toBe(503);
    expect(idle.ended).toBe(false);
    proxy.takeOut(true, true);
    await vi.waitFor(() => expect(idle.ended).toBe(true));
    expect(statusOf(await ask(port, request("/")))).toBe(200);
    proxy.takeOut(false, false);
    expect(await health()).toBe(200);
  });
});

describe("reload", () => {
  it("drops nothing: requests under way, kept connections and WebSockets live on", async () => {
    const at = await startRaw((socket) => {
      socket.on("data", (chunk: Buffer) => {
        const text = chunk.toString();
        if (text.includes("Upgrade: websocket")) {
          socket.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
          );
        } else if (text.startsWith("GET")) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        else socket.write(text);
      });
    });
    const pools = { apps: { backends: { a: at } } };
    const { port, proxy } = await startProxy({ pool: "apps" }, pools);
    const sockets = Array.from({ length: 20 }, () =>
      new RawClient(port).send(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
      ),
    );
    await Promise.all(sockets.map((socket) => socket.until((text) => text.includes("101"))));
    const client = new RawClient(port);
    for (let i = 1; i <= 100; i++) {
      await proxy.apply(
        siteOf({ routes: [{ pool: "apps", responseHeaders: { set: { "x-n": String(i) } } }] }, pools),
      );
      client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
      await client.until((text) => text.split("\r\n\r\nok").length === i + 1);
    }
    expect(client.text).toContain("x-n: 100\r\n");
    for (const socket of sockets) socket.send("still here");
    await Promise.all(sockets.map((socket) => socket.until((text) => text.endsWith("still here"))));
    expect(proxy.metrics().routes["web/web-1"]?.statuses[1]).toBe(100);
  });

  it("takes new backends, and lets go of old ones", async () => {
    const a = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
    const b = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb");
    const { port, proxy } = await startProxy({ pool: "apps" }, { apps: { backends: { a: a.at } } });
    expect((await ask(port, request("/"))).at(-1)).toBe("a");
    await proxy.apply(siteOf({ pool: "apps" }, { apps: { backends: { b: b.at } } }));
    expect((await ask(port, request("/"))).at(-1)).toBe("b");
  });
});

const openssl = spawnSync("openssl", ["version"]).status === 0;

describe.skipIf(!openssl)("TLS", () => {
  it("chooses the certificate by server name, and says https to the backend", async () => {
    const directory = mkdtempSync(join(tmpdir(), "nines-tls-"));
    const make = (name: string): { certificate: string; key: string } => {
      const [certificate, key] = [join(directory, `${name}.pem`), join(directory, `${name}.key`)];
      const subject = ["-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}`];
      const files = ["-keyout", key, "-out", certificate];
      const kind = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(" ");
      spawnSync("openssl", [...kind, ...files, ...subject]);
      return { certificate, key };
    };
    const backend = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    const { port } = await startProxy(
      { pool: "apps", tls: { certificates: [make("a.example"), make("b.example")] } },
      { apps: { backends: { a: backend.at } } },
    );
    const names: string[] = [];
    for (const servername of ["b.example", "a.example", "c.example"]) {
      const text = await new Promise<string>((resolve, reject) => {
        let all = "";
        const socket = tlsConnect({ port, host: "127.0.0.1", servername, rejectUnauthorized: false }, () => {
          names.push(String(socket.getPeerCertificate().subject.CN));
          socket.write(request("/"));
        });
        socket.on("data", (chunk: Buffer) => (all += chunk.toString()));
        socket.on("end", () => resolve(all));
        socket.on("error", reject);
      });
      expect(text).toMatch(/\r\n\r\nok$/);
    }
    expect(names).toEqual(["b.example", "a.example", "a.example"]);
    expect(backend.got[0]).toContain("X-Forwarded-Proto: https\r\n");
    rmSync(directory, { recursive: true });
  });
});

describe("createProxy", () => {
  it("explains a request without sending anything", () => {
    const proxy = createProxy({
      pools: { apps: { backends: { a: "10.0.0.1:80", b: { address: "10.0.0.2:80", maintenance: true } } } },
      services: {
        web: {
          listen: "127.0.0.1:8080/tcp",
          proxy: {
            routes: [
              { name: "api", match: { host: "api.example" }, pool: "apps" },
              { name: "rest", pool: "apps" },
            ],
          },
        },
      },
    });
    const told = proxy.explain("web", { target: "/x", host: "shop.example" });
    expect(told.tried).toEqual([{ route: "api", failed: "host is api.example" }, { route: "rest" }]);
    expect(told.backends).toEqual([
      { backend: "apps/a", share: 1, reason: "serves" },
      { backend: "apps/b", share: 0, reason: "maintenance" },
    ]);
    expect(proxy.explain("web", { target: "/x#y", host: "a" }).refused).toContain("target-fragment");
    void proxy.close();
  });

  it("tells every mistake", () => {
    const site =
      (proxy: { pool: string; pol?: number }): (() => unknown) =>
      () =>
        createProxy({ services: { web: { listen: "127.0.0.1:8080/tcp", proxy } } });
    expect(site({ pool: "a", pol: 1 })).toThrow("createProxy:1:1: services.web.proxy");
  });
});
