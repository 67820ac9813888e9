/** Load in a namespace, asked over standard input: bulk transfers, and one connection after another. */
import { type Socket, connect } from "node:net";
import { createInterface } from "node:readline";

export type Ask =
  | { readonly op: "bulk"; readonly host: string; readonly port: number; readonly seconds: number }
  | { readonly op: "latency"; readonly host: string; readonly port: number; readonly count: number };

/** Bytes per second over four connections. */
async function bulk(host: string, port: number, seconds: number): Promise<number> {
  let bytes = 0;
  const buffer = Buffer.alloc(1 << 20);
  const sockets = Array.from({ length: 4 }, (): Socket => {
    const take = (count: number): boolean => {
      bytes += count;
      return true;
    };
    const socket = connect({ host, port, onread: { buffer, callback: take } });
    socket.on("error", () => undefined);
    socket.write("GET /bulk HTTP/1.0\r\n\r\n");
    return socket;
  });
  const begin = performance.now();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const rate = bytes / ((performance.now() - begin) / 1000);
  for (const socket of sockets) socket.destroy();
  return rate;
}

/** Connect, ask, first byte: milliseconds of each. */
async function latency(host: string, port: number, count: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const begin = performance.now();
    await new Promise<void>((resolve, reject) => {
      const socket = connect({ host, port, noDelay: true });
      socket.once("connect", () => socket.write("GET / HTTP/1.0\r\n\r\n"));
      socket.once("data", () => times.push(performance.now() - begin));
      socket.once("end", () => socket.destroy());
      socket.once("close", () => resolve());
      socket.once("error", reject);
    });
  }
  return times;
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const ask = JSON.parse(line) as Ask;
  const answer =
    ask.op === "bulk"
      ? bulk(ask.host, ask.port, ask.seconds)
      : latency(ask.host, ask.port, ask.count).then((times) => {
          const sorted = times.toSorted((a, b) => a - b);
          return { p50: sorted[sorted.length >> 1], p99: sorted[Math.floor(sorted.length * 0.99)] };
        });
  void answer.then((result) => process.stdout.write(`${JSON.stringify(result)}\n`));
});
