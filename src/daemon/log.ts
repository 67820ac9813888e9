import { type DestinationStream, pino } from "pino";
import type { Log } from "../base/log.ts";

/** What waits to be written where the reader of our output stands still; beyond it lines are lost. */
const QUEUE_BYTES = 1024 * 1024;

/**
 * JSON lines on standard output. Written behind the event loop's back: a log reader that stands still must
 * not hold up an advertisement.
 */
export function createLog(process_: string, node: string): Log {
  const destination = pino.destination({ fd: 1, sync: false, maxLength: QUEUE_BYTES });
  process.on("exit", () => {
    try {
      destination.flushSync();
    } catch {
      // The descriptor may be gone or not yet open; there is nobody left to tell.
    }
  });
  return jsonLog(process_, node, destination);
}

export function jsonLog(process_: string, node: string, destination: DestinationStream): Log {
  return pino(
    {
      level: process.env["NINES_LOG_LEVEL"] ?? "info",
      base: { process: process_, node, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination,
  );
}
