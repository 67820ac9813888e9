import { type Clock, type DurationMs, addTime, timeSince } from "../../base/time.ts";
import { messageOf } from "../../base/errors.ts";
import { formatDuration } from "../../base/units.ts";
import type { IpAddress } from "../../base/addresses.ts";
import type { CheckVerdict } from "../machine.ts";

/** Whom a check asks. */
export interface Target {
  readonly pool: string;
  readonly backend: string;
  readonly address: IpAddress;
  readonly port: number;
}

/** A verdict given from inside a check, and the words for what was being waited for. */
export interface Attempt {
  readonly settle: (outcome: CheckVerdict["outcome"], reason: string) => void;
  /** `connection`, `response`: what did not come where the deadline passes. */
  readonly awaiting: (what: string) => void;
  /** ` in 12 ms`, since the check began. */
  readonly took: () => string;
}

/**
 * One check under a hard deadline over all of it. `begin` starts it and returns what ends it; that is called
 * exactly once, whatever happens. Never rejects.
 */
export function attempt(
  clock: Clock,
  timeout: DurationMs,
  signal: AbortSignal,
  begin: (attempt: Attempt) => () => void,
): Promise<CheckVerdict> {
  return new Promise((resolve) => {
    const started = clock.monotonic();
    const deadline = addTime(started, timeout);
    let what = "answer";
    let end: (() => void) | undefined;
    let settled = false;
    const settle = (outcome: CheckVerdict["outcome"], reason: string): void => {
      if (settled) return;
      settled = true;
      timer.cancel();
      signal.removeEventListener("abort", given);
      end?.();
      resolve({ outcome, reason });
    };
    const given = (): void => settle("none", "the check was given up");
    const timer = clock.setTimer(deadline, () => {
      const late = timeSince(clock.monotonic(), deadline);
      // After a stall the timer fires before the sockets are read: the answer may long be here.
      if (late > Math.max(100, timeout / 2))
        settle("none", `this process stood still for ${Math.round(late)} ms`);
      else settle("bad", `no ${what} within ${formatDuration(timeout)}`);
    });
    if (signal.aborted) return given();
    signal.addEventListener("abort", given, { once: true });
    const took = (): string => {
      const span = timeSince(clock.monotonic(), started);
      return ` in ${span < 10 ? Math.round(span * 10) / 10 : Math.round(span)} ms`;
    };
    try {
      end = begin({ settle, awaiting: (text) => (what = text), took });
      if (settled) end();
    } catch (error) {
      settle("bad", describeError(error).reason);
    }
  });
}

/** Errors that are this host's own and say nothing about a backend. */
const ownErrors: Readonly<Record<string, string>> = {
  EMFILE: "this process has no descriptor left",
  ENFILE: "this host has no descriptor left",
  ENOMEM: "this host has no memory left",
  ENOBUFS: "this host has no buffer left",
  EADDRNOTAVAIL: "this host has no free port or no address of this family",
  EAGAIN: "this host cannot start another process",
};

const words: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  EPIPE: "connection closed",
  EHOSTUNREACH: "no route to the host",
  ENETUNREACH: "no route to the network",
  EHOSTDOWN: "the host is down",
  ETIMEDOUT: "no answer",
  EPERM: "refused by this host's packet filter",
  EACCES: "permission denied",
  ENOENT: "the program does not exist",
};

/** An error of a socket or a process as a verdict. */
export function describeError(error: unknown): CheckVerdict {
  const { code } = error as NodeJS.ErrnoException;
  const own = ownErrors[code ?? ""];
  if (own !== undefined) return { outcome: "none", reason: own };
  return { outcome: "bad", reason: words[code ?? ""] ?? firstLine(messageOf(error)) };
}

/** The first line of a foreign text, printable and short: it goes into logs and onto terminals. */
export function firstLine(text: string): string {
  const line = /[^\r\n]*/.exec(text.trimStart())?.[0] ?? "";
  const clean = line.replaceAll(/[^\x20-\x7e\u00a0-\uffff]/g, "?").trimEnd();
  return clean.length > 120 ? `${clean.slice(0, 117)}...` : clean;
}
