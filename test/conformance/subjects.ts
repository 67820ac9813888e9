// Who is asked: nines, and for comparison nginx and HAProxy, each in front of the same backend.
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, createServer as createTcpServer, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Running {
  /** HTTP/1.1, HTTP/2 with prior knowledge, HTTP/2 over TLS. */
  readonly plainPort: number;
  readonly port: number;
  readonly tlsPort: number;
  stop(): Promise<void>;
}

interface At {
  readonly plainPort: number;
  readonly port: number;
  readonly tlsPort: number;
  readonly backend: number;
  readonly directory: string;
}

/** The command that starts a subject. */
type Start = (at: At) => string[];

const nginx: Start = ({ plainPort, port, tlsPort, backend, directory }) => {
  writeFileSync(
    join(directory, "nginx.conf"),
    `worker_processes 1; daemon off; pid ${directory}/nginx.pid; error_log /dev/null; events {}
http {
  access_log off; client_body_temp_path ${directory}/body; proxy_temp_path ${directory}/proxy;
  server {
    listen 127.0.0.1:${plainPort}; listen 127.0.0.1:${port} http2; listen 127.0.0.1:${tlsPort} ssl http2;
    ssl_certificate ${directory}/cert.pem; ssl_certificate_key ${directory}/key.pem;
    location / { proxy_pass http://127.0.0.1:${backend}; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
`,
  );
  return ["nginx", "-e", "/dev/null", "-c", join(directory, "nginx.conf")];
};

const haproxy: Start = ({ plainPort, port, tlsPort, backend, directory }) => {
  writeFileSync(
    join(directory, "haproxy.cfg"),
    `defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
frontend web
  bind 127.0.0.1:${plainPort}
  bind 127.0.0.1:${port} proto h2
  bind 127.0.0.1:${tlsPort} ssl crt ${directory}/both.pem alpn h2,http/1.1
  default_backend apps
backend apps
  server s1 127.0.0.1:${backend}
`,
  );
  return ["haproxy", "-f", join(directory, "haproxy.cfg")];
};

const nines: Start = ({ plainPort, port, tlsPort, backend, directory }) => [
  process.execPath,
  new URL("serve.mjs", import.meta.url).pathname,
  String(plainPort),
  String(port),
  String(tlsPort),
  `127.0.0.1:${backend}`,
  directory,
];

export const SUBJECTS: Readonly<Record<string, Start>> = { nines, haproxy, nginx };

/** What a subject says of its version; undefined where it is not installed. */
export function subjectVersion(name: string): string | undefined {
  if (name === "nines") return `on Node ${process.versions.node}, nghttp2 ${process.versions.nghttp2}`;
  const { stdout, stderr, error } = spawnSync(name, ["-v"], { encoding: "utf8" });
  return error === undefined ? /\d+\.\d+\.\d+/.exec(stdout + stderr)?.[0] : undefined;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createTcpServer();
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

async function untilListening(port: number, child: ChildProcess): Promise<void> {
  for (let tries = 0; tries < 200 && child.exitCode === null; tries++) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1");
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`nothing listens on port ${port}`);
}

/** Starts a subject, a backend behind it and nothing else. */
export async function startSubject(name: string): Promise<Running> {
  const directory = mkdtempSync(join(tmpdir(), "nines-conformance-"));
  // What was sent is the answer; something to be fetched, where nothing was.
  const backend = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on("data", (piece: Buffer) => pieces.push(piece));
    request.once("end", () => {
      const body = Buffer.concat(pieces);
      response.setHeader("content-type", "text/plain").end(body.length > 0 ? body : "x".repeat(200));
    });
  });
  await new Promise<void>((resolve) => backend.listen(0, "127.0.0.1", resolve));
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const files = ["-keyout", `${directory}/key.pem`, "-out", `${directory}/cert.pem`];
  execFileSync("openssl", ["req", "-x509", ...key, ...files, "-subj", "/CN=localhost", "-days", "2"], {
    stdio: "ignore",
  });
  writeFileSync(
    `${directory}/both.pem`,
    execFileSync("cat", [`${directory}/key.pem`, `${directory}/cert.pem`]),
  );
  const [plainPort = 0, port = 0, tlsPort = 0] = await freePorts(3);
  const at = { plainPort, port, tlsPort, backend: (backend.address() as AddressInfo).port, directory };
  const [command = "", ...args] = SUBJECTS[name]?.(at) ?? [];
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"] });
  const stop = async (): Promise<void> => {
    const gone = new Promise<void>((resolve) => child.once("close", () => resolve()));
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGTERM");
      const late = setTimeout(() => child.kill("SIGKILL"), 3000);
      await gone;
      clearTimeout(late);
    }
    backend.closeAllConnections();
    backend.close();
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await untilListening(plainPort, child);
    await untilListening(port, child);
    await untilListening(tlsPort, child);
  } catch (error) {
    await stop();
    throw error;
  }
  return { plainPort, port, tlsPort, stop };
}
