import { type Socket, createSocket } from "node:dgram";
import type { MonotonicMs } from "../../base/time.ts";
import { hostClock } from "../host-clock.ts";
import { Pending, type Record, type Stream, type StreamSpec, classify } from "./stream.ts";

/** Numbered datagrams from a few source ports. A second answer to one number counts as `duplicate`. */
export class UdpStream implements Stream {
  readonly #spec: StreamSpec;
  readonly #record: Record;
  readonly #pending: Pending;
  readonly #sockets: Socket[] = [];
  readonly #keys = new Map<number, object>();
  #sent = 0;

  constructor(spec: StreamSpec, record: Record) {
    this.#spec = spec;
    this.#record = record;
    this.#pending = new Pending(spec.deadline, record);
  }

  async open(): Promise<void> {
    const { address, port, connections } = this.#spec;
    for (let i = 0; i < connections; i++) {
      const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
      socket.on("message", (datagram) => this.#answer(datagram.toString("latin1")));
      socket.on("error", (error) =>
        this.#record(hostClock.monotonic(), hostClock.monotonic(), classify(error)),
      );
      await new Promise<void>((resolve) => socket.connect(port, address, resolve));
      this.#sockets.push(socket);
    }
  }

  fire(due: MonotonicMs): void {
    const key = {};
    const number = this.#sent++;
    this.#keys.set(number, key);
    this.#pending.add(key, due, () => this.#keys.delete(number));
    this.#sockets[number % this.#sockets.length]?.send(String(number), (error) => {
      if (error) this.#pending.settle(key, hostClock.monotonic(), classify(error));
    });
  }

  #answer(text: string): void {
    const now = hostClock.monotonic();
    const [name = "", digits = ""] = text.split(" ");
    const key = this.#keys.get(Number(digits));
    if (key === undefined) return;
    const fresh = this.#pending.settle(
      key,
      now,
      this.#spec.backends.includes(name) ? undefined : "wrong-server",
    );
    if (!fresh) this.#record(now, now, "duplicate");
  }

  sweep(now: MonotonicMs): void {
    this.#pending.sweep(now);
  }
  close(): void {
    for (const socket of this.#sockets) socket.close();
  }
}
