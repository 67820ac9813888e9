import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { type RequestListener, createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, type Server, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { ip } from "../../base/addresses.ts";
import { SystemClock } from "../../base/system-clock.ts";
import { checkSchema } from "../../config/schema/pools.ts";
import type { CheckVerdict } from "../machine.ts";
import { statusFits } from "./http.ts";
import { attempt, firstLine } from "./probe.ts";
import { runProbe } from "./run.ts";

const clock = new SystemClock();
const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await new Promise((done) => server.close(done));
});

async function listening(server: Server, host = "127.0.0.1"): Promise<number> {
  servers.push(server);
  await new Promise<void>((done) => server.listen(0, host, done));
  return (server.address() as AddressInfo).port;
}

function check(
  port: number,
  settings: object,
  options: { host?: string; signal?: AbortSignal } = {},
): Promise<CheckVerdict> {
  const target = { pool: "apps", backend: "app1", address: ip(options.host ?? "127.0.0.1"), port };
  const parsed = checkSchema.parse({ timeout: "5s", ...settings });
  return runProbe(parsed, target, clock, options.signal ?? new AbortController().signal);
}
/** A port where nobody listens. */
async function closedPort(): Promise<number> {
  const port = await listening(createTcpServer());
  await new Promise((done) => servers.pop()?.close(done));
  return port;
}
const web = (listener: RequestListener, host?: string) => listening(createServer(listener), host);

describe("TCP checks", { timeout: 20_000 }, () => {
  it.each(["127.0.0.1", "::1"])("are good where %s accepts", async (host) => {
    const port = await listening(
      createTcpServer((socket) => socket.resume()),
      host,
    );
    expect(await check(port, { tcp: true }, { host })).toMatchObject({
      outcome: "good",
      reason: expect.stringMatching(/^connected in [\d.]+ ms$/) as string,
    });
  });
  it("are bad where nobody listens", async () => {
    expect(await check(await closedPort(), { tcp: true })).toEqual({
      outcome: "bad",
      reason: "connection refused",
    });
  });
  it("can be given up", async () => {
    const given = new AbortController();
    const port = await web(() => {});
    const pending = check(port, { http: "/" }, { signal: given.signal });
    given.abort();
    expect(await pending).toEqual({ outcome: "none", reason: "the check was given up" });
  });
});

// A busy machine delays timers, and a check then says rightly that this process stood still: tried again.
const patient = { retry: 3, timeout: 20_000 };

describe("HTTP checks", patient, () => {
  it("ask for the path, with the address as Host, on a fresh connection each", async () => {
    const seen: string[] = [];
    const port = await web((request, response) => {
      seen.push(
        `${request.method} ${request.url} ${request.headers.host} ${request.headers.connection} ${request.headers["user-agent"]}`,
      );
      response.end("fine");
    });
    expect((await check(port, { http: "/healthz?x=1" })).reason).toMatch(/^HTTP 200 in [\d.]+ ms$/);
    await check(port, { http: "/", host: "shop.example" });
    expect(seen).toEqual([
      `GET /healthz?x=1 127.0.0.1:${port} close nines-health`,
      "GET / shop.example close nines-health",
    ]);
  });
  it("speak IPv6", async () => {
    const port = await web((request, response) => response.end(request.headers.host), "::1");
    expect(await check(port, { http: "/", body: `[::1]:${port}` }, { host: "::1" })).toMatchObject({
      outcome: "good",
    });
  });
  it.each([
    [200, "200-299", "good"],
    [503, "200-299", "bad"],
    [304, "200-299,304", "good"],
    [404, "200-299,404-410", "good"],
    [301, "200-299", "bad"],
  ])("judge status %i by %s as %s", async (status, ranges, outcome) => {
    const port = await web((_, response) => response.writeHead(status).end());
    const verdict = await check(port, { http: "/", status: ranges });
    expect([verdict.outcome, verdict.reason.startsWith(`HTTP ${status} in `)]).toEqual([outcome, true]);
  });
  it("look for a text in the body, over its pieces, in the first 64 KiB", async () => {
    const port = await web((request, response) => {
      const pad = Number(request.url?.slice(1));
      response.write("x".repeat(pad));
      response.write("rea");
      setTimeout(() => response.end("dy"), 5);
    });
    const body = "ready";
    expect((await check(port, { http: "/10", body })).outcome).toBe("good");
    expect((await check(port, { http: "/65000", body })).outcome).toBe("good");
    expect((await check(port, { http: "/65600", body })).reason).toMatch(
      /without the expected text in the first 64 KiB$/,
    );
    expect((await check(port, { http: "/0", body: "steady" })).reason).toMatch(
      /without the expected text in the body$/,
    );
  });
  it("keep their deadline over everything: a slow head, a body that trickles", async () => {
    const silent = await web(() => {});
    expect(await check(silent, { http: "/", timeout: "80ms" })).toEqual({
      outcome: "bad",
      reason: "no response within 80ms",
    });
    const trickle = await web((_, response) => {
      const timer = setInterval(() => response.write("."), 10);
      response.on("close", () => clearInterval(timer));
    });
    expect(await check(trickle, { http: "/", body: "ready", timeout: "120ms" })).toEqual({
      outcome: "bad",
      reason: "no end of the response within 120ms",
    });
  });
  it("say what came instead of an answer", async () => {
    const raw = (text: string) =>
      listening(
        createTcpServer((socket) => socket.on("error", () => {}).once("data", () => socket.end(text))),
      );
    expect((await check(await raw("SSH-2.0-OpenSSH\r\n"), { http: "/" })).reason).toBe(
      "the answer is not HTTP",
    );
    expect((await check(await raw(""), { http: "/" })).reason).toMatch(/^connection reset|socket hang up$/);
    const cut = await raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc");
    expect((await check(cut, { http: "/", body: "ready" })).reason).toMatch(
      /then the connection was closed in the body$/,
    );
    const endless = await listening(
      createTcpServer((socket) => {
        socket.on("error", () => {});
        socket.write(`HTTP/1.1 200 OK\r\nx: ${"y".repeat(100_000)}`);
      }),
    );
    expect((await check(endless, { http: "/" })).reason).toBe("the answer is not HTTP");
  });
  it("knows ranges of statuses", () => {
    expect(
      ["199", "200", "299", "300", "304"].map((status) => statusFits("200-299,304", Number(status))),
    ).toEqual([false, true, true, false, true]);
  });
});

