import { type Socket, connect } from "node:net";
import type { MonotonicMs } from "../../base/time.ts";
import { hostClock } from "../host-clock.ts";
import { Pending, type Record, type Stream, type StreamSpec, classify } from "./stream.ts";

/** A fresh TCP connection for each probe; good when a backend of the pool has said its name. */
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
    const { address, port, source, backends } = this.#spec;
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
    socket.on("connect", () => socket.write("NAME\n"));
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (text.endsWith("\n")) settle(backends.includes(text.trim()) ? undefined : "wrong-server");
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
