import { type Socket, connect } from "node:net";
import type { EstablishedOutcome, LostConnection } from "../../contracts/drills.ts";
import { type MonotonicMs, addTime, instant, ms } from "../../base/time.ts";
import { hostClock } from "../host-clock.ts";
import { type Record, type Stream, type StreamSpec, classify } from "./stream.ts";

interface Arrived {
  readonly socket: Socket;
  readonly due: MonotonicMs;
  readonly serverFirst: boolean;
  backend: string;
  /** The client's. */
  port: number;
  since: MonotonicMs;
  last: MonotonicMs;
  /** The line that must come next. */
  next: number;
  /** Lines sent, client first; while one is under way no other is sent. */
  sent: number;
  leaving: boolean;
}

/** ms between two lines of a connection. */
const LINE = 500;
/** ms without a line after which a connection is lost: beyond any retransmission that a failover brings. */
const SILENT = 8000;
/** ms that a handshake may take. */
const HANDSHAKE = 2000;
/** Lost connections that are told one by one. */
const MOST_TOLD = 100;

/**
 * Connections that come and go: one begins every `interval`, lives until `connections` of them are there, and ends
 * with a FIN; every other one is server-first. A probe is one connection, judged when it is over. Lost is one that was
 * established and then broke, or fell silent.
 */
export class ArrivingStream implements Stream {
  readonly #spec: StreamSpec;
  readonly #record: Record;
  readonly #live = new Set<Arrived>();
  readonly #lost: LostConnection[] = [];
  #turn = 0;
  #before = 0;
  #missed = 0;
  #closing = false;

  constructor(spec: StreamSpec, record: Record) {
    this.#spec = spec;
    this.#record = record;
  }
  async open(): Promise<void> {}

  fire(due: MonotonicMs): void {
    const { address, port } = this.#spec;
    const socket = connect({ host: address, port });
    const now = hostClock.monotonic();
    const one: Arrived = {
      socket,
      due,
      serverFirst: this.#turn++ % 2 === 1,
      backend: "",
      port: 0,
      since: instant(0),
      last: now,
      next: 0,
      sent: 0,
      leaving: false,
    };
    this.#live.add(one);
    let text = "";
    socket.setNoDelay(true);
    socket.on("connect", () => {
      one.since = one.last = hostClock.monotonic();
      one.port = socket.localPort ?? 0;
      this.#before++;
      socket.write(one.serverFirst ? `PUSH ${LINE} ${LINE}\n` : "STREAM\n");
    });
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      const lines = text.split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) this.#line(one, line);
    });
    socket.on("error", (error) => this.#over(one, classify(error)));
    socket.on("close", () => this.#over(one, one.leaving ? undefined : "closed"));
  }

  #line(one: Arrived, line: string): void {
    one.last = hostClock.monotonic();
    if (one.backend === "") one.backend = line;
    else if (Number(line.split(" ")[0]) === one.next) one.next++;
    else this.#over(one, "out-of-sequence");
  }

  #over(one: Arrived, error?: string): void {
    if (!this.#live.delete(one) || this.#closing) return;
    const now = hostClock.monotonic();
    this.#record(one.due, now, error);
    one.socket.destroy();
    if (error === undefined || one.since === 0) return;
    this.#missed++;
    if (this.#lost.length < MOST_TOLD)
      this.#lost.push({
        port: one.port,
        backend: one.backend,
        established: one.since,
        last: one.last,
        error,
      });
  }

  sweep(now: MonotonicMs): void {
    const { interval, connections } = this.#spec;
    for (const one of this.#live) {
      if (one.since === 0) {
        if (now - one.due > HANDSHAKE) this.#over(one, "timeout");
      } else if (now - one.last > SILENT) this.#over(one, "silent");
      else if (one.leaving) continue;
      else if (now - one.due > interval * connections && one.backend !== "") {
        one.leaving = true;
        one.socket.end();
      } else if (!one.serverFirst && one.sent === one.next && now >= addTime(one.last, ms(LINE)))
        one.socket.write(`${one.sent++}\n`);
    }
  }

  /** What still lives, and does not take its leave, says a line once more. */
  async verify(): Promise<void> {
    const asked = hostClock.monotonic();
    for (const one of this.#live)
      if (!one.serverFirst && !one.leaving && one.sent === one.next) one.socket.write(`${one.sent++}\n`);
    while ([...this.#live].some(({ last }) => last <= asked)) {
      this.sweep(hostClock.monotonic());
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  kept(): EstablishedOutcome {
    return {
      before: this.#before,
      kept: this.#before - this.#missed,
      ...(this.#lost.length > 0 && { lost: this.#lost }),
    };
  }

  close(): void {
    this.#closing = true;
    for (const { socket } of this.#live) socket.resetAndDestroy();
    this.#live.clear();
  }
}
