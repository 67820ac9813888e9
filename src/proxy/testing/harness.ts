import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Server as HttpServer, type RequestListener, createServer as createHttpServer } from "node:http";
import { type AddressInfo, type Server, type Socket, connect, createServer, isIP } from "node:net";
import type { z } from "zod";
import { ip } from "../../base/addresses.ts";
import { SystemClock } from "../../base/system-clock.ts";
import { poolSchema } from "../../config/schema/pools.ts";
import type { proxySchema } from "../../config/schema/proxy.ts";
import { serviceSchema } from "../../config/schema/services.ts";
import type { ProxyService } from "../../contracts/site.ts";
import { Proxy, type ProxyOptions, type ProxySite } from "../proxy.ts";

type ProxyInput = z.input<typeof proxySchema>;
type PoolInput = z.input<typeof poolSchema>;

/** A site of one service on a free port of loopback. */
export function siteOf(proxy: ProxyInput, pools: Record<string, PoolInput>): ProxySite {
  const service = serviceSchema.parse({ listen: "127.0.0.1:1/tcp", proxy }) as ProxyService;
  return {
    pools: Object.fromEntries(Object.entries(pools).map(([name, pool]) => [name, poolSchema.parse(pool)])),
    services: { web: { ...service, listen: [{ address: ip("127.0.0.1"), ports: [0, 0], protocol: "tcp" }] } },
  };
}

const cleanups: (() => Promise<void> | void)[] = [];

/** Done by `cleanUp`, the last first. */
export const onCleanUp = (cleanup: () => Promise<void> | void): void => void cleanups.push(cleanup);

/** To be called after each test. */
export async function cleanUp(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}

export async function startProxy(
  proxy: ProxyInput,
  pools: Record<string, PoolInput>,
  options: ProxyOptions = {},
): Promise<{ proxy: Proxy; port: number }> {
  const running = new Proxy(options);
  await running.apply(siteOf(proxy, pools));
  cleanups.push(() => running.close(50));
  return { proxy: running, port: running.port("web") };
}

const portOf = (server: Server | HttpServer): number => (server.address() as AddressInfo).port;

/** A backend on node:net: what it gets is handed on as it is. */
export async function startRaw(serve: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    serve(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${portOf(server)}`;
}

/** Answers every complete bodiless request with `answer`, and keeps what it got. */
export async function startAnswering(answer: string): Promise<{ at: string; got: string[] }> {
  const got: string[] = [];
  const at = await startRaw((socket) => {
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
        got.push(text.slice(0, end + 4));
        text = text.slice(end + 4);
        socket.write(answer, "latin1");
      }
    });
  });
  return { at, got };
}

export async function startHttp(listener: RequestListener): Promise<string> {
  const server = createHttpServer({ keepAliveTimeout: 60_000 }, listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${portOf(server)}`;
}

const clock = new SystemClock();
const performanceNow = (): number => clock.monotonic();

export const openssl = spawnSync("openssl", ["version"]).status === 0;

/** A self-signed certificate with its key, as files. */
/** Signed by itself, for a host name or an address. */
export function makeCertificate(name: string): { certificate: string; key: string } {
  const directory = mkdtempSync(join(tmpdir(), "nines-tls-"));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  const [certificate, key] = [join(directory, `${name}.pem`), join(directory, `${name}.key`)];
  const files = ["-keyout", key, "-out", certificate];
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  const alternative = `subjectAltName=${isIP(name) === 0 ? "DNS" : "IP"}:${name}`;
  execFileSync(
    "openssl",
    ["req", "-x509", ...curve, "-subj", `/CN=${name}`, "-addext", alternative, ...files],
    { stdio: "ignore" },
  );
  return { certificate, key };
}

/** A client that sends text and collects what comes. */
export class RawClient {
  readonly socket: Socket;
  text = "";
  ended = false;
  closed = false;
  #changed: (() => void)[] = [];

  constructor(port: number) {
    this.socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    this.socket.on("data", (chunk: Buffer) => {
      this.text += chunk.toString("latin1");
      this.#wake();
    });
    this.socket.on("end", () => {
      this.ended = true;
      this.#wake();
    });
    this.socket.on("close", () => {
      this.ended = this.closed = true;
      this.#wake();
    });
    this.socket.on("error", () => {});
    cleanups.push(() => {
      this.socket.destroy();
    });
  }
  #wake(): void {
    for (const wake of this.#changed.splice(0)) wake();
  }
  send(text: string): this {
    this.socket.write(text, "latin1");
    return this;
  }
  /** Waits until the text so far satisfies the test. */
  async until(test: (text: string) => boolean, within = 3000): Promise<string> {
    const limit = performanceNow() + within;
    while (!test(this.text)) {
      if (this.ended || performanceNow() > limit) {
        throw new Error(`${this.ended ? "ended" : "timed out"} with ${JSON.stringify(this.text)}`);
      }
      await new Promise<void>((resolve) => {
        this.#changed.push(resolve);
        setTimeout(resolve, 20);
      });
    }
    return this.text;
  }
  async end(within = 3000): Promise<string> {
    const limit = performanceNow() + within;
    while (!this.ended) {
      if (performanceNow() > limit) throw new Error(`still open with ${JSON.stringify(this.text)}`);
      await new Promise<void>((resolve) => {
        this.#changed.push(resolve);
        setTimeout(resolve, 20);
      });
    }
    return this.text;
  }
}

/** Sends one request and reads until the connection ends. */
export const ask = async (port: number, text: string): Promise<string> =>
  new RawClient(port).send(text).end();

export const statusOf = (text: string): number => Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0);

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
