// A proxy with http-proxy-3: `be-http-proxy.ts PORT DIRECTORY`.
import { randomUUID } from "node:crypto";
import { Agent, ServerResponse } from "node:http";
import { createProxyServer } from "http-proxy-3";
import { added, servePeer } from "./peer.ts";
import { BACKEND, ECHO } from "./subjects.ts";

const agent = new Agent({ keepAlive: true, maxSockets: 256 });
const proxy = createProxyServer({ target: `http://127.0.0.1:${BACKEND}`, agent });
const echo = createProxyServer({ target: `http://127.0.0.1:${ECHO}`, ws: true });
for (const each of [proxy, echo]) {
  each.on("error", (_error, _request, response) => {
    if (response instanceof ServerResponse) response.destroy();
    else response?.destroy();
  });
}

servePeer({
  request(request, response) {
    Object.assign(request.headers, added(randomUUID(), request));
    proxy.web(request, response);
  },
  upgrade(request, socket, head) {
    Object.assign(request.headers, added(randomUUID(), request));
    echo.ws(request, socket, head);
  },
});
