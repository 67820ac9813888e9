// Who is measured. All configured alike: request id, X-Forwarded-For, -Proto and -Host, an access log to a file,
// metrics, kept connections on both sides, /ws to the echo backend, the rest to nginx.
import type { ChildProcess } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { PROXY_CORE, onCore } from "./process.ts";

export const BACKEND = 19_000;
export const ECHO = 19_100;

export interface Subject {
  readonly name: string;
  /** What must be installed. */
  readonly tool: string;
  readonly port: number;
  readonly tlsPort: number;
  start(directory: string): ChildProcess;
}

const write = (directory: string, name: string, text: string): string => {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
};

/** A proxy that is a program of Node's: a file beside this one. */
const ofNode = (name: string, file: string, port: number): Subject => ({
  name,
  tool: "node",
  port,
  tlsPort: port + 1,
  start: (directory) => {
    const program = new URL(file, import.meta.url).pathname;
    return onCore(PROXY_CORE, process.execPath, [...process.execArgv, program, String(port), directory]);
  },
});

const haproxy = (directory: string): string => `global
  nbthread 1
  maxconn 9000
  log stdout format raw local0
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  log global
  option httplog
  option forwardfor
  unique-id-format %{+X}o%ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
frontend metrics
  bind 127.0.0.1:19019
  http-request use-service prometheus-exporter if { path /metrics }
frontend web
  bind 127.0.0.1:19010 backlog 4096
  bind 127.0.0.1:19011 backlog 4096 ssl crt ${directory}/both.pem alpn h2,http/1.1
  http-request set-header X-Forwarded-Proto http if !{ ssl_fc }
  http-request set-header X-Forwarded-Proto https if { ssl_fc }
  http-request set-header X-Forwarded-Host %[req.hdr(Host)]
  use_backend echo if { path /ws }
  default_backend apps
backend apps
  server a 127.0.0.1:${BACKEND}
backend echo
  server a 127.0.0.1:${ECHO}
`;

const nginx = (directory: string): string => `worker_processes 1; daemon off; pid ${directory}/nginx.pid;
error_log /dev/null; events { worker_connections 18000; }
http {
  access_log ${directory}/nginx.log combined buffer=64k flush=1s;
  keepalive_requests 1000000000; client_max_body_size 64m; client_body_temp_path ${directory}/body;
  proxy_temp_path ${directory}/proxy; ssl_session_cache shared:tls:10m;
  upstream apps { server 127.0.0.1:${BACKEND}; keepalive 128; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:19020 backlog=4096;
    listen 127.0.0.1:19021 backlog=4096 ssl http2;
    ssl_certificate ${directory}/cert.pem; ssl_certificate_key ${directory}/key.pem;
    proxy_http_version 1.1; proxy_request_buffering off;
    proxy_set_header Host $http_host; proxy_set_header X-Request-Id $request_id;
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    location / { proxy_pass http://apps; proxy_set_header Connection ""; }
    location = /ws { proxy_pass http://127.0.0.1:${ECHO}; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade; proxy_set_header Host $http_host; proxy_read_timeout 1h; }
  }
  server { listen 127.0.0.1:19029; location / { stub_status; } }
}
`;

const caddy = (directory: string): string => `{
  admin off
  auto_https off
  servers {
    metrics
  }
}
(both) {
  log {
    output file ${directory}/caddy.log
  }
  reverse_proxy /ws 127.0.0.1:${ECHO}
  reverse_proxy 127.0.0.1:${BACKEND} {
    header_up X-Request-Id {http.request.uuid}
  }
}
http://:19030 {
  bind 127.0.0.1
  import both
}
https://:19031 {
  bind 127.0.0.1
  tls ${directory}/cert.pem ${directory}/key.pem
  import both
}
`;

export const SUBJECTS: readonly Subject[] = [
  ofNode("nines", "be-nines.ts", 19_001),
  {
    name: "haproxy",
    tool: "haproxy",
    port: 19_010,
    tlsPort: 19_011,
    start: (directory) =>
      onCore(
        PROXY_CORE,
        "haproxy",
        ["-f", write(directory, "haproxy.cfg", haproxy(directory))],
        join(directory, "haproxy.log"),
      ),
  },
  {
    name: "nginx",
    tool: "nginx",
    port: 19_020,
    tlsPort: 19_021,
    start: (directory) =>
      onCore(PROXY_CORE, "nginx", ["-c", write(directory, "nginx.conf", nginx(directory))]),
  },
  {
    name: "caddy",
    tool: "caddy",
    port: 19_030,
    tlsPort: 19_031,
    start: (directory) => {
      const config = write(directory, "Caddyfile", caddy(directory));
      const run = ["GOMAXPROCS=1", `HOME=${directory}`, "caddy", "run", "--adapter", "caddyfile"];
      return onCore(PROXY_CORE, "env", [...run, "--config", config]);
    },
  },
  ofNode("node-undici", "be-undici.ts", 19_040),
  ofNode("http-proxy-3", "be-http-proxy.ts", 19_050),
];

/** What answers behind the proxies: nginx for HTTP. */
export const backendConfig = (
  directory: string,
): string => `worker_processes 1; daemon off; pid ${directory}/backend.pid;
error_log /dev/null; user root;
events { worker_connections 18000; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 120s; client_max_body_size 64m;
  client_body_temp_path ${directory}/backend-body;
  server {
    listen 127.0.0.1:${BACKEND} backlog=4096;
    location = / { return 200 "hello world!\\n"; }
    location = /upload { return 200 "thank you\\n"; }
    location / { root ${directory}/files; }
  }
}
`;
