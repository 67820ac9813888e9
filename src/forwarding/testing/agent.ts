/** A server or a client in a namespace of a scenario: `agent server NAME PORT...` or `agent client`. */
import { createSocket } from "node:dgram";
import { type Socket, connect, createServer } from "node:net";
import { createInterface } from "node:readline";

const [role, name = "", ...ports] = process.argv.slice(2);

export interface Ask {
  readonly id: number;
  readonly op: "tcp" | "udp" | "open" | "say" | "alive";
  readonly host?: string;
  readonly port?: number;
  readonly count?: number;
  readonly localPort?: number;
}

const plain = (address: string | undefined): string => (address ?? "").replace("::ffff:", "");

if (role === "server") {
  for (const port of ports.map(Number)) {
    createServer((socket) => {
      socket.on("error", () => undefined);
      const reply = `${name} ${plain(socket.remoteAddress)} ${socket.localPort ?? 0}\n`;
      socket.on("data", () => socket.write(reply));
    }).listen(port);
    const udp = createSocket({ type: "udp6" });
    udp.on("message", (_data, from) =>
      udp.send(`${name} ${plain(from.address)} ${port}\n`, from.port, from.address),
    );
    udp.bind(port);
  }
} else {
  const streams: Socket[] = [];
  const answer = (id: number, result: unknown): void => {
    process.stdout.write(`${JSON.stringify({ id, result })}\n`);
  };
  createInterface({ input: process.stdin }).on("line", (line) => {
    const ask = JSON.parse(line) as Ask;
    void run(ask, streams).then((result) => answer(ask.id, result));
  });
}

async function run(ask: Ask, streams: Socket[]): Promise<unknown> {
  const { op, host = "", port = 0, count = 1, localPort } = ask;
  if (op === "tcp") {
    const replies: string[] = [];
    for (let i = 0; i < count; i++) replies.push(await once(host, port, localPort));
    return replies;
  }
  if (op === "udp") {
    const replies: string[] = [];
    for (let i = 0; i < count; i++) replies.push(await datagram(host, port, localPort));
    return replies;
  }
  if (op === "open") {
    for (let i = 0; i < count; i++) {
      const socket = connect({ host, port });
      socket.on("error", () => undefined);
      await new Promise((resolve) => {
        socket.once("connect", resolve);
        socket.once("close", resolve);
      });
      streams.push(socket);
    }
    return streams.length;
  }
  const replies = await Promise.all(streams.map((socket) => say(socket)));
  return op === "say" ? replies : replies.filter((one) => one.startsWith("b")).length;
}

function once(host: string, port: number, localPort: number | undefined): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, ...(localPort === undefined ? {} : { localPort }) });
    const done = (text: string): void => {
      // A reset, so that the port may be used again at once.
      socket.resetAndDestroy();
      resolve(text);
    };
    socket.setTimeout(1500, () => done("timeout"));
    socket.on("connect", () => socket.write("x"));
    socket.on("data", (data) => done(data.toString().trim()));
    socket.on("error", (error: NodeJS.ErrnoException) => done(error.code ?? "error"));
  });
}

function say(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    if (socket.destroyed) return resolve("closed");
    const timer = setTimeout(() => resolve("timeout"), 1500);
    const done = (text: string): void => {
      clearTimeout(timer);
      resolve(text);
    };
    socket.once("data", (data) => done(data.toString().trim()));
    socket.once("close", () => done("closed"));
    socket.write("x");
  });
}

function datagram(host: string, port: number, localPort: number | undefined): Promise<string> {
  return new Promise((resolve) => {
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    const done = (text: string): void => {
      clearTimeout(timer);
      socket.close();
      resolve(text);
    };
    const timer = setTimeout(() => done("timeout"), 1000);
    socket.on("message", (data) => done(data.toString().trim()));
    socket.on("error", (error: NodeJS.ErrnoException) => done(error.code ?? "error"));
    socket.bind(localPort ?? 0, () => {
      socket.connect(port, host, () => socket.send("x"));
    });
  });
}
