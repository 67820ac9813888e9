// A proxy on node:http in front and undici behind, written with care for speed: `be-undici.ts PORT DIRECTORY`.
import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { connect } from "node:net";
import { Pool } from "undici";
import { added, servePeer } from "./peer.ts";
import { BACKEND, ECHO } from "./subjects.ts";

const pool = new Pool(`http://127.0.0.1:${BACKEND}`, { connections: 128, pipelining: 1 });
const HOP_BY_HOP = new Set(["connection", "keep-alive", "proxy-connection", "te", "upgrade"]);

function forward(request: IncomingMessage, response: ServerResponse): void {
  const headers: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined && !HOP_BY_HOP.has(name) && name !== "transfer-encoding") headers[name] = value;
  }
  Object.assign(headers, added(randomUUID(), request));
  const { method = "GET" } = request;
  const bodiless = method === "GET" || method === "HEAD";
  pool.dispatch(
    {
      path: request.url ?? "/",
      method,
      headers,
      body: bodiless ? null : request,
    },
    {
      onRequestStart(controller) {
        response.on("close", () => {
          if (!response.writableFinished) controller.abort(new Error("the client went away"));
        });
        response.on("drain", () => controller.resume());
      },
      onResponseStart(_controller, status, fields) {
        const out: Record<string, string | string[]> = {};
        for (const [name, value] of Object.entries(fields)) {
          if (value !== undefined && !HOP_BY_HOP.has(name) && name !== "transfer-encoding") out[name] = value;
        }
        response.writeHead(status, out);
      },
      onResponseData(controller, chunk) {
        if (!response.write(chunk)) controller.pause();
      },
      onResponseEnd() {
        response.end();
      },
      onResponseError() {
        response.destroy();
      },
    },
  );
}

servePeer({
  request: forward,
  upgrade(request, socket, head) {
    const upstream = connect({ port: ECHO, host: "127.0.0.1", noDelay: true }, () => {
      const lines = request.rawHeaders.flatMap((name, i, all) =>
        i % 2 === 0 ? [`${name}: ${all[i + 1]}`] : [],
      );
      for (const [name, value] of Object.entries(added(randomUUID(), request)))
        lines.push(`${name}: ${value}`);
      upstream.write(`GET ${request.url} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
      upstream.write(head);
      upstream.pipe(socket);
      socket.pipe(upstream);
    });
    upstream.on("error", () => socket.destroy());
    socket.on("error", () => upstream.destroy());
  },
});
