// nines as a program of its own, from its compiled form: `be-nines.ts PORT DIRECTORY`.
import { join } from "node:path";
import type { EmbeddedSite } from "../../src/proxy/embed.ts";
import { BACKEND, ECHO } from "./subjects.ts";

const compiled = new URL("../../dist/index.js", import.meta.url).pathname;
const { createProxy } = (await import(compiled)) as typeof import("../../src/index.ts");

const port = Number(process.argv[2]);
const directory = process.argv[3] ?? ".";
const limits = { connections: 30_000, requests: 30_000 };
const site = (http2: boolean): EmbeddedSite => {
  const proxy = {
    routes: [
      { match: { path: "/ws" }, pool: "echo", limits },
      { pool: "apps", limits },
    ],
    accessLog: { file: join(directory, "nines.log") },
  };
  const certificates = [{ certificate: join(directory, "cert.pem"), key: join(directory, "key.pem") }];
  return {
    pools: {
      apps: { backends: { a: `127.0.0.1:${BACKEND}` } },
      echo: { backends: { a: `127.0.0.1:${ECHO}` } },
    },
    services: {
      web: { listen: `127.0.0.1:${port}/tcp`, proxy },
      secure: { listen: `127.0.0.1:${port + 1}/tcp`, proxy: { ...proxy, http2, tls: { certificates } } },
    },
  };
};

const make = (): ReturnType<typeof createProxy> => {
  try {
    return createProxy(site(true));
  } catch {
    // A version without HTTP/2 says so, and is measured without it.
    return createProxy(site(false));
  }
};
await make().listen();
