import { readFile } from "node:fs/promises";
import type { RequestListener } from "node:http";
import type { Server } from "node:https";
import { dirname, resolve } from "node:path";
import { TOKEN_LEAST, guarded } from "../../api/guard.ts";
import { OperationalError, messageOf } from "../../base/errors.ts";
import { type Timer, addTime, seconds } from "../../base/time.ts";
import { readSecret } from "../../config/secrets.ts";
import type { MetricSample } from "../../contracts/metrics.ts";
import type { Site } from "../../contracts/site.ts";
import type { ChildContext } from "../child.ts";

/** The address may not be there yet, or still be a predecessor's: tried again. */
const RETRY = seconds(2);
/** Enough for the people and the programs that look at one node. */
const CONNECTIONS = 64;

/** The control API on TCP. What keeps it from listening is an alarm, and nothing else waits for it. */
export class ControlListener {
  readonly #context: ChildContext;
  readonly #handler: RequestListener;
  #server: Server | undefined;
  #wanted: Site["control"];
  #address = "";
  #problem = "";
  #timer: Timer | undefined;
  #stopped = false;
  readonly #refused = new Map<string, number>();
  /** What the server was made of: what stays the same is not opened again. */
  #madeOf = "";
  /** Of the last change; an older one that is still under way ends without effect. */
  #generation = 0;

  constructor(context: ChildContext, handler: RequestListener) {
    this.#context = context;
    this.#handler = handler;
  }

  /** At start and at every reload: certificate and token are read anew. */
  update(site: Site): void {
    this.#wanted = site.control;
    this.#address = site.nodes[this.#context.node]?.address ?? "";
    void this.#open(++this.#generation);
  }
  /** Why it does not listen; empty where it does, or need not. */
  problem(): string {
    return this.#problem;
  }
  samples(): MetricSample[] {
    return [...this.#refused].map(([reason, value]) => ({
      name: "nines_api_refused_total",
      help: "Requests and connections over TCP that were refused, by reason.",
      kind: "counter",
      labels: { reason },
      value,
    }));
  }
  stop(): void {
    this.#stopped = true;
    this.#close();
  }

  #close(): void {
    this.#timer?.cancel();
    this.#server?.close();
    this.#server?.closeAllConnections();
    this.#server = undefined;
  }

  async #open(generation: number): Promise<void> {
    const wanted = this.#wanted;
    const { clock, log, node } = this.#context;
    if (wanted === undefined) {
      this.#close();
      this.#problem = "";
      return;
    }
    try {
      const { key, cert, token } = await this.#secrets(wanted);
      // Loaded where a site asks for it only: an idle node pays for TLS otherwise.
      const { createServer } = await import("node:https");
      if (generation !== this.#generation || this.#stopped) return;
      const madeOf = JSON.stringify([this.#address, wanted.port, String(key), String(cert), token]);
      if (this.#server !== undefined && madeOf === this.#madeOf) {
        this.#problem = "";
        return;
      }
      this.#close();
      const handler = guarded(token, this.#handler, (why) => this.#count(why.replaceAll(" ", "_")));
      const limits = {
        handshakeTimeout: 5000,
        headersTimeout: 10_000,
        requestTimeout: 30_000,
        connectionsCheckingInterval: 5000,
      };
      const server = createServer({ key, cert, minVersion: "TLSv1.3", ...limits }, handler);
      server.maxConnections = CONNECTIONS;
      server.on("tlsClientError", () => this.#count("tls"));
      server.on("drop", () => this.#count("too_many_connections"));
      await new Promise<void>((done, failed) => {
        server.once("error", failed);
        server.listen({ host: this.#address, port: wanted.port }, () => {
          server.off("error", failed);
          server.on("error", (error) => (this.#problem = messageOf(error)));
          done();
        });
      });
      if (generation !== this.#generation || this.#stopped) {
        server.close();
        return;
      }
      this.#server = server;
      this.#madeOf = madeOf;
      this.#problem = "";
      log.info({
        event: "control.listening",
        address: this.#address,
        port: wanted.port,
        reason: "TLS, token",
      });
    } catch (error) {
      if (generation !== this.#generation || this.#stopped) return;
      const problem = `${this.#address}:${wanted.port}: ${messageOf(error)}`;
      if (problem !== this.#problem) log.error({ event: "control.not_listening", reason: problem, node });
      this.#problem = problem;
      this.#timer?.cancel();
      this.#timer = clock.setTimer(addTime(clock.monotonic(), RETRY), () => void this.#open(generation));
    }
  }

  async #secrets(wanted: NonNullable<Site["control"]>) {
    const { site, node } = this.#context;
    const beside = (path: string): string => resolve(dirname(site), path);
    const reference = "file" in wanted.token ? { file: beside(wanted.token.file) } : wanted.token;
    const token = await readSecret(reference);
    if (token.length < TOKEN_LEAST)
      throw new OperationalError(
        "FILE_UNREADABLE",
        `the token has fewer than ${TOKEN_LEAST} characters; make one with: openssl rand -hex 24`,
      );
    const read = async (name: string): Promise<Buffer> => {
      const file = beside(`${wanted.keys}/${name}`);
      return await readFile(file).catch((error: unknown) => {
        throw new OperationalError("FILE_UNREADABLE", `${file} cannot be read: ${messageOf(error)}`);
      });
    };
    return { token, cert: await read(`${node}.crt`), key: await read(`${node}.key`) };
  }

  #count(reason: string): void {
    this.#refused.set(reason, (this.#refused.get(reason) ?? 0) + 1);
  }
}