const hasOpenssl = spawnSync("openssl", ["version"]).status === 0;

describe.skipIf(!hasOpenssl)("HTTPS checks", patient, () => {
  const directory = mkdtempSync(join(tmpdir(), "nines-tls-"));
  afterAll(() => rmSync(directory, { recursive: true }));
  const certificate = () => {
    const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")];
    const request = [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-days",
      "2",
    ];
    const name = ["-subj", "/CN=shop.example", "-addext", "subjectAltName=DNS:shop.example"];
    execFileSync("openssl", [...request, "-keyout", key, "-out", cert, ...name], { stdio: "ignore" });
    return { key: readFileSync(key), cert: readFileSync(cert) };
  };
  it("check the certificate unless told not to, and name the server", async () => {
    const names: (string | false | undefined)[] = [];
    const server = createTlsServer(certificate(), (request, response) => {
      names.push((request.socket as { servername?: string | false }).servername);
      response.end("fine");
    });
    server.on("tlsClientError", () => {});
    const port = await listening(server);
    expect((await check(port, { http: "/", tls: true })).reason).toMatch(/^certificate: self-signed/);
    expect((await check(port, { http: "/", tls: true, verify: false })).outcome).toBe("good");
    expect((await check(port, { http: "/", tls: true, verify: false, host: "a.example:8443" })).outcome).toBe(
      "good",
    );
    expect(
      (await check(port, { http: "/", tls: true, verify: false, host: "a.example", sni: "b.example" }))
        .outcome,
    ).toBe("good");
    expect(names).toEqual([false, "a.example", "b.example"]);
    const plain = await web((_, response) => response.end());
    expect((await check(plain, { http: "/", tls: true })).reason).toBe("the TLS handshake failed");
  });
});

describe("programs", patient, () => {
  const exec = (script: string, more: object = {}) =>
    check(8080, { exec: ["/bin/sh", "-c", script], ...more });
  it("are good when they exit with 0; what they print first is the reason", async () => {
    expect((await exec("echo all fine; echo more")).reason).toMatch(/^exit 0 in [\d.]+ ms: all fine$/);
    const bad = await exec("echo disk full >&2; exit 2");
    expect([bad.outcome, bad.reason.replace(/[\d.]+ ms/, "")]).toEqual(["bad", "exit 2 in : disk full"]);
    expect((await exec("kill -9 $$")).reason).toContain("killed by SIGKILL");
  });
  it("know whom they check, and nothing of this process's environment", async () => {
    process.env["NINES_TEST_SECRET"] = "hunter2";
    const seen = await exec(
      'echo "$NINES_POOL $NINES_BACKEND $NINES_ADDRESS $NINES_PORT ${NINES_TEST_SECRET-none}"',
    );
    delete process.env["NINES_TEST_SECRET"];
    expect(seen.reason).toMatch(/: apps app1 127.0.0.1 8080 none$/);
  });
  it("end at their deadline with all they have started", async () => {
    const marker = `86399.${process.pid}`;
    const verdict = await exec(`sleep ${marker} & sleep ${marker}`, { timeout: "150ms" });
    expect(verdict).toEqual({ outcome: "bad", reason: "no exit of the program within 150ms" });
    await expect.poll(() => spawnSync("pgrep", ["-f", `^sleep ${marker}`]).stdout.toString()).toBe("");
  });
  it("are judged by their exit, not by what they leave running", async () => {
    const verdict = await exec("sleep 2 & exit 0", { timeout: "1s" });
    expect(verdict.outcome).toBe("good");
  });
  it("that do not exist are bad", async () => {
    expect(await check(1, { exec: ["/no/such/program"] })).toEqual({
      outcome: "bad",
      reason: "the program does not exist",
    });
  });
});

describe("a deadline", () => {
  it("that comes late because this process stood still says nothing about the backend", async () => {
    const verdict = await attempt(clock, 50 as never, new AbortController().signal, () => {
      const until = performance.now() + 300;
      while (performance.now() < until);
      return () => {};
    });
    expect(verdict.outcome).toBe("none");
    expect(verdict.reason).toMatch(/^this process stood still for \d+ ms$/);
  });
  it("is kept out of logs' way: foreign texts are one printable line", () => {
    expect(firstLine("\n a\u001b[31mb\u0007\nsecond")).toBe("a?[31mb?");
    expect(firstLine("x".repeat(500))).toHaveLength(120);
  });
});
