import { describe, expect, it } from "vitest";
import { serviceSchema } from "../config/schema/services.ts";

const messages = (input: unknown): string[] => {
  const parsed = serviceSchema.safeParse(input);
  return parsed.success ? [] : parsed.error.issues.map((issue) => issue.message);
};

describe("the proxy's part of the site file", () => {
  it("takes a pool as the short form, with every default filled in", () => {
    const service = serviceSchema.parse({ listen: "10.0.0.1:80/tcp", proxy: { pool: "apps" } });
    expect(service.proxy?.limits.head).toBe(16384);
    expect(service.proxy?.timeouts.head).toBe(10_000);
    expect(service.forward).toBeUndefined();
  });

  it.each(["^/users/[^/]+$", "[\\w-]+", "[a-z0-9-]+", "^/(a|b){2}$", "\\p{L}"])(
    "takes the pattern %s, which the proxy can compile",
    (pattern) => {
      const routes = [{ match: { path: { pattern } }, pool: "a", rewrite: { pattern, to: "/" } }];
      expect(messages({ listen: "10.0.0.1:80/tcp", proxy: { routes } })).toEqual([]);
    },
  );

  it.each(["(", "[\\p{L}--[a-z]]"])("refuses the pattern %s, which it cannot", (pattern) => {
    const routes = [{ match: { path: { pattern } }, pool: "a" }];
    expect(messages({ listen: "10.0.0.1:80/tcp", proxy: { routes } })).toHaveLength(1);
  });

  it.each(["Host", "content-length", "Transfer-Encoding", "connection", "http2-settings"])(
    "leaves %s to the proxy",
    (name) => {
      const edits = { requestHeaders: { set: { [name]: "1" } }, responseHeaders: { add: { [name]: "1" } } };
      const said = messages({ listen: "10.0.0.1:80/tcp", proxy: { routes: [{ pool: "a", ...edits }] } });
      expect(said).toHaveLength(2);
      expect(
        messages({
          listen: "10.0.0.1:80/tcp",
          proxy: { routes: [{ pool: "a", requestHeaders: { remove: [name] } }] },
        }),
      ).toEqual([]);
    },
  );

  it("takes routes with matches", () => {
    const service = serviceSchema.parse({
      listen: ["10.0.0.1:80/tcp", "[2001:db8::1]:80/tcp"],
      proxy: {
        routes: [
          {
            match: { host: "*.shop.example", path: "/api/", headers: { "x-beta": true } },
            pool: { a: 95, b: 5 },
          },
          { match: { path: [{ pattern: "^/v\\d+/" }] }, redirect: { to: "https://${host}${target}" } },
        ],
      },
    });
    expect(service.proxy?.routes?.[0]?.match.path).toEqual([{ prefix: "/api/" }]);
    expect(service.proxy?.routes?.[0]?.retries.attempts).toBe(2);
  });

  it.each([
    [{ listen: "10.0.0.1:80/tcp" }, "a service needs forward or proxy"],
    [{ listen: "10.0.0.1:80/udp", proxy: { pool: "a" } }, "a proxy listens on tcp"],
    [{ listen: "10.0.0.1:80/tcp", proxy: {} }, "a proxy service needs one of pool, routes, tcp"],
    [{ listen: "10.0.0.1:80/tcp", proxy: { routes: [{}] } }, "a route needs one of pool, redirect, respond"],
    [
      { listen: "10.0.0.1:80/tcp", forward: { pool: "a" } },
      "a forwarded service needs the virtual router whose address it is: `on`",
    ],
  ])("refuses %j", (input, message) => {
    expect(messages(input)).toContain(message);
  });
});
