import { readFileSync } from "node:fs";
import { setPriority } from "node:os";
import { check, native } from "./native.ts";
import { OperationalError, messageOf } from "../base/errors.ts";

const SCHED = { OTHER: 0, RR: 2 } as const;

/**
 * Runs `start`, which spawns a process, with this thread under SCHED_RR, and sets the thread back. The
 * process is born with the policy, and with it all its threads, Node's own included: set later, it would
 * hold for one thread only. Where the kernel refuses, `start` runs as it is and `refused` is told why.
 */
export function realtime<T>(priority: number, start: () => T, refused?: (why: OperationalError) => void): T {
  return scheduled(SCHED.RR, priority, start, refused);
}

/** The opposite: what a real-time process spawns (a hook, a script) shall not be one. */
export function ordinary<T>(start: () => T): T {
  return scheduled(SCHED.OTHER, 0, start);
}

function scheduled<T>(
  policy: number,
  priority: number,
  start: () => T,
  refused?: (why: OperationalError) => void,
): T {
  let before: number;
  try {
    before = check(native().schedGet(), "sched_getscheduler");
    check(native().schedSet(policy, priority), `real-time priority ${priority} (CAP_SYS_NICE)`);
  } catch (error) {
    if (!(error instanceof OperationalError)) throw error;
    refused?.(error);
    return start();
  }
  try {
    return start();
  } finally {
    native().schedSet(before >> 8, before & 255);
  }
}

/**
 * This thread comes before all ordinary ones that want the processor (`nice`, from -20 on), without keeping them from it
 * as a real-time one would. Answers why it could not.
 */
export function preferThread(nice: number): OperationalError | undefined {
  try {
    setPriority(nice);
    return undefined;
  } catch (error) {
    const message = `priority ${nice} (CAP_SYS_NICE): ${messageOf(error)}`;
    return new OperationalError("PERMISSION", message, { cause: error });
  }
}

/** This thread's real-time priority; 0 for an ordinary one. */
export function realtimePriority(): number {
  const now = check(native().schedGet(), "sched_getscheduler");
  return now >> 8 === SCHED.RR ? now & 255 : 0;
}

/**
 * Keeps the program's code in memory: a page that must be read from disk first is late. Only what was used is
 * held, and what will be. Anonymous memory cannot be: V8 gives it back by a call that fails on locked memory, and
 * then aborts; the unit file's MemorySwapMax=0 keeps that from being swapped. Answers why it could not (no
 * CAP_IPC_LOCK and a small RLIMIT_MEMLOCK).
 */
export function lockProgram(): OperationalError | undefined {
  // 55d0c8a00000-55d0c8b00000 r-xp 00000000 fd:00 1234   /usr/bin/node
  const mapping = /^([0-9a-f]+)-([0-9a-f]+) r-xp \S+ \S+ [1-9]\d* +\//;
  try {
    for (const line of readFileSync("/proc/self/maps", "utf8").split("\n")) {
      const match = mapping.exec(line);
      if (match === null) continue;
      const start = Number.parseInt(match[1] ?? "", 16);
      const length = Number.parseInt(match[2] ?? "", 16) - start;
      check(native().lockRange(start, length), "mlock2 (CAP_IPC_LOCK)");
    }
    return undefined;
  } catch (error) {
    if (error instanceof OperationalError) return error;
    throw error;
  }
}
