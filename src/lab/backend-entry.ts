/**
 * A backend of the lab: one process that says its name over TCP, HTTP and UDP. The first line decides:
 *
 *     NAME             -> `app1`, then the end
 *     STREAM           -> `app1`, then every line comes back as it was sent (client first)
 *     PUSH <interval> <phase>  -> `app1`, then `<number> <due>` every interval from now + phase, unasked
 *                         (server first); due is CLOCK_MONOTONIC in ms, which client and server share in a lab
 *     GET ...          -> HTTP/1.1, keep-alive; the body is the name
 *
 * UDP: the datagram comes back behind the name. What a pool's check asks is answered as the check expects it.
 */
import { createSocket } from "node:dgram";
import { type Socket, createServer } from "node:net";
import { addTime, ms } from "../base/time.ts";
import type { Check } from "../contracts/site.ts";
import { hostClock } from "./host-clock.ts";
import { answerTo, greeting, httpAnswer } from "./stand-in.ts";
import type { LabListen } from "./topology.ts";

interface Options {
  readonly name: string;
  readonly listens: readonly LabListen[];
}
/** After this, in ms, a client that has said nothing waits for the server to speak first. */
const SILENT = 30;

function push(socket: Socket, interval: number, phase: number): void {
  let due = addTime(hostClock.monotonic(), ms(phase));
  let number = 0;
  const tick = (): void => {
    for (const now = hostClock.monotonic(); due <= now; due = addTime(due, ms(interval)))
      socket.write(`${number++} ${due.toFixed(3)}\n`);
    timer = hostClock.setTimer(due, tick);
  };
  let timer = hostClock.setTimer(due, tick);
  socket.on("close", () => timer.cancel());
}

function serve(name: string, socket: Socket, check: Check | undefined): void {
  const first = greeting(check);
  if (first !== undefined)
    hostClock.setTimer(addTime(hostClock.monotonic(), ms(SILENT)), () => {
      if (text === "") socket.write(first);
    });
  let text = "";
  let mode: "unknown" | "stream" | "push" | "http" = "unknown";
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk: Buffer) => {
    if (mode === "stream") return void socket.write(chunk);
    const answer = answerTo(check, chunk);
    if (answer !== undefined) return void socket.write(answer);
    text += chunk.toString("latin1");
    if (mode === "unknown" && text.includes("\n")) {
      const line = text.slice(0, text.indexOf("\n"));
      const [word, interval, phase] = line.trim().split(" ");
      if (word === "NAME") return void socket.end(`${name}\n`);
      if (word === "STREAM" || word === "PUSH") {
        mode = word === "STREAM" ? "stream" : "push";
        socket.write(`${name}\n${text.slice(line.length + 1)}`);
        if (mode === "push") push(socket, Math.max(1, Number(interval) || 100), Number(phase) || 0);
        return undefined;
      }
      mode = "http";
    }
    if (mode !== "http") return undefined;
    for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
      const { status, body } = httpAnswer(check, text.split(" ", 2)[1] ?? "", name);
      text = text.slice(end + 4);
      socket.write(
        `HTTP/1.1 ${status} OK\r\nContent-Type: text/plain\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      );
    }
    if (text.length > 65_536) socket.destroy();
    return undefined;
  });
}

const { name, listens } = JSON.parse(process.argv[2] ?? "{}") as Options;
let missing = 2 * listens.length;
const ready = (): void => {
  if (--missing === 0) console.log("ready");
};
const failed = (error: Error): void => {
  console.error(error.message);
  process.exit(1);
};
for (const { address, port, check } of listens) {
  createServer((socket) => serve(name, socket, check))
    .on("error", failed)
    .listen({ host: address, port, backlog: 1024 }, ready);
  const udp = createSocket(address.includes(":") ? "udp6" : "udp4");
  udp.on("error", failed);
  udp.on("message", (datagram, from) =>
    udp.send(answerTo(check, datagram) ?? `${name} ${datagram.toString("latin1")}`, from.port, from.address),
  );
  udp.bind(port, address, ready);
}
