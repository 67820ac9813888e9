import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { normalPath } from "../routing/policy-path.ts";
import { RawClient, onCleanUp, sleep, startHttp } from "./harness.ts";
import { type Message, bytesOf, readText } from "./reading.ts";

/** A request as a backend's program understood it, to its last byte. */
export interface Seen {
  readonly method: string;
  readonly target: string;
  readonly host: string;
  readonly body: string;
}

/** Records what comes whole, and counts its answers where the client can see them. */
function recorder(seen: Seen[]): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => (body += chunk.toString("latin1")));
    request.on("end", () => {
      const { method = "", url = "", headers } = request;
      seen.push({ method, target: url, host: headers.host ?? "", body });
      response.setHeader("x-seen", "1");
      response.end("ok");
    });
  };
}

/** A backend on node:http. */
export async function startNodeBackend(): Promise<{ at: string; seen: Seen[] }> {
  const seen: Seen[] = [];
  return { at: await startHttp(recorder(seen)), seen };
}

export const hasNginx = (): boolean => spawnSync("nginx", ["-v"], { stdio: "ignore" }).status === 0;

/** nginx as the backend: what it understood it hands on, written anew, to a recorder. */
export async function startNginxBackend(): Promise<{ at: string; seen: Seen[] }> {
  const { at: behind, seen } = await startNodeBackend();
  const directory = mkdtempSync(join(tmpdir(), "nines-differential-"));
  const port = await freePort();
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `${kind}_temp_path ${join(directory, kind)};`)
    .join(" ");
  writeFileSync(
    join(directory, "nginx.conf"),
    `worker_processes 1; daemon off; pid ${directory}/pid; error_log ${directory}/error.log;
events { worker_connections 512; }
http { access_log off; ${temporary} keepalive_requests 100000; ignore_invalid_headers off; merge_slashes off;
  server { listen 127.0.0.1:${port};
    location / { proxy_pass http://${behind}; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; } } }
`,
  );
  const server = spawn("nginx", ["-e", join(directory, "error.log"), "-c", join(directory, "nginx.conf")], {
    stdio: "ignore",
  });
  onCleanUp(async () => {
    const gone = new Promise((resolve) => server.once("exit", resolve));
    server.kill("SIGTERM");
    await Promise.race([gone, sleep(5000)]);
    server.kill("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
  });
  for (let i = 0; i < 300 && !(await opens(port)); i++) await sleep(100);
  return { at: `127.0.0.1:${port}`, seen };
}

const opens = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Sends a stream, half closes, and gives all that comes back. */
export async function exchange(port: number, stream: string): Promise<string> {
  const client = new RawClient(port);
  client.socket.end(Buffer.from(bytesOf(stream)));
  const text = await client.end(30_000);
  client.socket.destroy();
  return text;
}

export const answered = (text: string): number => text.split(/x-seen: 1\r\n/i).length - 1;

/** Dot segments and needless escapes are resolved before a route is chosen, and go on as they were understood. */
function sentTarget(target: string): string {
  const mark = target.indexOf("?");
  return mark < 0 ? normalPath(target) : normalPath(target.slice(0, mark)) + target.slice(mark);
}

/** What the proxy says that it sends for a message, as our own strict reading found it. */
function believed(message: Message): Seen {
  const [method = "", target = "", host = ""] = message.start.split(" ");
  return { method, target: sentTarget(target), host, body: message.body };
}

// HTTP/1.0 without a host: the backend's address stands for it.
const same = (one: Seen, other: Seen): boolean =>
  one.method === other.method &&
  one.target === other.target &&
  (one.host === other.host || one.host === "") &&
  one.body === other.body;

/**
 * What is wrong with what the backend saw of one stream: each must be one of the messages that the proxy
 * believes it sent, in their order (a backend may refuse one itself), and as many as were answered.
 */
export function disagreement(stream: string, seen: readonly Seen[], answers: number): string | undefined {
  const sent = readText("request", stream)
    .messages.filter(({ complete }) => complete)
    .map(believed);
  if (seen.length !== answers) return `${seen.length} at the backend, ${answers} answered`;
  let next = 0;
  for (const one of seen) {
    const at = sent.findIndex((message, i) => i >= next && same(message, one));
    if (at < 0) return `the backend saw ${JSON.stringify(one)}, sent were ${JSON.stringify(sent)}`;
    next = at + 1;
  }
  return undefined;
}
