// nines in front of one backend, over HTTP/1.1, HTTP/2 and HTTP/2 with TLS: `serve.mjs PLAIN PORT TLS BACKEND DIRECTORY`.
import { createProxy } from "../../dist/index.js";

const [plainPort, port, tlsPort, backend, directory] = process.argv.slice(2);
const files = { certificate: `${directory}/cert.pem`, key: `${directory}/key.pem` };
const service = (at, more) => ({
  listen: `127.0.0.1:${at}/tcp`,
  proxy: { routes: [{ pool: "apps" }], ...more },
});
await createProxy({
  pools: { apps: { backends: { s1: backend } } },
  services: {
    plain: service(plainPort, {}),
    web: service(port, { http2: true }),
    secure: service(tlsPort, { http2: true, tls: { certificates: [files] } }),
  },
}).listen();
