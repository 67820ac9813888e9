/**
 * A backend of the lab: one process that says its name over TCP, HTTP and UDP. The first line decides:
 *
 *     NAME             -> `app1`, then the end
 *     STREAM           -> `app1`, then every line comes back as it was sent (client first)
 *     PUSH <interval> <phase>  -> `app1`, then `<number> <due>` every interval from now + phase, unasked
 *                         (server first); due is CLOCK_MONOTONIC in ms, which client and server share in a lab
 *     GET ...          -> HTTP/1.1, keep-alive; the body is the name
 *
 * UDP: the datagram comes back behind the name.
 */
import { createSocket } from "node:dgram";
import { type Socket, createServer } from "node:net";
import { addTime, ms } from "../base/time.ts";
import { hostClock } from "./host-clock.ts";

interface Options {
  readonly name: string;
  readonly listens: readonly { readonly address: string; readonly port: number }[];
}

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

function serve(name: string, socket: Socket): void {
  let text = "";
  let mode: "unknown" | "stream" | "push" | "http" = "unknown";
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk: Buffer) => {
    if (mode === "stream") return void socket.write(chunk);
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
      text = text.slice(end + 4);
      socket.write(
        `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${name.length}\r\n\r\n${name}`,
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
for (const { address, port } of listens) {
  createServer((socket) => serve(name, socket))
    .on("error", failed)
    .listen({ host: address, port, backlog: 1024 }, ready);
  const udp = createSocket(address.includes(":") ? "udp6" : "udp4");
  udp.on("error", failed);
  udp.on("message", (datagram, from) =>
    udp.send(`${name} ${datagram.toString("latin1")}`, from.port, from.address),
  );
  udp.bind(port, address, ready);
}
