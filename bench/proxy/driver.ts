// Load that wrk and h2load cannot make, run on their core: `driver.ts MODE PORT SECONDS-OR-COUNT`, result as JSON
// on the standard output. Modes: echo (the WebSocket backend), tls-new, tls-resumed, websocket, idle, idle-websocket.
import { createServer, connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

const [mode = "", portText = "", amountText = ""] = process.argv.slice(2);
const port = Number(portText);
const amount = Number(amountText);
const host = "127.0.0.1";
const GET = "GET / HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\n";
const UPGRADE =
  "GET /ws HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
const SWITCHED =
  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
  "Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n";
/** A masked text frame of 64 bytes. */
const FRAME = Buffer.concat([Buffer.from([0x81, 0x80 | 64, 1, 2, 3, 4]), Buffer.alloc(64, "m")]);

/** Answers the upgrade and sends back what comes: proxies do not look into frames. */
function echo(): void {
  createServer({ noDelay: true }, (socket) => {
    let head = "";
    const onHead = (chunk: Buffer): void => {
      head += chunk.toString("latin1");
      const end = head.indexOf("\r\n\r\n");
      if (end < 0) return;
      socket.off("data", onHead);
      socket.write(SWITCHED + head.slice(end + 4), "latin1");
      socket.on("data", (bytes: Buffer) => socket.write(bytes));
    };
    socket.on("data", onHead);
    socket.on("error", () => socket.destroy());
  }).listen(port, host, 4096);
}

const times: number[] = [];
let ended = false;

function report(extra: Record<string, number> = {}): void {
  ended = true;
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.floor(times.length * share)] ?? 0;
  console.log(JSON.stringify({ requests: times.length, p50: at(0.5), p99: at(0.99), ...extra }));
  process.exit(0);
}

/** A TLS connection for each request. */
function handshakes(resume: boolean): void {
  let session: Buffer | undefined;
  let resumed = 0;
  const one = (): void => {
    if (ended) return;
    const began = performance.now();
    const options = { port, host, rejectUnauthorized: false, servername: "bench" };
    const socket = connectTls(resume && session !== undefined ? { ...options, session } : options);
    socket.once("secureConnect", () => {
      if (socket.isSessionReused()) resumed++;
      socket.write(`${GET}Connection: close\r\n\r\n`);
    });
    socket.on("session", (fresh) => (session = fresh));
    socket.on("error", () => socket.destroy());
    let answer = "";
    socket.on("data", (chunk: Buffer) => (answer += chunk.toString("latin1")));
    socket.once("close", (failed) => {
      if (!failed && answer.includes("hello")) times.push(performance.now() - began);
      one();
    });
  };
  for (let i = 0; i < 8; i++) one();
  setTimeout(() => report({ resumed }), amount * 1000);
}

/** Opens a connection, sends a head and waits for the end of the answer's head. */
const open = (head: string): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect({ port, host, noDelay: true }, () => socket.write(head));
    let text = "";
    const onHead = (chunk: Buffer): void => {
      text += chunk.toString("latin1");
      if (!text.includes("\r\n\r\n")) return;
      if (!text.startsWith(head === UPGRADE ? "HTTP/1.1 101" : "HTTP/1.1 200")) reject(new Error(text));
      socket.off("data", onHead);
      socket.resume();
      resolve(socket);
    };
    socket.on("data", onHead);
    socket.on("error", reject);
  });

async function openMany(head: string, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  for (let i = 0; i < count; i += 50) {
    sockets.push(...(await Promise.all(Array.from({ length: Math.min(50, count - i) }, () => open(head)))));
  }
  return sockets;
}

/** 64 connections, each with one message under way. */
async function websocket(): Promise<void> {
  for (const socket of await openMany(UPGRADE, 64)) {
    let began = performance.now();
    let left = FRAME.length;
    socket.on("data", (bytes: Buffer) => {
      left -= bytes.length;
      if (left > 0 || ended) return;
      times.push(performance.now() - began);
      began = performance.now();
      left = FRAME.length;
      socket.write(FRAME);
    });
    socket.write(FRAME);
  }
  setTimeout(report, amount * 1000);
}

/** Holds connections open until it is killed. */
async function idle(head: string): Promise<void> {
  await openMany(head, amount);
  console.log("ready");
  setInterval(() => undefined, 60_000);
}

switch (mode) {
  case "echo":
    echo();
    break;
  case "tls-new":
  case "tls-resumed":
    handshakes(mode === "tls-resumed");
    break;
  case "websocket":
    await websocket();
    break;
  case "idle":
    await idle(`${GET}\r\n`);
    break;
  case "idle-websocket":
    await idle(UPGRADE);
    break;
  default:
    throw new Error(`no mode "${mode}"`);
}
