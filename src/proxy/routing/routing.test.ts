import { afterEach, describe, expect, it } from "vitest";
import type { MonotonicMs } from "../../base/time.ts";
import { ask, cleanUp, startAnswering, startHttp, startProxy, statusOf } from "../testing/harness.ts";
import { RateLimiter } from "./policy-rate.ts";

afterEach(cleanUp);

type Match = NonNullable<Parameters<typeof startProxy>[0]["routes"]>[number]["match"];
const send = (port: number, first: string, ...lines: readonly string[]): Promise<string> => {
  const all = [
    `${first} HTTP/1.1`,
    ...(lines.some((line) => line.startsWith("Host:")) ? [] : ["Host: shop.example"]),
    ...lines,
  ];
  return ask(port, `${all.join("\r\n")}\r\nConnection: close\r\n\r\n`);
};
const bodyOf = (text: string): string => text.slice(text.indexOf("\r\n\r\n") + 4);

describe("slashes in a row", () => {
  it("do not lead past a route, nor make another host of a redirect's path", async () => {
    const backend = await startAnswering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    const { proxy, port } = await startProxy(
      {
        routes: [
          { match: { path: "/admin/" }, respond: { status: 403 } },
          { match: { path: { pattern: "example$" } }, redirect: { to: "${path}/" } },
          { pool: "apps" },
        ],
      },
      { apps: { backends: { a: backend.at } } },
    );
    const get = (path: string) => ask(port, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    for (const path of ["//admin/x", "/admin//x", "///admin/", "//x/..//admin/"])
      expect(statusOf(await get(path)), path).toBe(403);
    expect(await get("//evil.example")).toContain("Location: /evil.example/\r\n");
    expect(proxy.explain("web", { host: "x", target: "//admin/x" }).route).toBe("web-1");
    expect(proxy.explain("web", { host: "x", target: "//a//b" })).toMatchObject({
      route: "web-3",
      target: "//a//b",
    });
    // The backend gets what the client sent.
    await get("/proxy/http://a/b");
    expect(backend.got[0]).toMatch(/^GET \/proxy\/http:\/\/a\/b HTTP/);
  });
});

describe("a route is taken", () => {
  const cases: readonly [what: string, match: Match, yes: readonly string[][], no: readonly string[][]][] = [
    [
      "by host",
      { host: "api.example" },
      [
        ["GET /", "Host: api.example"],
        ["GET /", "Host: API.example:8080"],
      ],
      [["GET /"]],
    ],
    [
      "by hosts below",
      { host: "*.example" },
      [["GET /"], ["GET /", "Host: a.b.example"]],
      [["GET /", "Host: example"]],
    ],
    [
      "by exact path",
      { path: "/cart" },
      [["GET /cart"], ["GET /cart?x=/"]],
      [["GET /cart/"], ["GET /cart/1"]],
    ],
    [
      "by the beginning of a path",
      { path: "/cart/" },
      [["GET /cart/"], ["GET /cart/1"]],
      [["GET /cart"], ["GET /cartx"]],
    ],
    [
      "by a pattern",
      { path: { pattern: "^/v[12]/" } },
      [["GET /v1/a"], ["GET /v2/"]],
      [["GET /v3/"], ["GET /a/v1/"]],
    ],
    ["by method", { method: ["PUT", "DELETE"] }, [["DELETE /"], ["PUT /"]], [["GET /"]]],
    [
      "by a header",
      { headers: { "x-team": "a" } },
      [["GET /", "X-Team: a"]],
      [["GET /"], ["GET /", "X-Team: b"]],
    ],
    [
      "by a header's absence",
      { headers: { "x-team": false } },
      [["GET /"]],
      [
        ["GET /", "X-Team: "],
        ["GET /", "X-Team: a"],
      ],
    ],
    [
      "by a header's beginning",
      { headers: { "user-agent": { prefix: "curl/" } } },
      [["GET /", "User-Agent: curl/8"]],
      [["GET /", "User-Agent: my curl/8"]],
    ],
    [
      "by a cookie",
      { cookies: { beta: { pattern: "^(1|yes)$" } } },
      [
        ["GET /", "Cookie: a=b; beta=yes"],
        ["GET /", "Cookie: a=b", "Cookie: beta=1"],
      ],
      [
        ["GET /", "Cookie: beta=no"],
        ["GET /", "Cookie: xbeta=1"],
      ],
    ],
    ["by a query", { query: { v: "2" } }, [["GET /?v=2"], ["GET /?a&v=2"]], [["GET /?v=1"], ["GET /v=2"]]],
    [
      "by the client's network",
      { client: "192.0.2.0/24" },
      [["GET /", "X-Forwarded-For: 192.0.2.9"]],
      [["GET /"], ["GET /", "X-Forwarded-For: 192.0.2.9, 198.51.100.1"]],
    ],
  ];
  it.each(cases)("%s", async (_, match, yes, no) => {
    const routes = [{ match, respond: { body: "yes" } }, { respond: { body: "no" } }];
    const { port } = await startProxy({ routes, trustedProxies: ["127.0.0.0/8"] }, {});
    for (const [first = "", ...lines] of yes)
      expect(bodyOf(await send(port, first, ...lines)), first).toBe("yes");
    for (const [first = "", ...lines] of no)
      expect(bodyOf(await send(port, first, ...lines)), first).toBe("no");
  });
});

describe("what a route changes", () => {
  it("headers of the request and of the response, and the path by a pattern", async () => {
    const backend = await startAnswering(
      "HTTP/1.1 200 OK\r\nServer: secret\r\nVary: a\r\nX-Old: 1\r\nContent-Length: 2\r\n\r\nok",
    );
    const { port } = await startProxy(
      {
        routes: [
          {
            pool: "apps",
            rewrite: { pattern: "^/shop/(\\d+)$", to: "/items/$1/view" },
            requestHeaders: { set: { "x-from": "edge" }, add: { "x-more": "2" }, remove: ["x-secret"] },
            responseHeaders: { set: { "x-old": "2" }, add: { vary: "b" }, remove: ["server"] },
          },
        ],
      },
      { apps: { backends: { a: backend.at } } },
    );
    const text = await send(port, "GET /shop/7?q", "X-From: client", "X-More: 1", "X-Secret: s");
    const got = backend.got[0] ?? "";
    expect(got).toMatch(/^GET \/items\/7\/view\?q HTTP\/1\.1\r\n/);
    expect(got.match(/^x-from: .*$/gim)).toEqual(["x-from: edge"]);
    expect(got.match(/^x-more: .*$/gim)?.map((line) => line.slice(-1))).toEqual(["1", "2"]);
    expect(got).not.toMatch(/x-secret/i);
    expect(text).not.toMatch(/^server:/im);
    expect(text.match(/^x-old: .*$/gim)?.map((line) => line.slice(-1))).toEqual(["2"]);
    expect(text.match(/^vary: .*$/gim)?.map((line) => line.slice(-1))).toEqual(["a", "b"]);
  });

  it("a redirect fills in what was asked, a static answer has its headers", async () => {
    const { port } = await startProxy(
      {
        routes: [
          { match: { path: "/r/" }, redirect: { to: "${scheme}://new.example${path}${query}", status: 302 } },
          { respond: { status: 410, headers: { "x-why": "moved" }, body: "gone" } },
        ],
      },
      {},
    );
    const moved = await send(port, "GET /r/a?b=c");
    expect(moved).toMatch(/^HTTP\/1\.1 302 [\s\S]*\r\nLocation: http:\/\/new\.example\/r\/a\?b=c\r\n/);
    const fixed = await send(port, "GET /x");
    expect([statusOf(fixed), bodyOf(fixed)]).toEqual([410, "gone"]);
    expect(fixed).toMatch(/\r\nx-why: moved\r\n/i);
  });

  it("a body compressed with brotli where the client would rather have that", async () => {
    const at = await startHttp((_, response) =>
      response.setHeader("content-type", "text/css").end("a{} ".repeat(900)),
    );
    const { port } = await startProxy(
      { routes: [{ pool: "apps", compress: ["br", "gzip"] }] },
      { apps: { backends: { a: at } } },
    );
    for (const [accept, wanted] of [
      ["gzip, br", "br"],
      ["gzip, br;q=0", "gzip"],
      ["deflate", null],
    ] as const) {
      const answer = await fetch(`http://127.0.0.1:${port}/`, { headers: { "accept-encoding": accept } });
      expect(answer.headers.get("content-encoding")).toBe(wanted);
      expect(await answer.text()).toBe("a{} ".repeat(900));
    }
  });
});

describe("rates", () => {
  it("are those of a bucket: a burst, then what comes in over time, and never more than the burst", () => {
    const limiter = new RateLimiter(2, 3);
    const at = (seconds: number): boolean => limiter.take("a", (seconds * 1000) as MonotonicMs) === 0;
    expect([at(0), at(0), at(0), at(0)]).toEqual([true, true, true, false]);
    expect([at(0.5), at(0.5)]).toEqual([true, false]);
    expect([at(100), at(100), at(100), at(100)]).toEqual([true, true, true, false]);
    expect(limiter.take("b", 0 as MonotonicMs)).toBe(0);
  });

  it("are counted by what the route says, with its status", async () => {
    const rateLimit = { rate: 0.01, burst: 1, key: "header:x-key", status: 503 };
    const { port } = await startProxy({ routes: [{ respond: {}, rateLimit }] }, {});
    const statuses: number[] = [];
    for (const key of ["a", "b", "a", "b"])
      statuses.push(statusOf(await send(port, "GET /", `X-Key: ${key}`)));
    expect(statuses).toEqual([200, 200, 503, 503]);
  });
});
