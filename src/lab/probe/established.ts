import { type Socket, connect } from "node:net";
import { type MonotonicMs, instant } from "../../base/time.ts";
import type { EstablishedOutcome, LostConnection } from "../../contracts/drills.ts";
import { hostClock } from "../host-clock.ts";
import { Pending, type Record, type Stream, type StreamSpec, classify } from "./stream.ts";

interface Connection {
  readonly socket: Socket;
  backend?: string;
  alive: boolean;
  /** The number that the next line must carry; a gap or a repetition is `out-of-sequence`. */
  next: number;
  sent: number;
  /** Probes under way, by number. */
  readonly keys: Map<number, object>;
  /** Server first: when the next line is due. */
  due: MonotonicMs;
  /** Whether the probe that was settled last was answered in time; while verifying, whether any line came. */
  flows: boolean;
  /** The client's. */
  port: number;
  since: MonotonicMs;
  /** When its last line came, or when it ended, and how. */
  last: MonotonicMs;
  error?: string;
}

/** Beyond any retransmission that a failover of a second brings with it. */
const VERIFY_WITHIN = 5000;
/** Lost connections that are told one by one. */
const MOST_TOLD = 100;

/**
 * Connections that stay open and carry numbered lines: sent by the client and echoed (client first), or
 * pushed by the server while the client is silent (server first: after a takeover the first packet that
 * the new Active sees of such a flow comes from the backend).
 *
 * A connection that dies counts one bad probe and is then left out. Kept are those that in the end are
 * alive and carry a line once more: one that hangs until some distant time-out is as good as dead.
 */
export class EstablishedStream implements Stream {
  readonly #spec: StreamSpec;
  readonly #record: Record;
  readonly #pending: Pending;
  readonly #connections: Connection[] = [];
  #turn = 0;
  #opened = 0;
  #closing = false;
  #verifying = false;

  constructor(spec: StreamSpec, record: Record) {
    this.#spec = spec;
    this.#record = record;
    this.#pending = new Pending(spec.deadline, record);
  }

  async open(): Promise<void> {
    // One after the other: thousands take their time.
    const until = hostClock.monotonic() + 2000 + 10 * this.#spec.connections;
    while (this.#opened < this.#spec.connections && hostClock.monotonic() < until)
      if (await this.#connect()) this.#opened++;
  }

  #connect(): Promise<boolean> {
    const { address, port, kind, interval, connections } = this.#spec;
    // Phases spread the connections' lines over their period.
    const phase = interval * (1 + this.#opened);
    const socket = connect({ host: address, port });
    const one: Connection = {
      socket,
      alive: true,
      next: 0,
      sent: 0,
      keys: new Map(),
      due: instant(0),
      flows: true,
      port: 0,
      since: instant(0),
      last: instant(0),
    };
    let text = "";
    socket.setNoDelay(true);
    return new Promise((resolve) => {
      const timer = setTimeout(() => socket.destroy(new Error("timeout")), 500);
      const settled = (good: boolean): void => {
        clearTimeout(timer);
        resolve(good);
      };
      socket.on("connect", () => {
        one.port = socket.localPort ?? 0;
        one.since = one.last = hostClock.monotonic();
        socket.write(
          kind === "established-client-first" ? "STREAM\n" : `PUSH ${interval * connections} ${phase}\n`,
        );
      });
      socket.on("data", (chunk: Buffer) => {
        text += chunk.toString("latin1");
        const lines = text.split("\n");
        text = lines.pop() ?? "";
        for (const line of lines) {
          if (one.backend !== undefined) {
            this.#line(one, line);
            continue;
          }
          one.backend = line;
          // Phases spread the connections' lines over their period.
          one.due = instant(hostClock.monotonic() + interval * (1 + this.#opened));
          this.#connections.push(one);
          settled(true);
        }
      });
      socket.on("error", (error) => this.#died(one, classify(error)));
      socket.on("close", () => {
        this.#died(one, "closed");
        settled(false);
      });
    });
  }

  #died(one: Connection, error: string): void {
    if (!one.alive || this.#closing) return;
    one.alive = false;
    const now = hostClock.monotonic();
    one.last = now;
    one.error = error;
    if (one.backend !== undefined) this.#record(now, now, error);
    one.socket.destroy();
  }

  fire(due: MonotonicMs): void {
    if (this.#spec.kind === "established-server-first") return;
    for (let i = 0; i < this.#connections.length; i++) {
      const one = this.#connections[this.#turn++ % this.#connections.length];
      if (!one?.alive) continue;
      const key = {};
      one.keys.set(one.sent, key);
      this.#pending.add(key, due, () => (one.flows = false));
      one.socket.write(`${one.sent++}\n`);
      return;
    }
  }

  #line(one: Connection, line: string): void {
    const now = hostClock.monotonic();
    const [number, due] = line.split(" ").map(Number);
    if (number !== one.next) return this.#died(one, "out-of-sequence");
    one.next++;
    one.last = now;
    if (this.#verifying) one.flows = true;
    if (due === undefined) {
      const key = one.keys.get(number);
      one.keys.delete(number);
      if (key !== undefined && this.#pending.settle(key, now)) one.flows = true;
      return undefined;
    }
    // Server first: lines that were swept as late are recorded already.
    if (due >= one.due - 0.5 * this.#step) {
      one.flows = now - due <= this.#spec.deadline;
      this.#record(instant(due), now, one.flows ? undefined : "timeout");
      one.due = instant(due + this.#step);
    }
    return undefined;
  }

  get #step(): number {
    return this.#spec.interval * this.#spec.connections;
  }

  sweep(now: MonotonicMs): void {
    this.#pending.sweep(now);
    if (this.#spec.kind !== "established-server-first") return;
    for (const one of this.#connections)
      while (one.alive && now - one.due > this.#spec.deadline) {
        this.#record(one.due, now, "timeout");
        one.flows = false;
        one.due = instant(one.due + this.#step);
      }
  }

  /** A busy machine may be late with a line: what counts in the end is whether one still comes. */
  async verify(): Promise<void> {
    const serverFirst = this.#spec.kind === "established-server-first";
    const until = hostClock.monotonic() + VERIFY_WITHIN + (serverFirst ? this.#step : 0);
    this.#verifying = true;
    for (const one of this.#connections) {
      one.flows = false;
      if (one.alive && !serverFirst) one.socket.write(`${one.sent++}\n`);
    }
    const waits = (): boolean => this.#connections.some(({ alive, flows }) => alive && !flows);
    while (waits() && hostClock.monotonic() < until) await new Promise((resolve) => setTimeout(resolve, 10));
  }

  kept(): EstablishedOutcome {
    const lives = ({ alive, flows }: Connection): boolean => alive && flows;
    const lost = this.#connections
      .filter((one) => !lives(one))
      .slice(0, MOST_TOLD)
      .map(({ port, backend = "", since, last, error = "silent" }): LostConnection => ({
        port,
        backend,
        established: since,
        last,
        error,
      }));
    const kept = this.#connections.filter(lives).length;
    return { before: this.#opened, kept, ...(lost.length > 0 && { lost }) };
  }

  close(): void {
    this.#closing = true;
    for (const { socket } of this.#connections) socket.resetAndDestroy();
  }
}
