import { Agent, request } from "node:http";
import type { MonotonicMs } from "../../base/time.ts";
import { hostClock } from "../host-clock.ts";
import { Pending, type Record, type Stream, type StreamSpec, classify } from "./stream.ts";

/** HTTP over kept-alive connections, as a browser or an application's client would ask. */
export class HttpStream implements Stream {
  readonly #spec: StreamSpec;
  readonly #pending: Pending;
  readonly #agent: Agent;

  constructor(spec: StreamSpec, record: Record) {
    this.#spec = spec;
    this.#pending = new Pending(spec.deadline, record);
    this.#agent = new Agent({ keepAlive: true, maxFreeSockets: spec.connections });
  }
  async open(): Promise<void> {}

  fire(due: MonotonicMs): void {
    const { address, port, backends } = this.#spec;
    const asked = request({ host: address, port, path: "/name", agent: this.#agent });
    const settle = (error?: string): void => void this.#pending.settle(asked, hostClock.monotonic(), error);
    this.#pending.add(asked, due, () => asked.destroy());
    asked.on("error", (error) => settle(classify(error)));
    asked.on("response", (response) => {
      let body = "";
      response.on("data", (chunk: Buffer) => (body += chunk.toString("latin1")));
      response.on("error", (error) => settle(classify(error)));
      response.on("aborted", () => settle("truncated"));
      response.on("end", () => {
        if (response.statusCode !== 200) settle(`http-${response.statusCode}`);
        else settle(backends.includes(body) ? undefined : "wrong-server");
      });
    });
    asked.end();
  }
  sweep(now: MonotonicMs): void {
    this.#pending.sweep(now);
  }
  close(): void {
    this.#agent.destroy();
  }
}
