/**
 * The flows process as the virtual routers see it: what it said last, and the flushes that it was asked for.
 * It may be dead, hung or starting: every question has a deadline here, whatever it does.
 */
import { type Clock, type DurationMs, type MonotonicMs, addTime, seconds, timeSince } from "../base/time.ts";
import type { FlowsReport, FlowsToRedundancy, FlushRequest } from "../contracts/flows.ts";
import type { FlowsState } from "./group/machine-state.ts";

/** It reports once a second. */
const SILENT = seconds(3);

type Send = (request: FlushRequest) => boolean;
type Answer = (ok: boolean, reason: string) => void;

export class FlowsLink {
  readonly #clock: Clock;
  readonly #changed: (flows: FlowsState | undefined) => void;
  #send: Send | undefined;
  #report: FlowsReport | undefined;
  #heardAt: MonotonicMs;
  #told = "";
  #nextId = 1;
  readonly #waiting = new Map<number, Answer>();

  constructor(clock: Clock, changed: (flows: FlowsState | undefined) => void) {
    this.#clock = clock;
    this.#changed = changed;
    this.#heardAt = clock.monotonic();
  }
  get report(): FlowsReport | undefined {
    return this.#report;
  }
  get state(): FlowsState | undefined {
    const peers = this.#report?.peers;
    if (peers === undefined) return undefined;
    const connected = (all: boolean): string[] =>
      peers.filter((peer) => peer.connected && peer.receivedAll === all).map(({ node }) => node);
    return { synced: connected(true), arriving: connected(false) };
  }

  /** `send` is kept for requests until the link that it belongs to is `lost`. */
  receive(message: FlowsToRedundancy, send: Send): void {
    this.#send = send;
    this.#heardAt = this.#clock.monotonic();
    if (message.type === "flows") {
      this.#report = message.report;
      this.#tell();
      return;
    }
    this.#waiting.get(message.id)?.(message.ok, message.reason);
  }
  lost(send: Send): void {
    if (this.#send === send) this.#forget("its link ended");
  }
  /** Called now and then. */
  look(): void {
    if (this.#send !== undefined && timeSince(this.#clock.monotonic(), this.#heardAt) > SILENT)
      this.#forget(`it has said nothing for ${SILENT} ms`);
  }

  /** Calls back exactly once, at the latest after `within`. */
  flush(to: string, within: DurationMs, answer: Answer): void {
    const id = this.#nextId++;
    const timer = this.#clock.setTimer(addTime(this.#clock.monotonic(), within), () =>
      settle(false, `no answer from the flows process within ${within} ms`),
    );
    const settle: Answer = (ok, reason) => {
      if (!this.#waiting.delete(id)) return;
      timer.cancel();
      answer(ok, reason);
    };
    this.#waiting.set(id, settle);
    if (this.#send?.({ type: "flush", id, to, within }) !== true)
      settle(false, "the flows process is not there");
  }
  close(): void {
    this.#forget("the end");
  }

  #forget(reason: string): void {
    this.#send = undefined;
    this.#report = undefined;
    for (const settle of this.#waiting.values()) settle(false, `the flows process: ${reason}`);
    this.#tell();
  }
  #tell(): void {
    const { state } = this;
    const now = JSON.stringify(state) ?? "";
    if (now === this.#told) return;
    this.#told = now;
    this.#changed(state);
  }
}
