import { type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { OperationalError, messageOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { ApiError } from "../contracts/api.ts";
import { type ApiPorts, type Route, findRoute } from "./routes.ts";

/** The largest body that a request may have. */
const BODY_BYTES = 64 * 1024;

const statusOf: Readonly<Record<string, number>> = {
  NOT_FOUND: 404,
  CONFLICT: 409,
  MESSAGE_INVALID: 400,
  PERMISSION: 403,
  TIMEOUT: 504,
  PEER_LOST: 502,
  PEER_REFUSED: 502,
};

/** Answers the control API. The listener (a unix socket, or TLS with a token) is made by the caller. */
export function apiHandler(ports: ApiPorts, log: Log): RequestListener {
  return (request, response) => {
    answer(ports, request, response).catch((thrown: unknown) => {
      const known = thrown instanceof OperationalError;
      if (!known)
        log.error({ event: "api.failed", reason: messageOf(thrown), stack: (thrown as Error).stack });
      const code = known ? thrown.code : "BUG";
      const error: ApiError = {
        error: { code, message: messageOf(thrown), retryable: known && thrown.retryable },
      };
      send(response, known ? (statusOf[thrown.code] ?? 500) : 500, error);
    });
  };
}

async function answer(ports: ApiPorts, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", "http://nines");
  const method = request.method ?? "GET";
  if (url.pathname === "/metrics" && method === "GET") {
    const { renderMetrics } = await import("./metrics.ts");
    const { type, text } = await renderMetrics(await ports.metrics());
    response.writeHead(200, { "content-type": type }).end(text);
    return;
  }
  const route = findRoute(method, url.pathname);
  const input = route.method === "GET" ? query(route, url) : body(route, await read(request));
  send(response, 200, await route.handle(ports, input));
}

function query(route: Route, url: URL): Record<string, string> {
  const known = route.query ?? [];
  for (const name of url.searchParams.keys()) {
    if (!known.includes(name))
      throw new OperationalError(
        "MESSAGE_INVALID",
        `${route.path} has no parameter ${name}; it has ${known.join(", ") || "none"}`,
      );
  }
  return Object.fromEntries(url.searchParams);
}

function body(route: Route, text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text === "" ? "{}" : text);
  } catch (error) {
    throw new OperationalError("MESSAGE_INVALID", `the body is not JSON: ${messageOf(error)}`);
  }
  const parsed = route.body?.safeParse(value);
  if (parsed === undefined || parsed.success) return parsed?.data;
  const issues = parsed.error.issues.map((issue) => `${issue.path.join(".") || "body"}: ${issue.message}`);
  throw new OperationalError("MESSAGE_INVALID", `${route.path}: ${issues.join("; ")}`);
}

async function read(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > BODY_BYTES)
      throw new OperationalError("MESSAGE_INVALID", `a body of more than ${BODY_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

function send(response: ServerResponse, status: number, value: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const text = `${JSON.stringify(value)}\n`;
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
  });
  response.end(text);
}
