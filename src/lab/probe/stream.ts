/** What all probe streams share: who is asked, when, and how an answer is written down. */
import type { MonotonicMs } from "../../base/time.ts";
import type { EstablishedOutcome, StreamKind } from "../../contracts/drills.ts";

export interface StreamSpec {
  readonly stream: string;
  readonly kind: StreamKind;
  readonly address: string;
  readonly port: number;
  /** ms between two probes of this stream, all its connections together. */
  readonly interval: number;
  /** ms after it was due at which a probe without an answer has failed; apart from the interval. */
  readonly deadline: number;
  /** Established connections, or source ports of UDP. */
  readonly connections: number;
  /** Names that may answer; any other is `wrong-server`. */
  readonly backends: readonly string[];
  /** Kind `connect`: ask by HTTP. */
  readonly http?: boolean | undefined;
  /** The client that asks; default: the lab's first. */
  readonly host?: string | undefined;
  /** Own address to ask from: kind `resolver`. */
  readonly source?: string | undefined;
}

/** Called once for each probe. Without `error` it was answered at `done`. */
export type Record = (due: MonotonicMs, done: MonotonicMs, error?: string) => void;

export interface Stream {
  /** Opens what must be open before the first probe. */
  open(): Promise<void>;
  /** Sends the probe that is due; nothing where the server speaks. */
  fire(due: MonotonicMs): void;
  /** Gives up probes whose deadline has passed. */
  sweep(now: MonotonicMs): void;
  /** Before the end: asks every connection once more, so that `kept` counts none that only seems alive. */
  verify?(): Promise<void>;
  /** Connections opened and those still alive, for streams that keep some; times on the host's clock. */
  kept?(): EstablishedOutcome;
  close(): void;
}

const CLASSES: Readonly<{ [code: string]: string }> = {
  ECONNREFUSED: "refused",
  ECONNRESET: "reset",
  EPIPE: "reset",
  ETIMEDOUT: "timeout",
  EHOSTUNREACH: "unreachable",
  ENETUNREACH: "unreachable",
  EADDRNOTAVAIL: "no-local-port",
};

export function classify(error: Error): string {
  const code = (error as NodeJS.ErrnoException).code ?? "";
  return CLASSES[code] ?? (code === "" ? "error" : code.toLowerCase());
}

/** A probe on its way. The first of answer, error and deadline settles it; the rest is ignored. */
export class Pending {
  readonly #waiting = new Map<object, { due: MonotonicMs; giveUp: () => void }>();
  readonly #deadline: number;
  readonly #record: Record;
  constructor(deadline: number, record: Record) {
    this.#deadline = deadline;
    this.#record = record;
  }
  add(key: object, due: MonotonicMs, giveUp: () => void = () => {}): void {
    this.#waiting.set(key, { due, giveUp });
  }
  /** False when it was settled before. An answer behind the deadline is a timeout. */
  settle(key: object, now: MonotonicMs, error?: string): boolean {
    const probe = this.#waiting.get(key);
    if (probe === undefined) return false;
    this.#waiting.delete(key);
    this.#record(probe.due, now, error ?? (now - probe.due > this.#deadline ? "timeout" : undefined));
    return true;
  }
  sweep(now: MonotonicMs): void {
    // In the order of sending, so the first that is young enough ends the walk.
    for (const [key, { due, giveUp }] of this.#waiting) {
      if (now - due <= this.#deadline) return;
      this.settle(key, now, "timeout");
      giveUp();
    }
  }
}
