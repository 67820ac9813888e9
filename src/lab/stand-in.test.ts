import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ip } from "../base/addresses.ts";
import { SystemClock } from "../base/system-clock.ts";
import { checkSchema } from "../config/schema/pools.ts";
import { runProbe } from "../health/probes/run.ts";
import type { LabListen } from "./topology.ts";

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

const never = (): never => {
  throw new Error("no check");
};

const checks = [
  { tcp: true },
  { tcp: true, send: "PING\r\n", expect: "+PONG" },
  { tcp: true, send: "00ff", hex: true },
  { tcp: true, expect: "220 " },
  { http: "/healthz", status: "204", body: undefined },
  { http: "/healthz", status: "302,200", body: "ready" },
  { udp: true, hex: true, send: "1b00", expect: "1c" },
  { udp: true, send: "?" },
  ...["A", "AAAA", "NS", "SOA", "MX", "TXT", "PTR", "SRV"].map((type) => ({ dns: "shop.example", type })),
].map((check) => checkSchema.parse({ ...check, timeout: "5s" }));

describe("a backend of the lab", () => {
  let backend: ChildProcess;
  const listens: LabListen[] = [];
  beforeAll(async () => {
    for (const check of checks) listens.push({ address: ip("127.0.0.1"), port: await freePort(), check });
    const entry = new URL("backend-entry.ts", import.meta.url).pathname;
    const options = JSON.stringify({ name: "app1", listens });
    backend = spawn(process.execPath, ["--import", import.meta.resolve("tsx"), entry, options], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    if (backend.stdout !== null) await once(backend.stdout, "data");
  }, 20_000);
  afterAll(() => void backend.kill("SIGKILL"));

  it.each(checks.map((check, index) => [JSON.stringify(check), index] as const))(
    "answers %s so that it is good",
    async (_, index) => {
      const { address, port, check } = listens[index] ?? never();
      const target = { pool: "apps", backend: "app1", address, port };
      const verdict = await runProbe(
        check ?? never(),
        target,
        new SystemClock(),
        new AbortController().signal,
      );
      expect(verdict).toMatchObject({ outcome: "good" });
    },
  );
});
