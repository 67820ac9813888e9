import { z } from "zod";
import { ms, seconds } from "../../base/time.ts";
import { duration, durationBetween, ipPrefix, name, nameOf, secret, size } from "./common.ts";
import type { Middleware } from "./middleware.ts";
import { tlsSchema } from "./tls.ts";

const fieldName = () =>
  z.string().regex(/^[!#$%&'*+\-.^`|~0-9A-Za-z]+$/, "a header's name, such as x-team (no underscore)");
const fieldValue = () =>
  z.string().regex(/^[\t\x20-\x7e\x80-\xff]*$/, "a header's value: one line, no control characters");
/** What frames a message, or says where it goes, is the proxy's to write: set here, it would stand there twice. */
const OURS =
  /^(host|content-length|transfer-encoding|connection|keep-alive|proxy-connection|upgrade|te|trailer|http2-settings)$/i;
const ownFieldName = () =>
  fieldName().refine((text) => !OURS.test(text), {
    error: ({ input }) =>
      String(input).toLowerCase() === "host"
        ? "Host is written by the proxy; upstream: { host: NAME } says which"
        : `${String(input)} is the proxy's to set`,
  });
const status = () => z.int().min(200).max(599);

/** `exact`, `present: true/false`, `prefix`, `pattern` (a JavaScript regular expression, unanchored). */
const textMatch = z.union([
  z.string().transform((exact) => ({ exact })),
  z.boolean().transform((present) => ({ present })),
  z.strictObject({ prefix: z.string().min(1) }),
  z.strictObject({
    pattern: z
      .string()
      .min(1)
      .refine((text) => isPattern(text), { message: "expected a JavaScript regular expression" }),
  }),
]);
export type TextMatch = z.output<typeof textMatch>;

function isPattern(text: string): boolean {
  try {
    // With the flag that the proxy compiles it with: under "v", [^/] is an error.
    return new RegExp(text, "u") instanceof RegExp;
  } catch {
    return false;
  }
}

const oneOrMore = <T extends z.ZodType>(one: T) =>
  z.union([one.transform((value) => [value]), z.array(one).min(1)]);

export const matchSchema = z.strictObject({
  host: oneOrMore(
    z
      .string()
      .regex(
        /^(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$|^\[[0-9a-f:.]+\]$/,
        "expected a lower-case host name without a port, or *.example.org",
      ),
  )
    .optional()
    .describe("Host names; *.example.org takes any name below example.org."),
  path: oneOrMore(
    z.union([
      z
        .string()
        .startsWith("/")
        .transform((text) => (text.endsWith("/") ? { prefix: text } : { exact: text })),
      z.strictObject({ prefix: z.string().startsWith("/") }),
      z.strictObject({
        pattern: z.string().refine(isPattern, { message: "expected a JavaScript regular expression" }),
      }),
    ]),
  )
    .optional()
    .describe("/api/ (with a slash at the end) takes everything below it, /api only itself; or { pattern }."),
  method: oneOrMore(z.string().regex(/^[A-Z]+$/, "a method in capitals, such as GET")).optional(),
  headers: z.record(fieldName(), textMatch).optional(),
  cookies: z.record(z.string().min(1), textMatch).optional(),
  query: z.record(z.string().min(1), textMatch).optional(),
  client: oneOrMore(ipPrefix()).optional().describe("Networks of the client, after trusted proxies."),
});

const headerEdits = z.strictObject({
  set: z.record(ownFieldName(), fieldValue()).default({}),
  add: z.record(ownFieldName(), fieldValue()).default({}),
  remove: z.array(fieldName()).default([]),
});

const hashKey = z
  .string()
  .regex(
    /^(client|uri|path|header:[A-Za-z0-9-]+|cookie:[^\s;=]+)$/,
    "expected client, uri, path, header:NAME or cookie:NAME",
  );

export const balanceSchema = z.strictObject({
  scheduler: z
    .enum(["round-robin", "least-requests", "p2c", "peak-ewma", "maglev", "bounded"])
    .default("round-robin")
    .describe(
      "round-robin (smooth, weighted), least-requests, p2c (power of two choices), peak-ewma (latency), " +
        "maglev (consistent hash), bounded (consistent hash that passes over a backend with 1.25 x its share).",
    ),
  key: hashKey.default("client").describe("What maglev and bounded hash."),
});

export const stickySchema = z.strictObject({
  cookie: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/)
    .default("nines")
    .describe("Name of the cookie; it carries the backend's id, signed, so that every node understands it."),
  secret: secret().describe("Key of the signature, the same on every node: { file: PATH } or { env: NAME }."),
  by: hashKey
    .optional()
    .describe(
      "Who has no cookie, or takes none, goes to the backend that rendezvous hashing gives this: client, header:NAME, ... Without it, to one that the scheduler chooses.",
    ),
  comeBack: z
    .boolean()
    .default(false)
    .describe(
      "true: a client whose backend is gone keeps its cookie and goes back when the backend does; false: it gets one of the substitute and stays there.",
    ),
  maxAge: duration().optional().describe("Without it the cookie ends with the browser's session."),
  secure: z.union([z.boolean(), z.literal("auto")]).default("auto"),
  sameSite: z.enum(["lax", "strict", "none"]).default("lax"),
  path: z.string().startsWith("/").default("/"),
});

export const retrySchema = z.strictObject({
  attempts: z
    .int()
    .min(0)
    .max(10)
    .default(2)
    .describe("Retries after the first try; each on another backend."),
  on: z
    .array(z.union([z.literal("connect"), z.literal("lost"), z.int().min(500).max(504)]))
    .default(["connect", "lost"])
    .describe(
      "connect: no connection; lost: closed before a response byte; a status for idempotent requests.",
    ),
  budget: z
    .number()
    .min(0)
    .max(1)
    .default(0.2)
    .describe("Retries as a share of requests over ten seconds; at least three a second are always allowed."),
  body: size().prefault("16KiB").describe("Request bodies up to this size are kept for a retry."),
});

export const outlierSchema = z.strictObject({
  failures: z
    .int()
    .min(1)
    .default(5)
    .describe("Failures in a row (no answer, 502, 503, 504) that eject a backend."),
  base: duration().prefault("10s").describe("First ejection; doubled each time, to `longest` at most."),
  longest: duration().prefault("5m"),
  atMost: z.number().min(0).max(1).default(0.5).describe("Share of a pool that may be ejected at once."),
});

export const breakerSchema = z.strictObject({
  connections: z.int().min(1).default(1024).describe("Connections of one worker to one backend."),
  requests: z.int().min(1).default(1024).describe("Requests of one worker in flight to one backend."),
  queue: z.int().min(0).default(256).describe("Requests that wait for a place, for the whole pool."),
  wait: duration().prefault("5s").describe("How long one waits; then 503."),
});

export const rateLimitSchema = z.strictObject({
  rate: z.number().positive().describe("Requests a second."),
  burst: z.int().min(1).optional().describe("Default: the rate, at least 1."),
  key: hashKey.or(z.literal("route")).default("client"),
  status: status().default(429),
});

const routeTimeouts = z.strictObject({
  connect: durationBetween(ms(10), seconds(300), "10ms to 5m").prefault("2s"),
  response: duration().prefault("60s").describe("From the request's last byte to the response's head."),
  idle: duration().prefault("60s").describe("Between two bytes of a body."),
  total: duration().optional().describe("The whole exchange; a WebSocket that has begun is not bound by it."),
  tunnel: duration().prefault("1h").describe("WebSocket and other upgraded connections without a byte."),
});

const upstreamSchema = z.strictObject({
  protocol: z
    .enum(["http1", "http2"])
    .default("http1")
    .describe("http2 (prior knowledge, or ALPN with tls): gRPC."),
  tls: z
    .union([
      z.literal(false),
      z.strictObject({
        verify: z.boolean().default(true),
        ca: z.string().optional().describe("File with the authorities to trust; default: the system's."),
        serverName: z.string().optional().describe("Default: the request's host."),
        certificate: z.string().optional(),
        key: z.string().optional(),
      }),
    ])
    .default(false),
  reuse: z
    .enum(["safe", "always", "never"])
    .default("safe")
    .describe("safe: a client's first request that cannot be sent twice gets a connection of its own."),
  idle: duration()
    .prefault("4s")
    .describe("Keep an unused connection this long; shorter than the backend's own limit."),
  host: z.string().optional().describe("Host sent to the backend; default: the client's."),
  proxyProtocol: z.union([z.literal(false), z.literal(1), z.literal(2)]).default(false),
});

export const routeSchema = z
  .strictObject({
    name: name()
      .optional()
      .describe("For metrics and logs; default: the service's name and the route's number."),
    match: matchSchema.prefault({}),
    pool: z
      .union([nameOf("pools"), z.record(nameOf("pools"), z.int().min(0).max(1_000_000))])
      .optional()
      .describe("A pool, or pools with weights: { stable: 95, canary: 5 }."),
    redirect: z
      .strictObject({
        to: z.string().min(1).describe("${scheme}, ${host}, ${path}, ${query}, ${target} are filled in."),
        status: z
          .union([z.literal(301), z.literal(302), z.literal(303), z.literal(307), z.literal(308)])
          .default(308),
      })
      .optional(),
    respond: z
      .strictObject({
        status: status().default(200),
        headers: z.record(ownFieldName(), fieldValue()).default({}),
        body: z.string().default(""),
      })
      .optional(),
    rewrite: z
      .union([
        z.strictObject({ prefix: z.string().startsWith("/"), to: z.string().startsWith("/") }),
        z.strictObject({
          pattern: z.string().refine(isPattern, { message: "expected a JavaScript regular expression" }),
          to: z.string(),
        }),
      ])
      .optional()
      .describe("Changes the path before it goes to the backend."),
    requestHeaders: headerEdits.optional(),
    responseHeaders: headerEdits.optional(),
    balance: balanceSchema.prefault({}),
    sticky: stickySchema.optional(),
    retries: retrySchema.prefault({}),
    hedge: z
      .union([
        z.strictObject({ after: durationBetween(ms(1), seconds(60), "1ms to 1m") }),
        z.strictObject({
          percentile: z.number().min(50).max(99.9),
          atLeast: durationBetween(ms(1), seconds(60), "1ms to 1m").prefault("5ms"),
        }),
      ])
      .optional()
      .describe(
        "Asks a second backend where the first has not answered after this time, or after a percentile of what the route's last requests took; the first answer wins. GET, HEAD, PUT, DELETE, OPTIONS only; within the budget of retries.",
      ),
    outlier: z.union([z.literal(false), outlierSchema]).prefault({}),
    panic: z
      .number()
      .min(0)
      .max(1)
      .default(0)
      .describe("Below this share of healthy backends, health is not believed and all are used; 0: never."),
    slowStart: duration()
      .prefault("0s")
      .describe("A backend that came up takes its full share only after this."),
    limits: breakerSchema.prefault({}),
    timeouts: routeTimeouts.prefault({}),
    upstream: upstreamSchema.prefault({}),
    rateLimit: rateLimitSchema.optional(),
    body: size().optional().describe("Largest request body; default: the service's."),
    upgrade: z.boolean().default(true).describe("Allow WebSocket."),
    compress: z
      .union([z.boolean(), z.array(z.enum(["br", "gzip", "zstd"])).min(1)])
      .default(false)
      .describe(
        "true: br, gzip; or a list in the order of preference. zstd needs Node 22.15, and is passed over before.",
      ),
    mirror: z
      .strictObject({ pool: nameOf("pools"), share: z.number().min(0).max(1).default(1) })
      .optional()
      .describe(
        "Sends a copy of requests without a body; the answers are thrown away. At most 64 at once per worker.",
      ),
    middleware: z
      .array(
        z.custom<Middleware>((value) => typeof value === "function", "expected a function (site.ts only)"),
      )
      .default([]),
    middlewareDeadline: duration().prefault("1s").describe("All middleware of a request together; then 504."),
  })
  .superRefine((route, context) => {
    const given = (["pool", "redirect", "respond"] as const).filter((key) => route[key] !== undefined);
    if (given.length === 1 || (given.length === 0 && route.middleware.length > 0)) return;
    context.addIssue({
      code: "custom",
      message:
        given.length === 0
          ? "a route needs one of pool, redirect, respond"
          : `a route has one of pool, redirect, respond, not ${given.join(" and ")}`,
    });
  });

export const tcpSchema = z.strictObject({
  pool: nameOf("pools").optional().describe("Where connections without a matching server name go."),
  serverNames: z
    .record(z.string(), nameOf("pools"))
    .default({})
    .describe("TLS server name, or *.example.org, to pool; the TLS itself passes through untouched."),
  balance: balanceSchema.prefault({ scheduler: "least-requests" }),
  connect: durationBetween(ms(10), seconds(300), "10ms to 5m").prefault("2s"),
  idle: duration().prefault("1h"),
  limits: breakerSchema.prefault({}),
  proxyProtocol: z
    .union([z.literal(false), z.literal(1), z.literal(2)])
    .default(false)
    .describe("Sent to the backend."),
});

/** The layer-7 side of a service. */
export const proxySchema = z
  .strictObject({
    pool: nameOf("pools").optional().describe("Short for one route that takes everything."),
    routes: z
      .array(routeSchema)
      .optional()
      .describe("Tried from the first; the first that matches takes the request."),
    tcp: tcpSchema.optional().describe("Streams instead of HTTP."),
    tls: tlsSchema.optional(),
    http2: z
      .boolean()
      .default(false)
      .describe("Offer HTTP/2 to clients: with TLS by ALPN, without by prior knowledge."),
    acceptProxyProtocol: z
      .array(ipPrefix())
      .default([])
      .describe("Networks whose connections must begin with a PROXY protocol header."),
    health: z
      .strictObject({
        path: z
          .string()
          .regex(/^\/[\x21-\x7e]*[^/?#]$/, "a path such as /nines-health, without a slash at its end")
          .describe("Answered by the proxy itself, before any route."),
        announce: durationBetween(ms(0), seconds(20), "0s to 20s")
          .prefault("3s")
          .describe("How long the answer is 503 before connections are refused when the node stops."),
      })
      .optional()
      .describe("For checks of this proxy by whoever stands in front of it: 200, and 503 before it stops."),
    trustedProxies: z
      .array(ipPrefix())
      .default([])
      .describe("Networks whose X-Forwarded-* and Forwarded are believed and kept; others' are replaced."),
    forwarded: z
      .array(z.enum(["x-forwarded", "forwarded", "x-real-ip"]))
      .default(["x-forwarded"])
      .describe(
        "x-forwarded: X-Forwarded-For, -Proto, -Host; forwarded: RFC 7239; x-real-ip: X-Real-IP, the client's address after trusted proxies.",
      ),
    requestId: z
      .union([z.literal(false), fieldName()])
      .default("x-request-id")
      .describe("Header with a request id; kept when a trusted proxy sent one."),
    traceContext: z.boolean().default(false).describe("Start a W3C traceparent where the client sent none."),
    limits: z
      .strictObject({
        head: size().prefault("16KiB").describe("Request line and headers together."),
        headers: z.int().min(1).max(1000).default(100),
        body: size().prefault("64MiB"),
        connections: z.int().min(1).default(20_000).describe("Client connections of one worker."),
        streams: z
          .int()
          .min(1)
          .max(10_000)
          .default(128)
          .describe("Requests under way at once on one HTTP/2 connection."),
        bodyOnGet: z.boolean().default(false).describe("Let GET and HEAD carry a body."),
      })
      .prefault({}),
    timeouts: z
      .strictObject({
        head: duration().prefault("10s").describe("From the first byte of a request to the end of its head."),
        idle: duration().prefault("75s").describe("A kept connection without a request."),
        body: duration().prefault("30s").describe("Between two pieces of a request's body."),
        write: duration().prefault("30s").describe("A client that takes nothing of a response."),
        handshake: duration().prefault("10s").describe("TLS."),
        drain: duration().prefault("30s").describe("How long requests may go on when the proxy stops."),
      })
      .prefault({}),
    accessLog: z
      .strictObject({
        file: z.string().min(1).describe("`-` is the standard output."),
        format: z.enum(["json", "combined"]).default("json"),
      })
      .optional(),
    errorPages: z
      .record(z.string().regex(/^[45]\d\d$/, "a status such as 503"), z.string())
      .default({})
      .describe("Body (HTML) of the proxy's own answers per status."),
  })
  .superRefine((proxy, context) => {
    const refuse = (path: (string | number)[], message: string): void => {
      context.addIssue({ code: "custom", path, message });
    };
    if (proxy.tcp !== undefined) {
      if (proxy.tls !== undefined) refuse(["tls"], "TLS passes through a tcp service untouched; remove tls");
      if (proxy.http2) refuse(["http2"], "a tcp service carries whatever its backends speak; remove http2");
      if (proxy.tcp.pool === undefined && Object.keys(proxy.tcp.serverNames).length === 0)
        refuse(["tcp"], "tcp needs a pool, serverNames or both");
      if (proxy.tcp.balance.key !== "client") refuse(["tcp", "balance", "key"], "tcp hashes the client only");
    }
    if (proxy.tls !== undefined && proxy.tls.certificates.length === 0 && proxy.tls.acme === undefined)
      refuse(["tls"], "tls needs certificates, acme or both");
    for (const [i, route] of (proxy.routes ?? []).entries()) {
      if (route.upstream.proxyProtocol !== false && route.upstream.protocol === "http2")
        refuse(
          ["routes", i, "upstream", "proxyProtocol"],
          "connections over HTTP/2 are shared by clients, so that none of them can announce one",
        );
    }
    const given = (["pool", "routes", "tcp"] as const).filter((key) => proxy[key] !== undefined);
    if (given.length === 1) return;
    context.addIssue({
      code: "custom",
      message:
        given.length === 0
          ? "a proxy service needs one of pool, routes, tcp"
          : `a proxy service has one of pool, routes, tcp, not ${given.join(" and ")}`,
    });
  });

export type ProxySettings = z.output<typeof proxySchema>;
export type RouteSettings = z.output<typeof routeSchema>;
