import { type Socket, connect } from "node:net";
import type { MonotonicMs } from "../../base/time.ts";
import { hostClock } from "../host-clock.ts";
import { Pending, type Record, type Stream, type StreamSpec, classify } from "./stream.ts";

/** A whole response with a Content-Length; undefined while it is on its way. */
function readAnswer(text: string): { readonly status: number; readonly body: string } | undefined {
  const [, status, length] = /^HTTP\/1\.1 (\d{3}) [^]*?\r\ncontent-length: *(\d+)\r\n/i.exec(text) ?? [];
  const body = text.indexOf("\r\n\r\n") + 4;
  if (length === undefined || body < 4 || text.length < body + Number(length)) return undefined;
  return { status: Number(status), body: text.slice(body, body + Number(length)) };
}

/** A fresh connection for each probe, plain TCP or HTTP; good when a backend of the pool has said its name. */
export class ConnectStream implements Stream {
  readonly #spec: StreamSpec;
  readonly #pending: Pending;
  readonly #sockets = new Set<Socket>();

  constructor(spec: StreamSpec, record: Record) {
    this.#spec = spec;
    this.#pending = new Pending(spec.deadline, record);
  }
  async open(): Promise<void> {}

  fire(due: MonotonicMs): void {
    const { address, port, source, backends, http } = this.#spec;
    const socket = connect({ host: address, port, ...(source !== undefined && { localAddress: source }) });
    let text = "";
    const settle = (error?: string): void => {
      this.#pending.settle(socket, hostClock.monotonic(), error);
      this.#sockets.delete(socket);
      // A reset frees the port and the kernel's entry at once: no thousands of TIME_WAIT.
      socket.resetAndDestroy();
    };
    this.#sockets.add(socket);
    this.#pending.add(socket, due, settle);
    socket.setNoDelay(true);
    socket.on("error", (error) => settle(classify(error)));
    const question =
      http === true ? "GET /name HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n" : "NAME\n";
    socket.on("connect", () => socket.write(question));
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (http === true) {
        const answer = readAnswer(text);
        if (answer !== undefined && answer.status !== 200) settle(`http-${answer.status}`);
        else if (answer !== undefined) settle(backends.includes(answer.body) ? undefined : "wrong-server");
      } else if (text.endsWith("\n")) settle(backends.includes(text.trim()) ? undefined : "wrong-server");
    });
    socket.on("end", () => settle("truncated"));
  }
  sweep(now: MonotonicMs): void {
    this.#pending.sweep(now);
  }
  close(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
    this.#sockets.clear();
  }
}
