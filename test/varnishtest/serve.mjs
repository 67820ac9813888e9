// nines in front of one backend, for a test case of varnishtest: `serve.mjs PORT BACKEND`.
import { createProxy } from "../../dist/index.js";

const [port, backend] = process.argv.slice(2);
await createProxy({
  pools: { apps: { backends: { s1: backend } } },
  services: {
    web: {
      listen: `127.0.0.1:${port}/tcp`,
      proxy: { http2: true, routes: [{ pool: "apps", retries: { attempts: 0 } }] },
    },
  },
}).listen();
