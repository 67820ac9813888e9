// What the peers on Node share: TLS, request ids, the access log and metrics, as a program of theirs would have them.
import { createWriteStream, readFileSync } from "node:fs";
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { Counter, Histogram } from "prom-client";

export interface Peer {
  request(request: IncomingMessage, response: ServerResponse): void;
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
}

const requests = new Counter({ name: "requests_total", help: "Requests", labelNames: ["status"] });
const seconds = new Histogram({ name: "request_seconds", help: "Duration of requests" });

/** Listens on the port, and with TLS on the one after it. */
export function servePeer(peer: Peer): void {
  const port = Number(process.argv[2]);
  const directory = process.argv[3] ?? ".";
  const log = createWriteStream(join(directory, `peer-${port}.log`));
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    const began = performance.now();
    response.on("close", () => {
      const took = performance.now() - began;
      requests.inc({ status: response.statusCode });
      seconds.observe(took / 1000);
      const { method, url, headers } = request;
      const line = { time: Date.now(), method, url, host: headers.host, status: response.statusCode, took };
      log.write(`${JSON.stringify(line)}\n`);
    });
    peer.request(request, response);
  };
  const tls = {
    cert: readFileSync(join(directory, "cert.pem")),
    key: readFileSync(join(directory, "key.pem")),
  };
  const servers = [createServer(listener), createTlsServer(tls, listener)];
  servers.forEach((server, i) => {
    server.keepAliveTimeout = 120_000;
    server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      peer.upgrade(request, socket, head);
    });
    server.on("clientError", (_: Error, socket: Duplex) => socket.destroy());
    server.listen(port + i, "127.0.0.1", 4096);
  });
}

/** The fields that each proxy adds. */
export const added = (id: string, request: IncomingMessage): Record<string, string> => ({
  "x-request-id": id,
  "x-forwarded-for": request.socket.remoteAddress ?? "",
  "x-forwarded-proto": "encrypted" in request.socket ? "https" : "http",
  "x-forwarded-host": request.headers.host ?? "",
});
