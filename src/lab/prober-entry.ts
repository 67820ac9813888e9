/**
 * The prober: its own process on a client of the lab. Open loop: probe i of a stream is due at
 * t0 + i * interval whatever became of the others, and its latency counts from when it was due. A closed
 * loop would turn two seconds of silence into a single sample.
 *
 * Orders come as JSON lines on stdin, results go out as JSON lines on stdout (see prober.ts).
 */
import { createInterface } from "node:readline";
import { type MonotonicMs, addTime, ms } from "../base/time.ts";
import { hostClock } from "./host-clock.ts";
import { ArrivingStream } from "./probe/arriving.ts";
import { ConnectStream } from "./probe/connect.ts";
import { EstablishedStream } from "./probe/established.ts";
import { HttpStream } from "./probe/http.ts";
import type { Stream, StreamSpec } from "./probe/stream.ts";
import { UdpStream } from "./probe/udp.ts";
import type { ProberOrder, ProberReport } from "./prober.ts";

const say = (report: ProberReport): void => void process.stdout.write(`${JSON.stringify(report)}\n`);

interface Running {
  readonly spec: StreamSpec;
  readonly stream: Stream;
  readonly rows: [number, number, string?][];
  due: MonotonicMs;
  stopped: boolean;
}

const makers = {
  connect: ConnectStream,
  resolver: ConnectStream,
  http: HttpStream,
  udp: UdpStream,
  "established-client-first": EstablishedStream,
  "established-server-first": EstablishedStream,
  arriving: ArrivingStream,
} as const;

let running: Running[] = [];
let lag = 0;
let ended = false;

function tick(): void {
  const now = hostClock.monotonic();
  for (const one of running) {
    if (!one.stopped)
      for (; one.due <= now; one.due = addTime(one.due, ms(one.spec.interval))) {
        lag = Math.max(lag, now - one.due);
        one.stream.fire(one.due);
      }
    one.stream.sweep(now);
  }
}

function flush(): void {
  for (const { spec, rows } of running)
    if (rows.length > 0) say({ type: "rows", stream: spec.stream, rows: rows.splice(0) });
}

async function begin(specs: readonly StreamSpec[]): Promise<void> {
  const made = specs.map((spec): Running => {
    const rows: [number, number, string?][] = [];
    const stream = new makers[spec.kind](spec, (due, done, error) =>
      rows.push(error === undefined ? [due, done] : [due, done, error]),
    );
    return { spec, stream, rows, due: hostClock.monotonic(), stopped: false };
  });
  await Promise.all(made.map(({ stream }) => stream.open()));
  const start = hostClock.monotonic();
  // Phases are spread, so that streams of one interval do not fire in the same millisecond.
  for (const [i, one] of made.entries()) one.due = addTime(start, ms((one.spec.interval * i) / made.length));
  lag = 0;
  ended = false;
  running = made;
  say({ type: "begun" });
}

/** No further probe; those under way get their deadline, then everything is told. */
async function end(): Promise<void> {
  for (const one of running) one.stopped = true;
  const longest = Math.max(0, ...running.map(({ spec }) => spec.deadline));
  await new Promise((resolve) => setTimeout(resolve, longest + 5));
  await Promise.all(running.flatMap(({ stream }) => stream.verify?.() ?? []));
  tick();
  flush();
  const kept = running.flatMap(({ spec, stream }) => {
    const counted = stream.kept?.();
    return counted === undefined ? [] : [[spec.stream, counted] as const];
  });
  say({ type: "ended", lag, kept: Object.fromEntries(kept) });
  for (const { stream } of running) stream.close();
  running = [];
}

setInterval(tick, 1);
setInterval(flush, 50);
createInterface({ input: process.stdin })
  .on("line", (line) => {
    const order = JSON.parse(line) as ProberOrder;
    if (order.type === "begin") void begin(order.streams);
    else if (!ended) {
      ended = true;
      void end();
    }
  })
  .on("close", () => process.exit(0));
say({ type: "ready" });
