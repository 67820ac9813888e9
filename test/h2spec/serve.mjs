// nines in front of one backend, over HTTP/2 without and with TLS: `serve.mjs PORT TLS-PORT BACKEND DIRECTORY`.
import { createProxy } from "../../dist/index.js";

const [port, tlsPort, backend, directory] = process.argv.slice(2);
const files = { certificate: `${directory}/cert.pem`, key: `${directory}/key.pem` };
const service = (at, more) => ({
  listen: `127.0.0.1:${at}/tcp`,
  proxy: { http2: true, routes: [{ pool: "apps" }], ...more },
});
await createProxy({
  pools: { apps: { backends: { s1: backend } } },
  services: { web: service(port, {}), secure: service(tlsPort, { tls: { certificates: [files] } }) },
}).listen();
