/**
 * A process that asks and answers: backends on `serve`, and a steady load on `at` with open WebSockets. Run with
 * `node --import tsx`, its options as JSON in the first argument. Prints `ready`; on the end of its input it stops
 * and prints what came of it.
 */
import { Agent, type IncomingMessage, type ServerResponse, createServer, request } from "node:http";
import { type Socket, connect } from "node:net";

export interface LoadOptions {
  /** `address:port` of the backends to be. */
  readonly serve: readonly string[];
  readonly at: string;
  /** Requests a second; every fifth on a connection of its own. */
  readonly rate: number;
  readonly webSockets: number;
  /**
   * Of four requests one is answered late (/slow), one begins at once and goes on for a while (/stream), one is a POST,
   * which may not be sent twice.
   */
  readonly mixed?: boolean;
}

export interface LoadResult {
  readonly requests: number;
  /**
   * By what went wrong: a system's code, `http-502`, `late` and so on; behind `post`, where it was one, and `begun`, where
   * a part of the response had come.
   */
  readonly errors: Readonly<Record<string, number>>;
  readonly webSockets: { readonly opened: number; readonly lost: number; readonly messages: number };
  /** ms. */
  readonly slowest: number;
}

const DEADLINE = 10_000;
const MIX = [
  ["GET", "/"],
  ["GET", "/slow"],
  ["GET", "/stream"],
  ["POST", "/slow"],
] as const;
const split = (at: string): { host: string; port: number } => {
  const colon = at.lastIndexOf(":");
  return { host: at.slice(0, colon), port: Number(at.slice(colon + 1)) };
};

function stream(response: ServerResponse, pieces: number): void {
  if (pieces === 0) return void response.end();
  response.write("piece\n".repeat(100));
  setTimeout(() => stream(response, pieces - 1), 20);
}

function serve(at: string): Promise<void> {
  const server = createServer(({ url }, response) => {
    if (url === "/slow") setTimeout(() => response.end("ok"), 50);
    else if (url === "/stream") stream(response, 10);
    else response.end("ok");
  });
  server.keepAliveTimeout = 60_000;
  server.on("upgrade", (_: IncomingMessage, socket: Socket) => {
    socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    socket.on("data", (bytes: Buffer) => socket.write(bytes));
    socket.on("error", () => socket.destroy());
    socket.on("end", () => socket.end());
  });
  return new Promise((resolve) => server.listen({ ...split(at), backlog: 1024 }, resolve));
}

const options = JSON.parse(process.argv[2] ?? "{}") as LoadOptions;
const { host, port } = split(options.at);
const errors: Record<string, number> = {};
const kept = new Agent({ keepAlive: true, maxSockets: 64 });
const webSockets = { opened: 0, lost: 0, messages: 0 };
let requests = 0;
let slowest = 0;
const open = new Set<object>();
let ended = false;

const wrong = (what: string): void => {
  errors[what] = (errors[what] ?? 0) + 1;
};
const now = (): number => Number(process.hrtime.bigint() / 1000n) / 1000;

function ask(number: number): void {
  const begun = now();
  requests++;
  const one = {};
  open.add(one);
  let settled = false;
  let answered = false;
  const settle = (error?: string): void => {
    if (settled) return;
    settled = true;
    open.delete(one);
    if (error !== undefined) wrong(`${method === "POST" ? "post " : ""}${answered ? "begun " : ""}${error}`);
    slowest = Math.max(slowest, now() - begun);
  };
  const [method = "GET", path = "/"] = options.mixed === true ? (MIX[number % MIX.length] ?? []) : [];
  const agent = number % 5 === 0 ? false : kept;
  const asked = request({ host, port, method, path, agent, timeout: DEADLINE });
  asked.on("timeout", () => {
    settle("late");
    asked.destroy();
  });
  asked.on("error", (error: NodeJS.ErrnoException & { readonly reusedSocket?: boolean }) => {
    // A kept connection may be closed just when a request is put on it: clients ask again, and so do we.
    if (asked.reusedSocket && error.code === "ECONNRESET" && !settled) {
      settled = true;
      open.delete(one);
      requests--;
      ask(number);
    } else settle(error.code ?? error.message);
  });
  asked.on("response", (response) => {
    answered = true;
    response.on("error", () => settle("truncated"));
    response.on("end", () => {
      // Whole, and a refusal: nothing of the backend's had begun.
      if (response.statusCode !== 200) answered = false;
      settle(response.statusCode === 200 ? undefined : `http-${response.statusCode}`);
    });
    response.resume();
  });
  asked.end();
}

/** Raw bytes are echoed like frames: the proxy does not look into a tunnel. */
function openWebSocket(): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    let up = false;
    const lost = (): void => {
      if (up && !ended) webSockets.lost++;
      up = false;
      resolve();
    };
    socket.on("error", lost);
    socket.on("close", lost);
    socket.on("data", () => {
      if (up) webSockets.messages++;
      else {
        up = true;
        webSockets.opened++;
        resolve();
        const beat = setInterval(() => {
          if (up && !ended) socket.write("ping");
          else clearInterval(beat);
        }, 500);
      }
    });
    socket.write(
      "GET /socket HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
  });
}

async function end(timer: NodeJS.Timeout): Promise<void> {
  clearInterval(timer);
  for (let i = 0; open.size > 0 && i < 120; i++) await new Promise((resolve) => setTimeout(resolve, 100));
  ended = true;
  const result: LoadResult = { requests, errors, webSockets, slowest: Math.round(slowest) };
  console.log(JSON.stringify(result));
  process.exit(0);
}

await Promise.all(options.serve.map(serve));
console.log("serving");
process.stdin.once("data", () => {
  const start = async (): Promise<void> => {
    for (let i = 0; i < options.webSockets; i += 10)
      await Promise.all(Array.from({ length: Math.min(10, options.webSockets - i) }, openWebSocket));
    const begun = now();
    let sent = 0;
    const timer = setInterval(() => {
      for (const due = ((now() - begun) * options.rate) / 1000; sent < due; sent++) ask(sent);
    }, 5);
    process.stdin.once("end", () => void end(timer));
    console.log("loading");
  };
  void start();
});
